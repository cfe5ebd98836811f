/* SPDX-License-Identifier: Apache-2.0 */
/* The listener of a worker: who may connect, what a new socket is set to, and what happens when
 * this process is short of descriptors. Up: pool.c. Down: owner.c. */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "pool.h"

#define SEND_BUFFER (256 * 1024) /* so that a block of PYGLUE_FRAME_BODY_MAX rarely waits */
#define NO_DESCRIPTOR_PAUSE 100  /* ms before accepting again when descriptors ran out */

int wkr_accept_peer(uid_t *uid, int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
        return PYGLUE_E_IO;
    *uid = peer.uid;
    return 0;
}

int wkr_accept_is_of(int fd, uid_t wanted) {
    uid_t uid;

    return wkr_accept_peer(&uid, fd) == 0 && uid == wanted;
}

/* httpd's children, for requests; the supervisor's user, to say LEAVE. */
static int is_welcome(const wkr_pool_t *pool, int fd) {
    return wkr_accept_is_of(fd, pool->settings.peer_uid) || wkr_accept_is_of(fd, pool->supervisor);
}

/* 0: the system's. */
static void set_buffer(int fd, int option, int size) {
    if (size > 0)
        setsockopt(fd, SOL_SOCKET, option, &size, sizeof size);
}

static void prepare(const wkr_pool_t *pool, int fd) {
    const wkr_settings_t *own = &pool->settings;
    const uint32_t ms = own->socket_timeout;
    const struct timeval patience = {ms / 1000, (ms % 1000) * 1000};

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    set_buffer(fd, SO_SNDBUF, own->send_buffer ? (int)own->send_buffer : SEND_BUFFER);
    set_buffer(fd, SO_RCVBUF, (int)own->receive_buffer);
}

static void take_connection(wkr_pool_t *pool, int fd) {
    wkr_conn_t *conn;

    if (!is_welcome(pool, fd)) {
        wkr_say("PG2002: a connection to this worker's socket was not of httpd's user and was "
                "closed");
        close(fd);
        return;
    }
    prepare(pool, fd);
    conn = wkr_owner_new(pool, fd);
    if (conn == NULL)
        close(fd);
    else
        wkr_owner_arm(pool, conn, EPOLL_CTL_ADD);
}

int wkr_accept_pending(wkr_pool_t *pool) {
    for (;;) {
        int fd = accept4(pool->settings.listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0)
            take_connection(pool, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            return errno;
        else if (errno != EINTR && errno != ECONNABORTED)
            return 0; /* EAGAIN; or EINVAL: shut down by drain */
    }
}

int wkr_accept_arm(wkr_pool_t *pool, int operation) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = pool};

    return epoll_ctl(pool->epoll, operation, pool->settings.listener, &event);
}

/* Out of descriptors: the listener would be ready at once again, so wait a moment (no spinning). */
void wkr_accept_serve(wkr_pool_t *pool) {
    int why = wkr_accept_pending(pool);

    if (why != 0) {
        wkr_say("PG2003: no connection can be accepted: %s", strerror(why));
        poll(NULL, 0, NO_DESCRIPTOR_PAUSE);
    }
    if (!atomic_load(&pool->is_leaving))
        wkr_accept_arm(pool, EPOLL_CTL_MOD);
}
