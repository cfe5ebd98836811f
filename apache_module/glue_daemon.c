/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a snapshot in a worker: its frames become calls of the host operations that embedded mode
 * calls too. What a worker may send is decided by the tables of the bridge (frame.c); what follows
 * from each frame is the table `takers` here; whether a failed try may be repeated is
 * docs/wire.md 11. */
#include "glue_daemon.h"

#include <http_core.h>

#include "glue_conn.h"
#include "glue_janitor.h"
#include "glue_log.h"
#include "glue_passed.h"

#define REFUSALS_MAX 8
#define LOG_MAX (1u << 20)                /* log-request-size */
#define CLIENT_CHECK apr_time_from_sec(2) /* how often, while the worker is silent */
#define OBITUARY_WAIT apr_time_from_sec(1)
#define REVIVAL_WAIT apr_time_from_sec(5) /* while the supervisor itself is being replaced */
#define HEARTBEAT_LATE_MS 2500

/* One request, over all its tries. Lives on the handler's stack. */
typedef struct exchange {
    glue_host_t *host;
    request_rec *r;
    const glue_group_t *group;
    const pyglue_snapshot_t *snapshot;
    pyglue_outcome_t *outcome;
    glue_conn_terms_t terms;
    glue_search_t search;
    apr_interval_time_t response_timeout;
    char *buffer; /* GLUE_CONN_BUFFER bytes: the body at hand, later what the host is given or reads
                   */
    size_t at_hand;    /* body bytes in it, for each try */
    int is_whole_body; /* and there are no more */
    int has_died;      /* a worker died under it: no second repetition */
    size_t log_bytes;
    /* of this try */
    glue_place_t place;
    glue_conn_t *conn;
    pyglue_exchange_t order;
    int was_started; /* a frame came that only a started request sends */
    int is_leaving;  /* the worker said goodbye: the connection is not kept */
    int wants_flush;
    apr_int64_t left; /* body bytes that may follow by Content-Length; -1: no bound */
    int is_bodyless;  /* HEAD, 204, 304 */
} exchange_t;

static const pyglue_host_ops_t *ops(const exchange_t *x) {
    return x->host->base.ops;
}

/* --- What the worker asks for and says ----------------------------------------------------------
 */

static int flush(exchange_t *x) {
    int error = x->wants_flush ? ops(x)->flush(&x->host->base) : 0;

    x->wants_flush = 0;
    return error;
}

/* Log lines are bounded for each request; httpd escapes what is in them. */
static int take_log(exchange_t *x, const pyglue_frame_t *frame) {
    uint32_t level;
    pyglue_str_t part = {0};
    int error = glue_conn_copy(x->conn, &level, sizeof level);

    x->was_started = 1;
    if (error == 0 && x->log_bytes <= LOG_MAX && x->log_bytes + frame->length > LOG_MAX)
        ap_log_rerror(
            APLOG_MARK, APLOG_WARNING, 0, x->r,
            GLUE_ID(0501) "process group '%s': this request has logged more than %u bytes; "
                          "the rest is left out",
            x->group->name, LOG_MAX);
    x->log_bytes += frame->length;
    do {
        if (error == 0 && part.len > 0 && x->log_bytes <= LOG_MAX)
            ops(x)->log(&x->host->base, level > APLOG_DEBUG ? APLOG_DEBUG : (int)level, part);
        if (error == 0)
            error = glue_conn_part(x->conn, &part, GLUE_CONN_BUFFER);
    } while (error == 0 && part.len > 0);
    return error;
}

static int take_read(exchange_t *x, const pyglue_frame_t *frame) {
    uint32_t credit;
    int is_end = 0, flags, error = glue_conn_copy(x->conn, &credit, sizeof credit);
    ssize_t got;
    pyglue_frame_t answer;

    (void)frame;
    x->was_started = 1;
    if (error == 0 && credit == 0)
        error = PYGLUE_E_PROTOCOL;
    if (error == 0)
        error = flush(x);
    if (error != 0)
        return error;
    got = ops(x)->read(&x->host->base, x->buffer,
                       credit < GLUE_CONN_BUFFER ? credit : GLUE_CONN_BUFFER);
    if (got > 0)
        glue_host_read_at_hand(x->host, x->buffer, 0, &is_end);
    flags = got < 0 ? PYGLUE_BODY_ERROR : got == 0 || is_end ? PYGLUE_BODY_END : 0;
    answer = pyglue_frame(PYGLUE_FRAME_BODY, (unsigned)flags, x->order.number,
                          got > 0 ? (size_t)got : 0);
    error = glue_conn_send(
        x->conn, (struct iovec[]){{&answer, sizeof answer}, {x->buffer, answer.length}}, 2);
    return error == PYGLUE_E_REFUSED ? PYGLUE_E_IO : error;
}

