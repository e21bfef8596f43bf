/* Threads, and monitors to share data between them: POSIX threads, with signals kept away.
 *
 *     struct thread *t;
 *     if (thread_open(&t, fn, arg, &e)) ...     fn(arg) runs beside the caller, and takes no signals
 *     thread_close(t);                          waits until fn has returned
 *
 *     struct thread_monitor m;                  a lock, and a condition for changes of what it guards
 *     thread_monitor_init(&m);
 *     thread_hold(&m); while (!ready) thread_wait(&m, -1); thread_release(&m);
 *     thread_hold(&m); ready = true; thread_wake(&m); thread_release(&m);
 *     thread_monitor_free(&m);
 *
 * A monitor is not recursive. Its functions cannot fail.
 */
#ifndef THREAD_H
#define THREAD_H

#include "err.h"
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct thread;
typedef void thread_fn(void *arg);

ERR_DOOR int thread_open(struct thread **out, thread_fn *fn, void *arg, struct err *e);
void thread_close(struct thread *t);

/* For libraries that start threads of their own: no signal reaches threads started in between. */
void thread_block_signals(sigset_t *before);
void thread_restore_signals(const sigset_t *before);

struct thread_monitor {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

void thread_monitor_init(struct thread_monitor *m);
void thread_monitor_free(struct thread_monitor *m);
void thread_hold(struct thread_monitor *m);
void thread_release(struct thread_monitor *m);
/* Lets go, sleeps until a wake or (timeout_ns >= 0) so long, holds again. False when the time is up;
 * may return early without reason. */
bool thread_wait(struct thread_monitor *m, int64_t timeout_ns);
/* All who wait; held or not. */
void thread_wake(struct thread_monitor *m);

#endif
