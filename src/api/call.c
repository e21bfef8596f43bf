/* From a call to jobs and back: pieces of text become events of a stream, or are gathered until the last
 * choice is done. Everything after api__start happens on the worker's thread, so it only formats and
 * puts. A stream begins with the first event, so that what fails before it still has a status. */
#include "api_int.h"

#include "clock.h"
#include "out.h"
#include <stdlib.h>
#include <string.h>

void api__call_free(struct api__call *c)
{
    if (atomic_fetch_sub(&c->refs, 1) > 1) return;
    api__log(c);
    for (int i = 0; c->choices && i < c->n_choices; i++) {
        buf_free(&c->choices[i].text);
        buf_free(&c->choices[i].probs);
        buf_free(&c->choices[i].plain);
        toolcall_free(&c->choices[i].calls);
        buf_free(&c->choices[i].ids);
    }
    for (int i = 0; c->jobs && i < c->n_choices; i++) worker_release(c->jobs[i]);
    api__grammar_give(c->a, c->grammar); /* after the jobs, which borrow it */
    api__model_give(c);
    for (int i = 0; c->prompts && i < c->n_prompts; i++) tok_ids_free(&c->prompts[i]);
    for (int i = 0; c->texts && i < c->n_prompts; i++) free((void *)(uintptr_t)c->texts[i].tokens);
    free(c->choices);
    free(c->jobs);
    free(c->prompts);
    free(c->texts);
    free(c->vectors);
    free(c->bias);
    free(c->stops);
    json_decref(c->body);
    buf_free(&c->out);
    buf_free(&c->repeated);
    buf_free(&c->conversation);
    free(c);
}

/* Sends what stands in c->out as a part of a stream. */
static enum worker_flow send_out(struct api__call *c)
{
    if (!c->begun) {
        const struct http_field fields[] = {{"X-Request-Id", c->request_id},
                                            {"Cache-Control", "no-cache"},
                                            {"X-Accel-Buffering", "no"}};
        c->begun = true;
        const char *type = c->form->stream_type;
        http_begin(c->r, 200, type ? type : "text/event-stream", fields, 3);
    }
    enum http_put put = c->out.failed ? HTTP_GONE : http_put(c->r, c->out.data, c->out.len);
    buf_reset(&c->out);
    return put == HTTP_GONE ? WORKER_CANCEL : put == HTTP_FULL ? WORKER_PAUSE : WORKER_ON;
}

/* A piece of plain text: to the stream, or to what is gathered. */
static enum worker_flow give_piece(struct api__choice *ch, const struct answer_next *next)
{
    struct api__call *c = ch->call;
    if (!c->stream || c->form->gathers) buf_put(&ch->text, next->text, next->n);
    if (ch->text.failed || ch->probs.failed) return WORKER_CANCEL;
    if (!c->stream) return WORKER_ON;
    if (!ch->opened && c->form->open) c->form->open(ch, &c->out);
    ch->opened = true;
    if (next->n || ch->n_probs) c->form->piece(ch, next, &c->out);
    buf_reset(&ch->probs);
    ch->n_probs = 0;
    if (next->end != ANSWER_GOES_ON) return WORKER_ON; /* goes with the end, which comes next */
    return c->out.len ? send_out(c) : WORKER_ON;
}

static enum worker_flow on_text(struct api__choice *ch, const struct answer_next *next,
                                const struct worker_usage *usage)
{
    struct api__call *c = ch->call;
    struct answer_next plain = *next;
    int64_t now = clock_ns();
    if (ch->last_ns) {
        thread_hold(&c->a->lock);
        api__observe(&c->a->metrics.gap, (double)(now - ch->last_ns) * 1e-9);
        thread_release(&c->a->lock);
    }
    ch->last_ns = now;
    ch->usage = *usage;
    ch->stop = next->stop;
    if (c->form->ids) buf_put(&ch->ids, &next->id, sizeof next->id);
    if (c->answer.logprobs && next->counted) c->form->probs(ch, next);
    if (c->tools) {
        buf_reset(&ch->plain);
        toolcall_put(&ch->calls, next->text, next->n, &ch->plain);
        if (ch->plain.failed) return WORKER_CANCEL;
        plain.text = ch->plain.data;
        plain.n = ch->plain.len;
    }
    return give_piece(ch, &plain);
}

/* The end of the text: what was held back is calls, or text after all. */
static void end_text(struct api__choice *ch)
{
    struct answer_next rest = {0};
    struct err e;
    buf_reset(&ch->plain);
    if (!ch->call->tools || toolcall_end(&ch->calls, api__tool_known, ch->call, &ch->plain, &e) ||
        !ch->plain.len)
        return;
    rest.end = ch->end;
    rest.text = ch->plain.data;
    rest.n = ch->plain.len;
    give_piece(ch, &rest);
}

