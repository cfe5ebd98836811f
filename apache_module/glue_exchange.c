/* SPDX-License-Identifier: Apache-2.0 */
/* One request and a worker. What follows from each frame is the table `takers`. */
#include "glue_exchange.h"

#include <http_core.h>

#include "glue_buffer.h"
#include "glue_clock.h"
#include "glue_janitor.h"
#include "glue_log.h"
#include "glue_outlet.h"
#include "glue_passed.h"
#include "glue_pull.h"
#include "glue_upload.h"

#define CLIENT_CHECK apr_time_from_sec(2) /* how often, while a frame is awaited */
#define WORKER_FIRST                                                                               \
    100000 /* µs after its time-out: its clock began later, and it has more to say */
#define NEVER APR_INT64_MAX

/* What the worker asks for and says. */

static int flush(glue_exchange_t *x) {
    x->wants_flush = 0;
    x->unflushed = 0;
    return glue_exchange_ops(x)->flush(&x->host->base);
}

/* How much of it is logged is glue_flood.c's; httpd escapes what is in it. */
int glue_exchange_log(glue_exchange_t *x, const pyglue_frame_t *frame) {
    uint32_t number;
    pyglue_str_t part = {0};
    int level, error = glue_conn_copy(x->conn, &number, sizeof number);

    (void)frame;
    x->was_started = 1;
    level = error || number > APLOG_DEBUG ? APLOG_DEBUG : (int)number;
    while (error == 0 && (error = glue_conn_part(x->conn, &part, GLUE_BUFFER)) == 0 &&
           part.len > 0) {
        part = glue_flood_admit(&x->flood, level, part);
        if (part.len > 0)
            glue_exchange_ops(x)->log(&x->host->base, level, part);
    }
    return error;
}

int glue_exchange_send(glue_exchange_t *x, struct iovec *v, int n) {
    int error = glue_conn_send(x->conn, v, n);

    return error == PYGLUE_E_REFUSED ? PYGLUE_E_IO : error;
}

static int take_read(glue_exchange_t *x, const pyglue_frame_t *frame) {
    uint32_t credit;
    int is_end = 0, flags, error = glue_conn_copy(x->conn, &credit, sizeof credit);
    apr_time_t asked = glue_clock_now();
    apr_ssize_t got;
    pyglue_frame_t answer;

    (void)frame;
    x->was_started = 1;
    if (error == 0 && credit == 0)
        error = PYGLUE_E_PROTOCOL;
    if (error == 0 && x->wants_flush)
        error = flush(x);
    if (error != 0)
        return error;
    got = glue_upload_read(x, credit, &is_end);
    if (got == PYGLUE_E_TIMEOUT)
        x->late = 0; /* who waits for an answer has said all */
    if (got == PYGLUE_E_IO || got == PYGLUE_E_TIMEOUT)
        return (int)got;
    flags = got < 0 ? PYGLUE_BODY_ERROR : got == 0 || is_end ? PYGLUE_BODY_END : 0;
    answer = pyglue_frame(PYGLUE_FRAME_BODY, (unsigned)flags, x->order.number,
                          got > 0 ? (size_t)got : 0);
    /* The client was waited for; and whoever got something to work on has the whole time again. */
    x->answer_by = got > 0 ? glue_clock_now() + x->response_timeout
                           : x->answer_by + (glue_clock_now() - asked);
    return glue_exchange_send(
        x, (struct iovec[]){{&answer, sizeof answer}, {x->buffer, answer.length}}, 2);
}

static void note_length(glue_exchange_t *x) {
    x->is_bodyless =
        x->r->header_only || x->r->status == HTTP_NO_CONTENT || x->r->status == HTTP_NOT_MODIFIED;
    x->left = apr_table_get(x->r->headers_out, "Content-Length") != NULL ? x->r->clength : -1;
}

static int take_head(glue_exchange_t *x, const pyglue_frame_t *frame) {
    const pyglue_bounds_t *bounds = x->terms.bounds;
    /* A field has two lengths and a name: this many can be in there at most. */
    size_t room = frame->length / 9 < bounds->fields ? frame->length / 9 : bounds->fields;
    char *payload =
        frame->length <= GLUE_BUFFER ? x->buffer : apr_palloc(x->r->pool, frame->length);
    pyglue_header_t *fields = apr_palloc(x->r->pool, (room + 1) * sizeof *fields);
    pyglue_head_t head;
    int error = glue_conn_copy(x->conn, payload, frame->length);

    x->was_started = 1;
    if (error == 0)
        error =
            pyglue_head_get(&head, fields, bounds->fields < room + 1 ? bounds->fields : room + 1,
                            payload, frame->length, bounds);
    if (error == 0)
        error = glue_exchange_ops(x)->start(&x->host->base, &head);
    else if (error == PYGLUE_E_TOO_BIG || error == PYGLUE_E_HEAD)
        glue_host_head_refused(x->host, error);
    if (error == 0)
        note_length(x);
    return error == PYGLUE_E_TOO_BIG ? PYGLUE_E_HEAD : error;
}

