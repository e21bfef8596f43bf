/* An answer on its way out. Any thread fills the queue; the library's thread pulls from it when the
 * socket takes more, and is suspended while it is empty. The invariant: `suspended` changes only under the
 * request's lock, together with the library's own state, so no wake-up is lost and none comes twice.
 * A request is freed by whichever comes last: http_end, or the connection being done with it.
 */
#include "http_int.h"

#include "clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16 * 1024 };

/* The request whose gone or drained runs on this thread, so that http_end within does not wait for it. */
static _Thread_local const struct http_request *inside;

static size_t queued(const struct http_request *r)
{
    return r->queue.len - r->taken;
}

static void resume(struct http_request *r)
{
    if (!r->suspended) return;
    r->suspended = false;
    MHD_resume_connection(r->mhd);
}

/* Under the lock, which is let go meanwhile. */
static void call(struct http_request *r, void (*fn)(void *, struct http_request *))
{
    if (!fn) return;
    void *arg = r->server->opts.arg;
    r->calling = true;
    thread_release(&r->lock);
    inside = r;
    fn(arg, r);
    inside = NULL;
    thread_hold(&r->lock);
    r->calling = false;
    thread_wake(&r->lock);
}

/* The library wants up to n bytes. */
static ssize_t pull(void *arg, uint64_t at, char *out, size_t n)
{
    (void)at;
    struct http_request *r = arg;
    ssize_t rc = 0;
    thread_hold(&r->lock);
    size_t have = queued(r);
    if (r->cut || (r->gone && !r->ended)) {
        rc = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (have) {
        if (n > have) n = have;
        memcpy(out, r->queue.data + r->taken, n);
        r->taken += n;
        r->sent_bytes += (int64_t)n;
        atomic_fetch_add(&r->server->sent_bytes, (int64_t)n);
        r->writing_ns = clock_ns();
        rc = (ssize_t)n;
        if (r->full && have - n < (size_t)r->server->opts.limits.queue_bytes / 2) {
            r->full = false;
            if (!r->ended) call(r, r->server->opts.drained);
        }
    } else if (r->ended) {
        rc = MHD_CONTENT_READER_END_OF_STREAM;
        r->writing_ns = clock_ns();
    } else {
        r->writing_ns = 0;
        r->suspended = true;
        MHD_suspend_connection(r->mhd);
    }
    thread_release(&r->lock);
    return rc;
}

bool http__stream_start(struct http_request *r)
{
    thread_hold(&r->lock);
    bool begun = r->begun;
    bool good = !r->cut && (!r->gone || (begun && r->ended));
    if (begun) {
        r->writing_ns = clock_ns();
    } else if (good) {
        r->suspended = true;
        MHD_suspend_connection(r->mhd);
    }
    thread_release(&r->lock);
    if (!good || !begun) return good;
    /* Not under the lock: the library calls pull under one that it takes here. */
    return r->response && MHD_queue_response(r->mhd, (unsigned)r->status, r->response);
}

void http__stream_finish(struct http_request *r, bool complete)
{
    const struct http_opts *o = &r->server->opts;
    thread_hold(&r->lock);
    assert(!r->suspended);
    bool cut = !complete || !r->ended;
    r->mhd = NULL;
    r->gone = true;
    int status = r->status; /* what gone() answers reaches nobody */
    if (!r->ended) call(r, o->gone);
    int64_t sent = r->sent_bytes, ns = clock_ns() - r->start_ns;
    thread_release(&r->lock);
    if (o->logged) o->logged(o->arg, r, status, sent, ns, cut);
    thread_hold(&r->lock);
    r->closed = true;
    bool over = r->ended;
    thread_release(&r->lock);
    if (over) http__request_free(r);
}

bool http__stream_stop(struct http_request *r, bool cut)
{
    thread_hold(&r->lock);
    r->gone = true;
    r->cut |= cut;
    bool rest = r->ended && !r->cut;
    resume(r);
    thread_release(&r->lock);
    return rest;
}

bool http__stream_hand_back(struct http_request *r)
{
    thread_hold(&r->lock);
    bool back = !r->begun;
    if (back) {
        r->gone = r->cut = true;
        resume(r);
    }
    thread_release(&r->lock);
    return back;
}

void http__stream_refused(struct http_request *r, int status, int64_t sent_bytes)
{
    thread_hold(&r->lock);
    r->status = status;
    r->sent_bytes = sent_bytes;
    thread_release(&r->lock);
}

int64_t http__stream_writing(struct http_request *r)
{
    thread_hold(&r->lock);
    int64_t ns = r->writing_ns;
    thread_release(&r->lock);
    return ns;
}

/* Under the lock. bytes: of the whole body, or MHD_SIZE_UNKNOWN. Without memory, `response` stays
 * NULL and the connection is closed. */
static void begin(struct http_request *r, int status, const char *type,
                  const struct http_field *fields, int n_fields, uint64_t bytes)
{
    assert(!r->begun && status >= 200 && status <= 599);
    r->begun = true;
    r->status = status;
    if (!r->mhd) return;
    struct MHD_Response *response = MHD_create_response_from_callback(bytes, BLOCK, pull, r, NULL);
    if (!response) return;
    if (type) MHD_add_response_header(response, "Content-Type", type);
    for (int i = 0; i < n_fields; i++)
        MHD_add_response_header(response, fields[i].name, fields[i].value);
    if (atomic_load(&r->server->draining)) MHD_add_response_header(response, "Connection", "close");
    r->response = response;
}

void http_begin(struct http_request *r, int status, const char *type,
                const struct http_field *fields, int n_fields)
{
    thread_hold(&r->lock);
    r->queue = BUF_INIT(SIZE_MAX / 2);
    r->unknown_length = true;
    begin(r, status, type, fields, n_fields, MHD_SIZE_UNKNOWN);
    resume(r);
    thread_release(&r->lock);
}

/* Makes room at the front once that is most of what is held. */
static void compact(struct http_request *r)
{
    if (!r->taken || r->taken < r->queue.len / 2) return;
    size_t n = queued(r);
    memmove(r->queue.data, r->queue.data + r->taken, n);
    r->queue.len = n;
    r->taken = 0;
}

enum http_put http_put(struct http_request *r, const void *p, size_t n)
{
    thread_hold(&r->lock);
    assert(r->begun && !r->ended);
    enum http_put what = HTTP_OK;
    if (!r->gone) {
        size_t limit = (size_t)r->server->opts.limits.queue_bytes;
        compact(r);
        if (queued(r) > limit * 4 || !buf_put(&r->queue, p, n)) {
            r->gone = r->cut = true;
        } else if (queued(r) > limit) {
            r->full = true;
            what = HTTP_FULL;
        }
        if (n || r->gone) resume(r);
    }
    if (r->gone) what = HTTP_GONE;
    thread_release(&r->lock);
    return what;
}

/* Lets go of the lock. */
static void end(struct http_request *r)
{
    while (r->calling && inside != r) thread_wait(&r->lock, -1);
    r->ended = true;
    resume(r);
    bool over = r->closed;
    thread_release(&r->lock);
    if (over) http__request_free(r);
}

void http_end(struct http_request *r)
{
    thread_hold(&r->lock);
    assert(r->begun ? !r->ended : r->gone);
    end(r);
}

void http_reply(struct http_request *r, int status, const char *type,
                const struct http_field *fields, int n_fields, const void *body, size_t n)
{
    thread_hold(&r->lock);
    r->queue = BUF_INIT(n);
    if (r->mhd && n) buf_put(&r->queue, body, n);
    begin(r, status, type, fields, n_fields, n);
    if (r->queue.failed) r->gone = r->cut = true;
    end(r);
}
