/* Workers that run one function together, the caller among them.
 *
 *     struct pool *p;
 *     if (pool_open(&p, n_threads, &e)) ...
 *     pool_run(p, fn, arg);      fn(arg, 0 .. n-1) on every worker; returns when all are done
 *     pool_close(p);
 *
 * Inside fn, pool_barrier(p) waits for all workers. Workers spin for some 20 us between runs (a
 * decoding step has hundreds), then sleep. pool_run is called by one thread at a time.
 * Workers take no signals: those meant for the process reach the threads that expect them.
 */
#ifndef POOL_H
#define POOL_H

#include "err.h"

struct pool;

typedef void pool_fn(void *arg, int worker);

ERR_DOOR int pool_open(struct pool **out, int n_threads, struct err *e);
void pool_close(struct pool *p);
int pool_size(const struct pool *p);
void pool_run(struct pool *p, pool_fn *fn, void *arg);
void pool_barrier(struct pool *p);

#endif
