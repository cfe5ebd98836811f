/* SPDX-License-Identifier: Apache-2.0 */
/* What is said on a connection by the thread that owns it: hello or LEAVE, requests run or refused.
 * Knows no epoll set and no listener. Up: pool.c; down: conn.c, host.c, the engine's table. */
#include <stdatomic.h>
#include <unistd.h>

#include "pool.h"

int wkr_exchange_refuse(wkr_pool_t *pool, int fd, uint64_t number, uint32_t why) {
    pyglue_frame_t frame = pyglue_frame(PYGLUE_FRAME_REFUSE, 0, number, sizeof why);

    __atomic_fetch_add(&pool->record->refused, 1, __ATOMIC_RELAXED);
    return wkr_send_small(fd, &frame, &why);
}

/* Hello. */

static int is_same_key(const uint8_t *a, const uint8_t *b) {
    volatile uint8_t difference = 0;

    for (int i = 0; i < PYGLUE_KEY_SIZE; i++)
        difference |= (uint8_t)(a[i] ^ b[i]);
    return difference == 0;
}

/* docs/wire.md 13. It may be said again, with less time. */
static int obey_leave(wkr_pool_t *pool, wkr_conn_t *conn, const pyglue_hello_t *hello) {
    if (!wkr_accept_is_of(atomic_load(&conn->fd), pool->supervisor))
        return PYGLUE_E_PROTOCOL;
    wkr_owner_leave_out(pool, conn);
    if (hello->threads > 0)
        wkr_process_watchdog(hello->threads);
    wkr_pool_tell(pool, WKR_EVENT_LEAVE);
    return 0;
}

static int answer_hello(const wkr_thread_t *thread, wkr_conn_t *conn) {
    const wkr_settings_t *own = &thread->pool->settings;
    pyglue_frame_t frame = pyglue_frame(PYGLUE_FRAME_HELLO, 0, 0, sizeof(pyglue_hello_t));
    pyglue_hello_t hello = {PYGLUE_WIRE_VERSION, own->threads, own->number, {0}};

    if (!wkr_accept_is_of(thread->first.fd, own->peer_uid))
        return PYGLUE_E_PROTOCOL;
    conn->is_greeted = 1;
    return wkr_send_small(thread->first.fd, &frame, &hello);
}

static int greet(wkr_thread_t *thread, wkr_conn_t *conn, const pyglue_frame_t *frame) {
    const wkr_settings_t *own = &thread->pool->settings;
    const int is_leave = frame->type == PYGLUE_FRAME_LEAVE;
    pyglue_hello_t hello;

    if ((frame->type != PYGLUE_FRAME_HELLO && !is_leave) || frame->number != 0)
        return PYGLUE_E_PROTOCOL;
    if (wkr_input_take(&thread->first, &hello, sizeof hello))
        return PYGLUE_E_GONE;
    if (hello.version != PYGLUE_WIRE_VERSION)
        return PYGLUE_E_VERSION;
    if (!is_same_key(hello.key, own->key) || hello.worker != own->number)
        return PYGLUE_E_PROTOCOL;
    return is_leave ? obey_leave(thread->pool, conn, &hello) : answer_hello(thread, conn);
}

/* Requests. */

static int place_take(wkr_pool_t *pool) {
    unsigned running = atomic_fetch_add(&pool->running, 1);

    if (running < pool->settings.threads)
        return 1;
    atomic_fetch_sub(&pool->running, 1);
    return 0;
}

static void place_give(wkr_pool_t *pool) {
    atomic_fetch_sub(&pool->running, 1);
}

static void count_served(wkr_pool_t *pool) {
    if (atomic_fetch_add(&pool->served, 1) + 1 == pool->settings.maximum_requests)
        wkr_pool_tell(pool, WKR_EVENT_MAXIMUM);
}

/* Frames that the child sent before it saw END: it may still have said GONE, or that it wants no
 * more of a file. They ask for nothing. */
static int is_belated(const pyglue_frame_t *frame, const pyglue_pull_t *pull) {
    return frame->type == PYGLUE_FRAME_GONE ||
           (frame->type == PYGLUE_FRAME_PULL && pull->length == 0);
}

static int take_belated(wkr_input_t *in, const pyglue_frame_t *frame) {
    pyglue_pull_t pull = {0};

    if (frame->type == PYGLUE_FRAME_PULL && wkr_input_take(in, &pull, sizeof pull))
        return PYGLUE_E_GONE;
    return is_belated(frame, &pull) ? 0 : PYGLUE_E_PROTOCOL;
}

static int settle(wkr_input_t *in) {
    pyglue_frame_t frame;
    int rv = 0;

    while (rv == 0 && wkr_input_rest(in) > 0) {
        rv = wkr_input_frame(in, &frame, WKR_LOOK);
        rv = rv < 0 ? rv : take_belated(in, &frame);
    }
    return rv;
}

/* A child of the application that came back from the application, instead of exiting, must not go
 * on as a second worker. */
