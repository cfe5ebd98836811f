/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of httpd's children and who owns them: the epoll set (WKR_ARMED) or one thread
 * (WKR_OWNED). Whoever changes the one to the other owns it, so a connection is read, answered and
 * closed by one thread at a time. They are never freed before the pool, so a late event of a reused
 * one finds nothing to read and does no harm. Up: pool.c, accept.c, exchange.c. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool.h"

int wkr_owner_leaves_now_locked(wkr_pool_t *pool) {
    if (pool->open > 0 || !atomic_load(&pool->is_swept) || pool->has_left)
        return 0;
    pool->has_left = 1;
    return 1;
}

wkr_conn_t *wkr_owner_new(wkr_pool_t *pool, int fd) {
    wkr_conn_t *conn;

    pthread_mutex_lock(&pool->lock);
    conn = pool->free;
    if (conn != NULL) {
        pool->free = conn->next_free;
    } else if ((conn = calloc(1, sizeof *conn)) != NULL) {
        conn->next = pool->all;
        pool->all = conn;
    }
    if (conn != NULL) {
        conn->is_greeted = 0;
        atomic_store(&conn->is_supervisors, 0);
        atomic_store(&conn->fd, fd);
        atomic_store(&conn->owner, WKR_OWNED);
        pool->open++;
    }
    pthread_mutex_unlock(&pool->lock);
    return conn;
}

/* One connection less keeps the worker from leaving. */
static void uncount(wkr_pool_t *pool) {
    int leaves;

    pthread_mutex_lock(&pool->lock);
    pool->open--;
    leaves = wkr_owner_leaves_now_locked(pool);
    pthread_mutex_unlock(&pool->lock);
    if (leaves)
        wkr_pool_tell(pool, WKR_EVENT_LEFT);
}

/* fd is forgotten before it is closed, so that a fork in between closes no other. */
void wkr_owner_close(wkr_pool_t *pool, wkr_conn_t *conn) {
    int fd = atomic_exchange(&conn->fd, -1);
    int is_counted = !atomic_load(&conn->is_supervisors);

    if (fd >= 0)
        close(fd);
    pthread_mutex_lock(&pool->lock);
    atomic_store(&conn->owner, WKR_FREE);
    conn->next_free = pool->free;
    pool->free = conn;
    pthread_mutex_unlock(&pool->lock);
    if (is_counted)
        uncount(pool);
}

void wkr_owner_leave_out(wkr_pool_t *pool, wkr_conn_t *conn) {
    if (!atomic_exchange(&conn->is_supervisors, 1))
        uncount(pool);
}

int wkr_owner_claim(wkr_conn_t *conn) {
    int armed = WKR_ARMED;

    return atomic_compare_exchange_strong(&conn->owner, &armed, WKR_OWNED);
}

/* docs/wire.md 10. A request of which a part alone came is refused as well: its sender then knows
 * that it did not start. */
void wkr_owner_farewell(wkr_pool_t *pool, wkr_conn_t *conn) {
    char memory[WKR_CONTROL] __attribute__((aligned(8)));
    wkr_input_t in = {.size = sizeof memory,
                      .bytes = memory,
                      .timeout = pool->settings.socket_timeout,
                      .request_max = pool->settings.request_max};
    pyglue_frame_t frame = pyglue_frame(PYGLUE_FRAME_GOODBYE, 0, 0, 0);
    int fd = atomic_load(&conn->fd);

    wkr_send_small(fd, &frame, NULL);
    shutdown(fd, SHUT_RD);
    wkr_input_reset(&in, fd);
    while (wkr_input_frame(&in, &frame, WKR_LOOK) == 1) {
        if (frame.type == PYGLUE_FRAME_REQUEST)
            wkr_exchange_refuse(pool, fd, frame.number, PYGLUE_REFUSED_LEAVING);
        if (wkr_input_take(&in, NULL, frame.length))
            break;
    }
    wkr_owner_close(pool, conn);
}

/* Both this and drain look after they have written, so one sees the other; the claim decides which
 * of the two says goodbye. */
void wkr_owner_arm(wkr_pool_t *pool, wkr_conn_t *conn, int operation) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = conn};

    atomic_store(&conn->owner, WKR_ARMED);
    if (epoll_ctl(pool->epoll, operation, atomic_load(&conn->fd), &event)) {
        if (wkr_owner_claim(conn))
            wkr_owner_close(pool, conn);
    } else if (atomic_load(&pool->is_leaving) && !atomic_load(&conn->is_supervisors) &&
               wkr_owner_claim(conn)) {
        wkr_owner_farewell(pool, conn);
    }
}