/* The client may be slow to take it, which is not the worker's time. */
static int take_interim(glue_exchange_t *x, const pyglue_frame_t *frame) {
    pyglue_header_t fields[PYGLUE_INTERIM_FIELDS];
    pyglue_head_t head;
    apr_time_t began;
    int error = glue_conn_copy(x->conn, x->buffer, frame->length);

    x->was_started = 1;
    if (error != 0)
        return error;
    if (pyglue_interim_get(&head, fields, x->buffer, frame->length))
        return PYGLUE_E_PROTOCOL;
    began = glue_clock_now();
    error = glue_exchange_ops(x)->interim(&x->host->base, &head);
    x->answer_by += glue_clock_now() - began;
    return error == PYGLUE_E_STATE || error == PYGLUE_E_HEAD ? PYGLUE_E_PROTOCOL : error;
}

/* More than was announced would be taken for the next response by the client. */
static int count_body(glue_exchange_t *x, apr_uint64_t len) {
    if (x->left < 0)
        return 0;
    if (len > (apr_uint64_t)x->left)
        return PYGLUE_E_PROTOCOL;
    x->left -= (apr_int64_t)len;
    return 0;
}

/* Nothing is expected from the worker any more, but the client is slow: what has been read ahead is
 * sent when the thread is done with it, by the outlet where there is one. */
static int put_body(glue_exchange_t *x, pyglue_str_t part) {
    struct iovec v = {(void *)(uintptr_t)part.ptr, part.len};
    int done = 0;

    if (!x->has_outlet &&
        (x->rest.length > 0 || (glue_conn_is_over(x->conn) && glue_conn_spooled(x->conn) > 0)))
        done = glue_rest_put(&x->rest, x->host, part);
    if (done != 0)
        return done < 0 ? done : 0;
    x->unflushed += (apr_int64_t)part.len;
    return glue_exchange_ops(x)->write(&x->host->base, &v, 1, 0);
}

static int take_body(glue_exchange_t *x, const pyglue_frame_t *frame) {
    pyglue_str_t part;
    int error = frame->length == 0 || frame->flags != 0 || x->order.state == PYGLUE_EXCHANGE_FILE
                    ? PYGLUE_E_PROTOCOL
                : x->is_bodyless ? 0
                                 : count_body(x, frame->length);

    while (error == 0 && (error = glue_conn_part(x->conn, &part, GLUE_BUFFER)) == 0 &&
           part.len > 0) {
        apr_time_t before = glue_clock_now();

        if (!x->is_bodyless)
            error = put_body(x, part);
        glue_conn_paused(x->conn, glue_clock_now() - before);
    }
    return error == 0 && x->unflushed > x->group->response_buffer_size ? flush(x) : error;
}

static int take_flush(glue_exchange_t *x, const pyglue_frame_t *frame) {
    (void)frame;
    x->wants_flush = 1;
    return 0;
}

static int take_end(glue_exchange_t *x, const pyglue_frame_t *frame) {
    pyglue_outcome_t *o = x->outcome;
    int error = glue_conn_copy(x->conn, o, sizeof *o);

    (void)frame;
    if (error != 0)
        return error;
    if (!x->host->has_started)
        return o->kind == PYGLUE_FAILED &&
                       (o->status == HTTP_INTERNAL_SERVER_ERROR || o->status == HTTP_NOT_FOUND ||
                        o->status == HTTP_FORBIDDEN || o->status == HTTP_GATEWAY_TIME_OUT)
                   ? 0
                   : PYGLUE_E_PROTOCOL;
    if (o->kind != PYGLUE_COMPLETE || (x->left > 0 && !x->is_bodyless))
        o->kind = PYGLUE_CUT;
    return glue_rest_send(&x->rest, x->host,
                          o->kind == PYGLUE_COMPLETE && x->rest.length > 0 &&
                              glue_passed_keep(x->r->pool));
}

static int take_refuse(glue_exchange_t *x, const pyglue_frame_t *frame) {
    uint32_t why;
    int error = glue_conn_copy(x->conn, &why, sizeof why);

    (void)frame;
    if (error != 0)
        return error;
    x->search.avoided = x->place.worker.number;
    x->will_refuse = why == PYGLUE_REFUSED_LEAVING;
    return PYGLUE_E_REFUSED;
}

/* Frames. */

/* Is it time to look after the client, and has it left? By the clock, not when the worker is
 * silent: one that never is would hold this thread as long as it likes. */