static void end_if_forked(const wkr_pool_t *pool) {
    if (atomic_load(&pool->is_forked))
        _exit(0);
}

/* queue_timeout: as in mod_wsgi, where the worker looks how old a request is before it runs it. */
static pyglue_outcome_t refuse_late(wkr_thread_t *thread) {
    pyglue_host_t *host = &thread->host.host;

    host->ops->log(host, PYGLUE_LEVEL_ERROR,
                   pyglue_str("PG2040: this request was not run: the worker's Python was busy with "
                              "others for longer than queue-timeout="));
    return (pyglue_outcome_t){PYGLUE_FAILED, 504};
}

/* The place is given back before END is sent: the child may send the next request as soon as it
 * sees END, on any connection, and would be refused for a place that nobody uses. */
static int call_engine(wkr_thread_t *thread, const pyglue_snapshot_t *snapshot) {
    wkr_pool_t *pool = thread->pool;
    pyglue_outcome_t outcome = {PYGLUE_FAILED, 500};
    int rv;

    pyglue_record_enter(pool->record, thread->slot, snapshot, wkr_now_ms());
    pool->ops->call(pool->engine, snapshot, &thread->host.host, &outcome);
    end_if_forked(pool);
    if (thread->host.is_late)
        outcome = refuse_late(thread);
    place_give(pool);
    rv = wkr_host_end(&thread->host, outcome);
    pyglue_record_leave(pool->record, thread->slot);
    count_served(pool);
    return rv;
}

/* strict_reload: whoever asks after a change never gets what was loaded before it. */
static int is_stale(const wkr_pool_t *pool, const pyglue_snapshot_t *snapshot) {
    return pool->settings.strict_reload && !pool->ops->is_current(pool->engine, snapshot);
}

static int refuse_stale(wkr_thread_t *thread, uint64_t number) {
    wkr_pool_tell(thread->pool, WKR_EVENT_STALE);
    return wkr_exchange_refuse(thread->pool, thread->first.fd, number, PYGLUE_REFUSED_LEAVING);
}

/* With a place taken; it is given back in any case. */
static int run_request(wkr_thread_t *thread, const pyglue_frame_t *frame) {
    const pyglue_snapshot_t *snapshot;
    const char *payload;
    pyglue_str_t body;
    int rv = wkr_input_whole(&thread->first, frame, &payload);

    if (rv == 0)
        rv = pyglue_request_get(&snapshot, &body, payload, frame->length);
    if (rv == 0 && (snapshot->number != frame->number || frame->number == 0))
        rv = PYGLUE_E_PROTOCOL;
    if (rv == 0 && is_stale(thread->pool, snapshot)) {
        place_give(thread->pool);
        return refuse_stale(thread, frame->number);
    }
    if (rv == 0)
        rv = wkr_input_adopt(&thread->control, &thread->first);
    if (rv != 0) {
        place_give(thread->pool);
        return rv;
    }
    wkr_host_begin(&thread->host, frame->number, body, frame->flags & PYGLUE_BODY_END,
                   thread->pool->settings.pass_descriptors &&
                       (snapshot->flags & PYGLUE_REQ_SENDFILE));
    thread->host.interims = (uint8_t)pyglue_snapshot_interims(snapshot);
    if (thread->pool->settings.queue_timeout > 0)
        thread->host.begin_by = wkr_now_ms() + thread->pool->settings.queue_timeout;
    rv = call_engine(thread, snapshot);
    return rv != 0 ? rv : settle(&thread->control);
}

/* REFUSE goes out before the body is read. */
static int turn_away(wkr_thread_t *thread, const pyglue_frame_t *frame, uint32_t why) {
    int rv = wkr_exchange_refuse(thread->pool, thread->first.fd, frame->number, why);

    return rv != 0 ? rv : wkr_input_take(&thread->first, NULL, frame->length);
}

static int serve_request(wkr_thread_t *thread, const pyglue_frame_t *frame) {
    wkr_pool_t *pool = thread->pool;

    if (!place_take(pool))
        return turn_away(thread, frame, PYGLUE_REFUSED_BUSY);
    if (atomic_load(&pool->is_leaving)) {
        place_give(pool);
        return turn_away(thread, frame, PYGLUE_REFUSED_LEAVING);
    }
    if (pool->settings.startup_timeout > 0)
        wkr_pool_begin(pool);
    return run_request(thread, frame);
}

int wkr_exchange_frame(wkr_thread_t *thread, wkr_conn_t *conn) {
    pyglue_frame_t frame;
    int rv = wkr_input_frame(&thread->first, &frame, WKR_LOOK);

    if (rv <= 0)
        return rv;
    if (!conn->is_greeted)
        rv = greet(thread, conn, &frame);
    else if (frame.type == PYGLUE_FRAME_REQUEST)
        rv = serve_request(thread, &frame);
    else
        rv = take_belated(&thread->first, &frame);
    return rv != 0 ? rv : 1;
}