static void note_length(exchange_t *x) {
    x->is_bodyless =
        x->r->header_only || x->r->status == HTTP_NO_CONTENT || x->r->status == HTTP_NOT_MODIFIED;
    x->left = apr_table_get(x->r->headers_out, "Content-Length") != NULL ? x->r->clength : -1;
}

static int take_head(exchange_t *x, const pyglue_frame_t *frame) {
    const pyglue_bounds_t *bounds = x->terms.bounds;
    /* A field has two lengths and a name: this many can be in there at most. */
    size_t room = frame->length / 9 < bounds->fields ? frame->length / 9 : bounds->fields;
    char *payload =
        frame->length <= GLUE_CONN_BUFFER ? x->buffer : apr_palloc(x->r->pool, frame->length);
    pyglue_header_t *fields = apr_palloc(x->r->pool, (room + 1) * sizeof *fields);
    pyglue_head_t head;
    int error = glue_conn_copy(x->conn, payload, frame->length);

    x->was_started = 1;
    if (error == 0)
        error =
            pyglue_head_get(&head, fields, bounds->fields < room + 1 ? bounds->fields : room + 1,
                            payload, frame->length, bounds);
    if (error == 0)
        error = ops(x)->start(&x->host->base, &head);
    if (error == 0)
        note_length(x);
    return error;
}

/* More than was announced would be taken for the next response by the client. */
static int count_body(exchange_t *x, apr_uint64_t len) {
    if (x->left < 0)
        return 0;
    if (len > (apr_uint64_t)x->left)
        return PYGLUE_E_PROTOCOL;
    x->left -= (apr_int64_t)len;
    return 0;
}

static int take_body(exchange_t *x, const pyglue_frame_t *frame) {
    pyglue_str_t part;
    int error = frame->length == 0 || frame->flags != 0 || x->order.state == PYGLUE_EXCHANGE_FILE
                    ? PYGLUE_E_PROTOCOL
                : x->is_bodyless ? 0
                                 : count_body(x, frame->length);

    while (error == 0 && (error = glue_conn_part(x->conn, &part, GLUE_CONN_BUFFER)) == 0 &&
           part.len > 0) {
        struct iovec v = {(void *)(uintptr_t)part.ptr, part.len};
        apr_time_t before = apr_time_now();

        if (!x->is_bodyless)
            error = ops(x)->write(&x->host->base, &v, 1, 0);
        glue_conn_paused(x->conn, apr_time_now() - before);
    }
    return error;
}

static int take_flush(exchange_t *x, const pyglue_frame_t *frame) {
    (void)frame;
    x->wants_flush = 1;
    return 0;
}

static int take_end(exchange_t *x, const pyglue_frame_t *frame) {
    pyglue_outcome_t *o = x->outcome;
    int error = glue_conn_copy(x->conn, o, sizeof *o);

    (void)frame;
    if (error != 0)
        return error;
    if (!x->host->has_started)
        return o->kind == PYGLUE_FAILED &&
                       (o->status == HTTP_INTERNAL_SERVER_ERROR || o->status == HTTP_NOT_FOUND)
                   ? 0
                   : PYGLUE_E_PROTOCOL;
    if (o->kind != PYGLUE_COMPLETE || (x->left > 0 && !x->is_bodyless))
        o->kind = PYGLUE_CUT;
    return 0;
}

static int take_refuse(exchange_t *x, const pyglue_frame_t *frame) {
    (void)frame;
    x->search.avoided = x->place.worker.number;
    return PYGLUE_E_REFUSED;
}

/* --- Frames -------------------------------------------------------------------------------------
 */

/* Waits for the worker, looking after the client now and then. */
static int await_frame(exchange_t *x, pyglue_frame_t *frame) {
    apr_time_t deadline = apr_time_now() + x->response_timeout;

    for (;;) {
        apr_time_t look = apr_time_now() + CLIENT_CHECK;
        int error = glue_conn_frame(x->conn, frame, look < deadline ? look : deadline);

        if (error != PYGLUE_E_TIMEOUT || apr_time_now() >= deadline)
            return error;
        if (ops(x)->gone(&x->host->base))
            return PYGLUE_E_GONE;
    }
}

