/* Conditions wait on the monotonic clock, so that a corrected wall clock wakes nobody late. */
#include "thread.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct thread {
    pthread_t id;
    thread_fn *fn;
    void *arg;
};

static void *run(void *arg)
{
    struct thread *t = arg;
    t->fn(t->arg);
    return NULL;
}

int thread_open(struct thread **out, thread_fn *fn, void *arg, struct err *e)
{
    struct thread *t = malloc(sizeof *t);
    if (!t) return err_nomem(e, sizeof *t, "a thread");
    *t = (struct thread){.fn = fn, .arg = arg};
    sigset_t before;
    thread_block_signals(&before);
    int rc = pthread_create(&t->id, NULL, run, t);
    thread_restore_signals(&before);
    if (rc) {
        free(t);
        return err_set(e, ERR_IO, "the system refuses a thread: %s", strerror(rc));
    }
    *out = t;
    return 0;
}

void thread_close(struct thread *t)
{
    if (!t) return;
    pthread_join(t->id, NULL);
    free(t);
}

void thread_block_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

void thread_restore_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

void thread_monitor_init(struct thread_monitor *m)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->mutex, NULL);
    pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void thread_monitor_free(struct thread_monitor *m)
{
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->mutex);
}

void thread_hold(struct thread_monitor *m)
{
    int rc = pthread_mutex_lock(&m->mutex);
    assert(rc == 0);
}

void thread_release(struct thread_monitor *m)
{
    int rc = pthread_mutex_unlock(&m->mutex);
    assert(rc == 0);
}

bool thread_wait(struct thread_monitor *m, int64_t timeout_ns)
{
    if (timeout_ns < 0) return pthread_cond_wait(&m->changed, &m->mutex) == 0;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout_ns % 1000000000;
    until.tv_sec += (time_t)(timeout_ns / 1000000000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    return pthread_cond_timedwait(&m->changed, &m->mutex, &until) != ETIMEDOUT;
}

void thread_wake(struct thread_monitor *m)
{
    pthread_cond_broadcast(&m->changed);
}
