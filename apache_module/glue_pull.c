/* SPDX-License-Identifier: Apache-2.0 */
/* A file is one bucket of known length, which filters read from its start to its end, or a part of
 * it (httpd's range filter). Whoever reads it gets what comes next, so the worker is asked for all
 * that will come: then it need not wait for a client that is slow, and its answers are read ahead
 * like any other response (glue_ahead.c). When nothing else can be asked for it is told so. */
#include "glue_pull.h"

#define AHEAD_MAX (64 << 20) /* bytes asked for and not taken: their PULLs fit into a socket */
#define PULLS_AT_ONCE 32

/* One part of the file that is read in order, at a time. All are offsets in the file. */
struct reader {
    glue_exchange_t *x;
    apr_int64_t next;  /* of what the next BODY brings */
    apr_int64_t asked; /* up to where the worker was asked */
    apr_int64_t end;   /* of the part */
    apr_int64_t total; /* bytes of all parts that it was asked for */
    int is_finished;   /* the worker was told that no more is wanted */
    int error; /* what glue_host_pulled, which tells only that something went wrong, hides */
};

/* As long as filters will ask for. */
static apr_size_t step(apr_int64_t from, apr_int64_t end) {
    return end - from < GLUE_PULL_MAX ? (apr_size_t)(end - from) : GLUE_PULL_MAX;
}

/* Asking. */

struct asking {
    pyglue_frame_t frame;
    pyglue_pull_t pull;
};

static struct asking ask(const struct reader *p, apr_int64_t offset, apr_size_t len) {
    return (struct asking){
        pyglue_frame(PYGLUE_FRAME_PULL, 0, p->x->order.number, sizeof(pyglue_pull_t)),
        {.offset = (apr_uint64_t)offset, .length = (uint32_t)len}};
}

static int finish(struct reader *p) {
    struct asking last = ask(p, 0, 0);

    if (p->is_finished || glue_conn_is_over(p->x->conn))
        return 0;
    p->is_finished = 1;
    p->x->file_asked = p->total;
    return glue_exchange_send(p->x, &(struct iovec){&last, sizeof last}, 1);
}

/* Several at once, as far as the spool can hold the answers; again when half of them have come. */
static int ask_ahead(struct reader *p, apr_size_t len, int is_last) {
    apr_int64_t window = p->x->terms.spool < AHEAD_MAX ? p->x->terms.spool : AHEAD_MAX;
    apr_int64_t until = p->next + (apr_int64_t)len + window;
    struct asking asking[PULLS_AT_ONCE];
    int error = 0;

    if (p->asked > p->next && p->asked - p->next > window / 2)
        return 0;
    while (error == 0 && p->asked < p->end && p->asked < until) {
        unsigned n = 0;

        for (; n < PULLS_AT_ONCE && p->asked < p->end && p->asked < until; n++) {
            asking[n] = ask(p, p->asked, step(p->asked, p->end));
            p->asked += (apr_int64_t)asking[n].pull.length;
            p->total += (apr_int64_t)asking[n].pull.length;
        }
        error = glue_exchange_send(p->x, &(struct iovec){asking, n * sizeof asking[0]}, 1);
    }
    return error == 0 && is_last && p->asked == p->end ? finish(p) : error;
}

/* Answers. */

/* The answer to the oldest question: len bytes into buf, or nowhere if that is NULL. E_BODY: the
 * file is shorter than it was. */
static int take_answer(struct reader *p, void *buf, apr_size_t len) {
    glue_exchange_t *x = p->x;
    pyglue_frame_t frame;
    int error;

    while ((error = glue_exchange_next(x, &frame)) == 0 && frame.type == PYGLUE_FRAME_LOG)
        if ((error = glue_exchange_log(x, &frame)) != 0)
            return error;
    p->next += (apr_int64_t)len;
    x->file_taken += (apr_int64_t)len;
    if (error == 0 && frame.type == PYGLUE_FRAME_BODY && frame.flags == PYGLUE_BODY_ERROR &&
        frame.length == 0)
        return PYGLUE_E_BODY;
    if (error == 0 && (frame.type != PYGLUE_FRAME_BODY || frame.flags != 0 || frame.length != len))
        error = PYGLUE_E_PROTOCOL;
    return error || buf == NULL ? error : glue_conn_copy(x->conn, buf, len);
}

/* Nobody wants them: the next frame skips what is left of the one before. */
static int skip_answers(struct reader *p) {
    int error = 0;

    while (p->next < p->asked && (error == 0 || error == PYGLUE_E_BODY))
        error = take_answer(p, NULL, step(p->next, p->end));
    return error == PYGLUE_E_BODY ? 0 : error;
}

static int read_part(struct reader *p, void *buf, const glue_wanted_t *wanted) {
    int error = 0;

    if (wanted->offset != p->next || wanted->end != p->end) {
        error = skip_answers(p);
        if (error == 0 && p->is_finished)
            error = PYGLUE_E_STATE;
        p->next = p->asked = wanted->offset;
        p->end = wanted->end;
    }
    if (error == 0)
        error = ask_ahead(p, wanted->len, wanted->is_last);
    return error ? error : take_answer(p, buf, wanted->len);
}

/* Called by a filter, while the host passes the bucket down. */
static apr_ssize_t pull(void *baton, void *buf, const glue_wanted_t *wanted) {
    struct reader *p = baton;
    int error;

    glue_exchange_passing(p->x, 0);
    error = read_part(p, buf, wanted);
    if (error == 0 || error == PYGLUE_E_BODY)
        glue_exchange_passing(p->x, 1);
    else
        p->error = error;
    return error ? error : (apr_ssize_t)wanted->len;
}

int glue_pull_file(glue_exchange_t *x, const pyglue_file_t *file) {
    struct reader p = {.x = x};
    int error = glue_host_pulled(x->host, pull, &p, (apr_int64_t)file->length);
    if (p.error != 0)
        return p.error;
    /* A pull that found the file shortened leaves the exchange whole, and the response cut. */
    if (error != 0 && glue_exchange_ops(x)->gone(&x->host->base))
        return PYGLUE_E_GONE;
    error = skip_answers(&p);
    return error ? error : finish(&p);
}