/* The next frame of this request, in order. */
static int next_frame(exchange_t *x, pyglue_frame_t *frame) {
    int error;

    while ((error = await_frame(x, frame)) == 0 && frame->type == PYGLUE_FRAME_GOODBYE &&
           frame->number == 0)
        x->is_leaving = 1;
    return error ? error : pyglue_exchange_accept(&x->order, frame);
}

static int take_file(exchange_t *x, const pyglue_frame_t *frame);

static int (*const takers[PYGLUE_FRAME_TYPES])(exchange_t *, const pyglue_frame_t *) = {
    [PYGLUE_FRAME_BODY] = take_body,   [PYGLUE_FRAME_READ] = take_read,
    [PYGLUE_FRAME_HEAD] = take_head,   [PYGLUE_FRAME_FILE] = take_file,
    [PYGLUE_FRAME_FLUSH] = take_flush, [PYGLUE_FRAME_LOG] = take_log,
    [PYGLUE_FRAME_END] = take_end,     [PYGLUE_FRAME_REFUSE] = take_refuse,
};

/* Everything already received is taken before anything is flushed. */
static int take_frames(exchange_t *x) {
    int error = 0;

    while (error == 0 && x->order.state != PYGLUE_EXCHANGE_ENDED) {
        pyglue_frame_t frame;

        if (x->wants_flush && !glue_conn_has_more(x->conn))
            error = flush(x);
        if (error == 0)
            error = next_frame(x, &frame);
        if (error == 0)
            error = takers[frame.type](x, &frame);
    }
    return error;
}

/* --- Files --------------------------------------------------------------------------------------
 */

static int send_pull(exchange_t *x, apr_uint64_t offset, apr_size_t len) {
    pyglue_pull_t pull = {.offset = offset, .length = (uint32_t)len};
    pyglue_frame_t frame = pyglue_frame(PYGLUE_FRAME_PULL, 0, x->order.number, sizeof pull);
    int error =
        glue_conn_send(x->conn, (struct iovec[]){{&frame, sizeof frame}, {&pull, sizeof pull}}, 2);

    return error == PYGLUE_E_REFUSED ? PYGLUE_E_IO : error;
}

/* What a pull got wrong outlives glue_host_pulled, which tells only that something did. */
struct file_pull {
    exchange_t *x;
    int error;
};

static apr_ssize_t pull(void *baton, apr_int64_t offset, void *buf, apr_size_t len) {
    struct file_pull *p = baton;
    exchange_t *x = p->x;
    pyglue_frame_t frame;

    p->error = send_pull(x, (apr_uint64_t)offset, len);
    while (p->error == 0 && (p->error = next_frame(x, &frame)) == 0 &&
           frame.type == PYGLUE_FRAME_LOG)
        p->error = take_log(x, &frame);
    if (p->error == 0 && frame.type == PYGLUE_FRAME_BODY && frame.flags == PYGLUE_BODY_ERROR &&
        frame.length == 0)
        return PYGLUE_E_BODY; /* the file is shorter than it was: END tells the rest */
    if (p->error == 0 &&
        (frame.type != PYGLUE_FRAME_BODY || frame.flags != 0 || frame.length != len))
        p->error = PYGLUE_E_PROTOCOL;
    if (p->error == 0)
        p->error = glue_conn_copy(x->conn, buf, len);
    return p->error ? p->error : (apr_ssize_t)len;
}

static int take_passed(exchange_t *x, const pyglue_file_t *file) {
    int fd, error = glue_conn_descriptor(x->conn, &fd);
    const char *refusal = error ? NULL : glue_passed_check(fd, file);

    if (error != 0)
        return error;
    if (refusal == NULL)
        error = ops(x)->file(&x->host->base, fd, (int64_t)file->offset, (int64_t)file->length);
    else
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r,
                      GLUE_ID(0502) "process group '%s' passed a descriptor that is not sent: %s",
                      x->group->name, refusal);
    glue_janitor_close(fd);
    return refusal != NULL ? PYGLUE_E_PROTOCOL : error;
}

static int take_pulled(exchange_t *x, const pyglue_file_t *file) {
    struct file_pull p = {x, 0};
    int error = glue_host_pulled(x->host, pull, &p, (apr_int64_t)file->length);

    if (p.error != 0)
        return p.error;
    /* A pull that found the file shortened leaves the exchange whole, and the response cut. */
    if (error != 0 && ops(x)->gone(&x->host->base))
        return PYGLUE_E_GONE;
    return send_pull(x, 0, 0);
}