void api__count(struct api__call *c, const struct api__choice *ch, bool failed)
{
    const struct worker_usage *u = &ch->usage;
    struct api__metrics *m = &c->a->metrics;
    thread_hold(&c->a->lock);
    m->finished[failed ? 7 : ch->end]++;
    if (u->ttft_ns) api__observe(&m->ttft, (double)(c->load_ns + u->ttft_ns) * 1e-9);
    api__observe(&m->queue, (double)(c->load_ns + u->queue_ns) * 1e-9);
    api__observe(&m->e2e, (double)(c->load_ns + u->total_ns) * 1e-9);
    thread_release(&c->a->lock);
}

static void answer_whole(struct api__call *c)
{
    if (c->failed) {
        api__fail_err(c, &c->error, NULL);
        return;
    }
    c->form->whole(c, &c->out);
    api__reply(c, 200, &c->out);
}

/* A stream that has begun cannot take its status back: the error is its last event. */
static void end_stream(struct api__call *c)
{
    if (c->failed && !c->begun) {
        api__fail_err(c, &c->error, NULL);
        return;
    }
    if (c->failed && c->form->broken) {
        c->form->broken(c, &c->out);
    } else if (c->failed) {
        buf_puts(&c->out, "data: ");
        api__put_error(&c->out, api__status(&c->error), "server_error", NULL, NULL, c->error.msg);
        buf_puts(&c->out, "\n\n");
    } else if (c->form->finish) {
        c->form->finish(c, &c->out);
    }
    send_out(c);
    http_end(c->r);
}

const char *api__reason(const struct api__choice *ch)
{
    if (ch->calls.n_calls) return "tool_calls";
    return ch->end == ANSWER_LENGTH || ch->end == ANSWER_CONTEXT ? "length" : "stop";
}

void api__put_usage(struct api__call *c, struct buf *out)
{
    long long prompt = 0, cached = 0, output = 0;
    for (int i = 0; i < c->n_choices; i++) {
        const struct worker_usage *u = &c->choices[i].usage;
        output += u->output_tokens;
        if (i % c->n_each) continue; /* a prompt counts once */
        prompt += u->prompt_tokens;
        cached += u->cached_tokens;
    }
    buf_printf(out,
               "\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
               "\"prompt_tokens_details\":{\"cached_tokens\":%lld},"
               "\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
               prompt, output, prompt + output, cached);
}

static enum worker_flow on_event(void *arg, const struct worker_event *ev)
{
    struct api__choice *ch = arg;
    struct api__call *c = ch->call;
    if (ev->kind == WORKER_TEXT) return on_text(ch, ev->next, ev->usage);
    ch->done = true;
    ch->end = ev->end;
    ch->usage = *ev->usage;
    if (ev->kind == WORKER_FAILED && !c->failed) {
        c->failed = true;
        c->error = *ev->error;
    }
    api__count(c, ch, ev->kind == WORKER_FAILED);
    if (!c->failed) end_text(ch);
    if (c->stream && !c->failed) {
        if (!ch->opened && c->form->open) c->form->open(ch, &c->out);
        c->form->closed(ch, &c->out);
        if (c->left > 1) send_out(c);
    }
    if (--c->left == 0) {
        if (c->stream)
            end_stream(c);
        else
            answer_whole(c);
    }
    api__call_free(c);
    return WORKER_ON;
}

void api__start(struct api__call *c)
{
    struct err e;
    c->n_choices = c->n_prompts * c->n_each;
    c->choices = calloc((size_t)c->n_choices, sizeof *c->choices);
    c->jobs = calloc((size_t)c->n_choices, sizeof(struct worker_job *));
    struct worker_spec *specs = calloc((size_t)c->n_choices, sizeof *specs);
    if (!c->choices || !c->jobs || !specs) {
        free(specs);
        err_nomem(&e, (size_t)c->n_choices * sizeof *specs, "the choices");
        api__fail_err(c, &e, NULL);
        return;
    }
    for (int i = 0; i < c->n_choices; i++) {
        struct api__choice *ch = &c->choices[i];
        *ch = (struct api__choice){.call = c, .index = i, .prompt = &c->prompts[i / c->n_each]};
        ch->text = ch->probs = ch->plain = ch->ids = BUF_INIT(API__ANSWER_MAX);
        ch->calls = TOOLCALL_INIT;
        specs[i] = (struct worker_spec){.prompt = ch->prompt->data,
                                        .n = (int)ch->prompt->len,
                                        .answer = c->answer,
                                        .tenant = api__tenant(c),
                                        .salt = api__tenant(c),
                                        .event = on_event,
                                        .arg = ch};
        specs[i].answer.sample.seed += (uint64_t)(i % c->n_each);
    }
    c->left = c->n_choices;
    atomic_fetch_add(&c->refs, c->n_choices);
    if (worker_add(c->model->worker, specs, c->n_choices, c->jobs, &e)) {
        atomic_fetch_sub(&c->refs, c->n_choices);
        api__fail_err(c, &e, api__names(c)->prompt);
    }
    free(specs);
}