static int is_client_gone(glue_exchange_t *x, apr_time_t now) {
    if (now < x->look_at)
        return 0;
    x->look_at = now + CLIENT_CHECK;
    return glue_exchange_ops(x)->gone(&x->host->base);
}

/* Body bytes that nothing has followed for response-flush-delay are not kept back any longer. */
static int flush_late(glue_exchange_t *x, apr_time_t now) {
    int error = glue_conn_has_more(x->conn) ? 0 : flush(x);

    x->flush_by = NEVER;
    x->answer_by += glue_clock_now() - now; /* the client was waited for */
    return error;
}

static apr_time_t earlier(apr_time_t a, apr_time_t b) {
    return a < b ? a : b;
}

/* Has its time passed, and what the worker had said until then been taken? Its client may be so
 * slow that the end is among that. */
static int is_overdue(glue_exchange_t *x, apr_time_t now) {
    if (now < x->end_by)
        return 0;
    if (x->late < 0)
        x->late = (apr_int64_t)glue_conn_at_hand(x->conn);
    return x->late == 0;
}

/* When waiting for the worker has to be interrupted. */
static apr_time_t next_look(const glue_exchange_t *x) {
    apr_time_t end_by = x->late < 0 ? x->end_by : NEVER;

    return earlier(earlier(x->look_at, x->flush_by), earlier(x->answer_by, end_by));
}

static void count_late(glue_exchange_t *x, const pyglue_frame_t *frame) {
    apr_int64_t size = (apr_int64_t)(sizeof *frame + frame->length);

    if (x->late > 0)
        x->late -= size < x->late ? size : x->late;
}

/* Waits for the worker. Until the head is there no log line, nor anything else, buys it time. */
static int await_frame(glue_exchange_t *x, pyglue_frame_t *frame) {
    apr_time_t now = glue_clock_now();

    if (x->host->has_started)
        x->answer_by = now + x->response_timeout;
    x->flush_by = x->unflushed > 0 ? now + x->group->response_flush_delay : NEVER;
    for (;; now = glue_clock_now()) {
        int error = now >= x->flush_by ? flush_late(x, now) : 0;

        if (error != 0)
            return error;
        if (is_client_gone(x, now))
            return PYGLUE_E_GONE;
        if (is_overdue(x, now))
            return PYGLUE_E_TIMEOUT;
        error = PYGLUE_E_TIMEOUT;
        if (now < x->answer_by)
            error = glue_conn_frame(x->conn, frame, next_look(x));
        if (error == 0)
            count_late(x, frame);
        if (error != PYGLUE_E_TIMEOUT || glue_clock_now() >= x->answer_by)
            return error;
    }
}

int glue_exchange_next(glue_exchange_t *x, pyglue_frame_t *frame) {
    int error;

    while ((error = await_frame(x, frame)) == 0 && frame->type == PYGLUE_FRAME_GOODBYE &&
           frame->number == 0)
        x->is_leaving = 1;
    if (error == PYGLUE_E_TOO_BIG && frame->type == PYGLUE_FRAME_HEAD) {
        glue_host_head_refused(x->host, error);
        return PYGLUE_E_HEAD;
    }
    return error ? error : pyglue_exchange_accept(&x->order, frame);
}

static int take_file(glue_exchange_t *x, const pyglue_frame_t *frame);

static int (*const takers[PYGLUE_FRAME_TYPES])(glue_exchange_t *, const pyglue_frame_t *) = {
    [PYGLUE_FRAME_BODY] = take_body,       [PYGLUE_FRAME_READ] = take_read,
    [PYGLUE_FRAME_HEAD] = take_head,       [PYGLUE_FRAME_FILE] = take_file,
    [PYGLUE_FRAME_FLUSH] = take_flush,     [PYGLUE_FRAME_LOG] = glue_exchange_log,
    [PYGLUE_FRAME_END] = take_end,         [PYGLUE_FRAME_REFUSE] = take_refuse,
    [PYGLUE_FRAME_INTERIM] = take_interim,
};

/* Everything already received is taken before anything is flushed. */
static int take_frames(glue_exchange_t *x) {
    int error = 0;

    while (error == 0 && x->order.state != PYGLUE_EXCHANGE_ENDED) {
        pyglue_frame_t frame;

        if (x->wants_flush && !glue_conn_has_more(x->conn))
            error = flush(x);
        if (error == 0)
            error = glue_exchange_next(x, &frame);
        if (error == 0)
            error = takers[frame.type](x, &frame);
    }
    return error;
}

void glue_exchange_passing(void *baton, int is_passing) {
    glue_exchange_t *x = baton;

    x->is_passing = is_passing;
    if (is_passing)
        glue_conn_lend(x->conn, &(glue_loan_t){&x->order, &x->place, x->is_leaving, x->file_asked,
                                               x->file_taken, 0});
    else
        glue_conn_take_back(x->conn, x->r);
}