static int take_file(exchange_t *x, const pyglue_frame_t *frame) {
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
    return frame->flags & PYGLUE_FILE_DESCRIPTOR ? take_passed(x, &file) : take_pulled(x, &file);
}

/* --- One try ------------------------------------------------------------------------------------
 */

static int send_request(exchange_t *x) {
    pyglue_request_t request = {x->snapshot->size, (uint32_t)x->at_hand};
    pyglue_frame_t frame =
        pyglue_frame(PYGLUE_FRAME_REQUEST, x->is_whole_body ? PYGLUE_BODY_END : 0,
                     x->snapshot->number, sizeof request + x->snapshot->size + x->at_hand);
    struct iovec v[] = {{&frame, sizeof frame},
                        {&request, sizeof request},
                        {(void *)(uintptr_t)x->snapshot, x->snapshot->size},
                        {x->buffer, x->at_hand}};

    x->order = (pyglue_exchange_t){x->snapshot->number, PYGLUE_EXCHANGE_SENT};
    x->was_started = x->is_leaving = x->wants_flush = x->is_bodyless = 0;
    x->left = -1;
    return glue_conn_send(x->conn, v, x->at_hand > 0 ? 4 : 3);
}

/* The worker runs on: it is told, and its place counts until it has finished. */
static void give_up(exchange_t *x) {
    pyglue_frame_t gone = pyglue_frame(PYGLUE_FRAME_GONE, 0, x->order.number, 0);

    if (glue_conn_send(x->conn, &(struct iovec){&gone, sizeof gone}, 1) == 0) {
        glue_conn_give_up(x->conn, &x->place);
        return;
    }
    glue_conn_close(x->conn);
    glue_place_give(&x->place);
}

/* Ends the use of connection and place. */
static void finish_try(exchange_t *x, int error) {
    int is_over =
        x->order.state == PYGLUE_EXCHANGE_ENDED && (error == 0 || error == PYGLUE_E_REFUSED);

    if (error == PYGLUE_E_GONE || error == PYGLUE_E_TIMEOUT) {
        give_up(x);
        return;
    }
    if (is_over && !x->is_leaving)
        glue_conn_put(x->conn);
    else
        glue_conn_close(x->conn);
    glue_place_give(&x->place);
}

/* 0: the exchange is over. PYGLUE_E_REFUSED: it did not start, another worker may be tried. */
static int try_once(exchange_t *x) {
    int error = glue_conn_get(&x->conn, &x->place.worker, &x->terms);

    if (error != 0) {
        glue_place_give(&x->place);
        x->search.avoided = x->place.worker.number;
        if (error != PYGLUE_E_REFUSED)
            ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r,
                          GLUE_ID(0503) "process group '%s': no connection to worker at %s: %s",
                          x->group->name, x->place.worker.path, pyglue_error_text(error));
        return error == PYGLUE_E_NOMEM ? PYGLUE_E_IO : PYGLUE_E_REFUSED;
    }
    error = send_request(x);
    if (error == PYGLUE_E_REFUSED)
        glue_conn_sweep(); /* others of that worker are likely to have ended too */
    else if (error == 0)
        error = take_frames(x);
    finish_try(x, error);
    return error;
}

/* --- A worker that died -------------------------------------------------------------------------
 */

static int is_supervisor_late(void) {
    struct timespec now;
    uint64_t beat = pyglue_pages_heartbeat(glue_placement()->pages), now_ms;

    clock_gettime(CLOCK_MONOTONIC, &now);
    now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return now_ms > beat + HEARTBEAT_LATE_MS;
}

static int find_obituary(exchange_t *x, pyglue_obituary_t *obituary) {
    apr_time_t died = apr_time_now();

    while (!pyglue_pages_find_obituary(glue_placement()->pages, x->place.worker.number, obituary)) {
        apr_interval_time_t waited = apr_time_now() - died;

        if (waited > (is_supervisor_late() ? REVIVAL_WAIT : OBITUARY_WAIT))
            return 0;
        glue_place_pause();
    }
    return 1;
}

static int is_named(const exchange_t *x, const pyglue_obituary_t *obituary) {
    for (uint32_t i = 0; i < obituary->count; i++)
        if (obituary->requests[i] == x->snapshot->number)
            return 1;
    return 0;
}

/* E_REFUSED: the request certainly did not start, and is repeated, once. Else E_IO, and logged. */
static int judge_death(exchange_t *x) {
    pyglue_obituary_t obituary;
    int is_known = find_obituary(x, &obituary);
    int may_repeat = is_known && obituary.complete == 1 && !x->was_started && !x->has_died &&
                     !is_named(x, &obituary);

    x->has_died = 1;
    ap_log_rerror(
        APLOG_MARK, may_repeat ? APLOG_INFO : APLOG_ERR, 0, x->r,
        GLUE_ID(0504) "process group '%s': the worker at %s ended while it had this request: "
                      "%s%s",
        x->group->name, x->place.worker.path, is_known ? obituary.cause : "the cause is unknown",
        may_repeat ? "; it had not started it, so it goes to another" : "");
    return may_repeat ? PYGLUE_E_REFUSED : PYGLUE_E_IO;
}

/* --- All tries ----------------------------------------------------------------------------------
 */

static void log_failure(exchange_t *x, int error, const char *what) {
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, GLUE_ID(0505) "process group '%s': %s: %s",
                  x->group->name, what, pyglue_error_text(error));
}

/* What a failed try means for the request, as the result of glue_daemon_run; E_REFUSED: try on. */
static int judge(exchange_t *x, int error) {
    switch (error) {
    case PYGLUE_E_GONE:
        break;
    case PYGLUE_E_IO:
        error = judge_death(x);
        break;
    case PYGLUE_E_TIMEOUT:
        log_failure(x, error, "the worker did not answer within response-timeout");
        break;
    default:
        log_failure(x, error, "the worker's connection was closed");
        error = PYGLUE_E_PROTOCOL;
    }
    if (!x->host->has_started && error != PYGLUE_E_GONE)
        return error;
    *x->outcome = (pyglue_outcome_t){PYGLUE_CUT, 0};
    return 0;
}

static int place(exchange_t *x) {
    int error = glue_place_take(&x->place, &x->search);

    if (error != 0)
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, GLUE_ID(0506) "process group '%s': %s",
                      x->group->name, x->search.reason);
    return error;
}

static int run(exchange_t *x) {
    for (int tries = 0; tries < REFUSALS_MAX; tries++) {
        int error = place(x);

        if (error != 0)
            return error;
        error = try_once(x);
        if (error != 0 && error != PYGLUE_E_REFUSED)
            error = judge(x, error);
        if (error != PYGLUE_E_REFUSED)
            return error;
    }
    log_failure(x, PYGLUE_E_REFUSED, "its workers refused it again and again");
    return PYGLUE_E_REFUSED;
}

/* The first part of an upload is awaited before a thread of a worker is taken (DESIGN 4), unless
 * the client waits to be asked for it, or does not know its length either and may be in a dialogue.
 */
static void gather_body(exchange_t *x) {
    apr_int64_t length = x->snapshot->content_length;
    ssize_t got = glue_host_read_at_hand(x->host, x->buffer, GLUE_CONN_BUFFER, &x->is_whole_body);

    while (got > 0 || (got == 0 && x->at_hand == 0)) {
        x->at_hand += (size_t)got;
        if (x->is_whole_body || length <= 0 || x->r->expecting_100 ||
            x->at_hand == GLUE_CONN_BUFFER)
            return;
        got = ops(x)->read(&x->host->base, x->buffer + x->at_hand, GLUE_CONN_BUFFER - x->at_hand);
        if (got == 0)
            x->is_whole_body = 1;
        if (got > 0)
            glue_host_read_at_hand(x->host, x->buffer, 0, &x->is_whole_body);
    }
}

static apr_interval_time_t or_timeout(apr_interval_time_t configured, const exchange_t *x) {
    return configured > 0 ? configured : x->r->server->timeout;
}

int glue_daemon_run(pyglue_outcome_t *outcome, const glue_group_t *group, glue_host_t *host,
                    const pyglue_snapshot_t *snapshot) {
    exchange_t x = {.host = host,
                    .r = host->r,
                    .group = group,
                    .snapshot = snapshot,
                    .outcome = outcome,
                    .search = {.group = group}};
    int error;

    x.terms = (glue_conn_terms_t){&group->bounds, or_timeout(group->socket_timeout, &x),
                                  group->pass_descriptors && host->allows_sendfile};
    x.response_timeout = or_timeout(group->response_timeout, &x);
    x.buffer = glue_conn_buffer_get();
    if (x.buffer == NULL)
        return PYGLUE_E_IO;
    gather_body(&x);
    x.search.deadline = apr_time_now() + or_timeout(group->queue_timeout, &x);
    error = run(&x);
    glue_conn_buffer_put(x.buffer);
    return error;
}