/* Its client takes nothing, inside the filters: of the response, or of a 100 Continue. */
static int await_client(void *baton, int client, apr_interval_time_t timeout) {
    glue_exchange_t *x = baton;
    glue_loan_t loan = {&x->order, &x->place, x->is_leaving, x->file_asked, x->file_taken, 1};

    if (x->order.state == PYGLUE_EXCHANGE_ENDED)
        return 1;
    return glue_conn_await(x->conn, x->is_passing ? &loan : NULL, client, timeout);
}

/* Files. */

static int take_passed(glue_exchange_t *x, const pyglue_file_t *file) {
    int fd, error = glue_conn_descriptor(x->conn, &fd);
    const char *refusal = error ? NULL : glue_passed_check(fd, file);

    if (error != 0)
        return error;
    x->file_asked = 0; /* it is here */
    if (refusal == NULL && glue_passed_keep(x->r->pool))
        error = glue_exchange_ops(x)->file(&x->host->base, fd, (int64_t)file->offset,
                                           (int64_t)file->length);
    else if (refusal == NULL)
        error = glue_host_read_file(x->host, fd, (int64_t)file->offset, (int64_t)file->length);
    else
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r,
                      GLUE_ID(0502) "process group '%s' passed a descriptor that is not sent: %s",
                      x->group->name, refusal);
    glue_janitor_close(fd);
    return refusal != NULL ? PYGLUE_E_PROTOCOL : error;
}

static int take_file(glue_exchange_t *x, const pyglue_frame_t *frame) {
    pyglue_file_t file;
    int error = glue_conn_copy(x->conn, &file, sizeof file);

    if (error == 0 && (file.length == 0 || file.length > INT64_MAX || file.offset > INT64_MAX ||
                       (!x->is_bodyless && x->left >= 0 && (apr_uint64_t)x->left != file.length)))
        error = PYGLUE_E_PROTOCOL;
    if (error == 0 && (frame->flags & PYGLUE_FILE_DESCRIPTOR) && !x->terms.takes_descriptors)
        error = PYGLUE_E_PROTOCOL;
    if (error != 0)
        return error;
    x->left = x->left >= 0 ? 0 : -1;
    error = glue_rest_send(&x->rest, x->host, 0);
    if (error != 0)
        return error;
    x->wants_flush = 0; /* what went before goes down with the file */
    x->unflushed = 0;
    return frame->flags & PYGLUE_FILE_DESCRIPTOR ? take_passed(x, &file) : glue_pull_file(x, &file);
}

/* The whole. */

static int send_request(glue_exchange_t *x) {
    pyglue_request_t request = {x->snapshot->size, (uint32_t)x->at_hand};
    pyglue_frame_t frame =
        pyglue_frame(PYGLUE_FRAME_REQUEST, glue_upload_is_whole(x) ? PYGLUE_BODY_END : 0,
                     x->snapshot->number, sizeof request + x->snapshot->size + x->at_hand);
    struct iovec v[] = {{&frame, sizeof frame},
                        {&request, sizeof request},
                        {(void *)(uintptr_t)x->snapshot, x->snapshot->size},
                        {x->buffer, x->at_hand}};

    x->order = (pyglue_exchange_t){x->snapshot->number, PYGLUE_EXCHANGE_SENT};
    x->was_started = x->is_leaving = x->will_refuse = x->wants_flush = x->is_bodyless = 0;
    x->left = -1;
    x->unflushed = x->file_taken = 0;
    x->file_asked = -1;
    x->late = -1;
    x->answer_by = glue_clock_now() + x->response_timeout;
    x->end_by = x->group->request_timeout > 0 ? glue_clock_now() + x->group->request_timeout +
                                                    x->group->interrupt_timeout + WORKER_FIRST
                                              : NEVER;
    x->look_at = glue_clock_now() + CLIENT_CHECK;
    return glue_conn_send(x->conn, v, x->at_hand > 0 ? 4 : 3);
}

/* A worker starts nothing before it has the whole frame (docs/wire.md 11). */
int glue_exchange_run(glue_exchange_t *x) {
    int error = send_request(x);

    if (error == PYGLUE_E_TIMEOUT) {
        x->search.avoided = x->place.worker.number;
        error = PYGLUE_E_REFUSED;
    }
    if (error != 0)
        return error;
    x->host->baton = x;
    x->host->passing = glue_exchange_passing;
    x->has_outlet = glue_outlet_begin(x->r, await_client, x);
    error = take_frames(x);
    if (error != 0 && error != PYGLUE_E_GONE) { /* what was right in a response that is cut */
        glue_rest_send(&x->rest, x->host, 0);
        glue_conn_take_back(x->conn, x->r);
    }
    x->host->passing = NULL;
    glue_outlet_end(x->r, x->host->has_started);
    return error;
}
