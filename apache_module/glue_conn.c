/* SPDX-License-Identifier: Apache-2.0 */
/* One request's connection to a worker. Up: glue_exchange.c; down: glue_link.c and the codec.
 * Sockets are blocking with a timeout, so that the usual exchange needs no poll: who wakes from it,
 * or from a signal (prefork: HTTPD 1), looks at its own deadline and goes on. */
#include "glue_conn.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "glue_ahead.h"
#include "glue_buffer.h"
#include "glue_clock.h"
#include "glue_janitor.h"
#include "glue_link.h"
#include "glue_watchdog.h"

struct glue_conn {
    glue_link_t link;               /* fd -1: it was let go at the end of the response */
    const glue_conn_terms_t *terms; /* of the use in progress */
    char *buffer;                   /* of GLUE_BUFFER bytes */
    size_t start, end;              /* what lies in it */
    size_t left;                    /* payload bytes of the current frame not yet given */
    apr_time_t frame_deadline;      /* of the current frame */
    int is_torn;                    /* a frame was sent in part: nothing can follow */
    glue_ahead_t ahead;             /* what was received behind the buffer, if anything */
    const glue_place_t *place;      /* of the request, while it is lent */
    const int *wake;                /* eventfd of who waits for the end; NULL: nobody does */
};

/* Waiting. */

/* Blocks for less than a slice. 0 when the call may be tried without blocking, or E_TIMEOUT. */
static int wait_for(int fd, short events, apr_time_t deadline) {
    for (;;) {
        apr_interval_time_t left = deadline - glue_clock_now();
        struct pollfd p = {.fd = fd, .events = events};

        if (left <= 0)
            return PYGLUE_E_TIMEOUT;
        if (poll(&p, 1, (int)((left + 999) / 1000)) > 0)
            return 0;
    }
}

/* The deadline that applies to sending now, and how to send: blocking for a slice while the
 * deadline is farther away than that. 0 or E_TIMEOUT. */
static int prepare(int fd, short events, apr_time_t deadline, int *flags) {
    *flags = 0;
    if (deadline - glue_clock_now() > GLUE_LINK_SLICE)
        return 0;
    *flags = MSG_DONTWAIT;
    return wait_for(fd, events, deadline);
}

/* Receives at least one byte, of what was read ahead first. The count, or E_TIMEOUT, E_IO. No
 * control buffer: a descriptor sent where none was asked for is discarded by the kernel. */
static ssize_t receive(glue_conn_t *conn, void *memory, size_t len, apr_time_t deadline) {
    if (glue_spool_held(&conn->ahead.spool) > 0)
        return glue_spool_take(&conn->ahead.spool, memory, len);
    for (;;) {
        apr_interval_time_t left = deadline - glue_clock_now();
        int is_near = left <= GLUE_LINK_SLICE;
        ssize_t got;

        if (left <= 0)
            return PYGLUE_E_TIMEOUT;
        got = glue_watchdog_recv(conn->link.fd, memory, len, is_near ? MSG_DONTWAIT : 0);
        if (got > 0)
            return got;
        if (got == 0 || (errno != EINTR && errno != EAGAIN))
            return PYGLUE_E_IO;
        /* What is there already costs no poll, also where a deadline is near. */
        if (is_near && errno == EAGAIN && wait_for(conn->link.fd, POLLIN, deadline))
            return PYGLUE_E_TIMEOUT;
    }
}

/* Reading frames. */

/* Brings at least `wanted` bytes (at most a header) into the buffer. */
static int fill(glue_conn_t *conn, size_t wanted, apr_time_t deadline) {
    if (conn->start == conn->end)
        conn->start = conn->end = 0;
    if (conn->start + wanted > GLUE_BUFFER) {
        memmove(conn->buffer, conn->buffer + conn->start, conn->end - conn->start);
        conn->end -= conn->start;
        conn->start = 0;
    }
    while (conn->end - conn->start < wanted) {
        size_t room = conn->terms->takes_descriptors ? wanted - (conn->end - conn->start)
                                                     : GLUE_BUFFER - conn->end;
        ssize_t got = receive(conn, conn->buffer + conn->end, room, deadline);

        if (got < 0)
            return conn->end > conn->start && got == PYGLUE_E_TIMEOUT ? PYGLUE_E_PROTOCOL
                                                                      : (int)got;
        /* The first byte of a frame starts its own clock. */
        if (conn->end == conn->start)
            deadline = conn->frame_deadline = glue_clock_now() + conn->terms->frame_timeout;
        conn->end += (size_t)got;
    }
    return 0;
}

static int skip(glue_conn_t *conn) {
    pyglue_str_t part;
    int error = 0;

    while (error == 0 && conn->left > 0)
        error = glue_conn_part(conn, &part, GLUE_BUFFER);
    return error;
}

int glue_conn_frame(glue_conn_t *conn, pyglue_frame_t *frame, apr_time_t deadline) {
    int error = skip(conn);

    /* Bytes of it that came with the frame before: its first byte is here now. */
    if (conn->end > conn->start)
        deadline = conn->frame_deadline = glue_clock_now() + conn->terms->frame_timeout;
    if (error == 0)
        error = fill(conn, sizeof *frame, deadline);
    if (error == 0)
        error = pyglue_frame_get(frame, conn->buffer + conn->start, PYGLUE_FROM_WORKER,
                                 conn->terms->bounds);
    if (error != 0)
        return error;
    conn->start += sizeof *frame;
    conn->left = frame->length;
    return 0;
}

int glue_conn_part(glue_conn_t *conn, pyglue_str_t *part, size_t most) {
    size_t have;
    int error = 0;

    *part = (pyglue_str_t){NULL, 0};
    if (conn->left == 0 || most == 0)
        return 0;
    if (conn->start == conn->end) {
        /* All of it at once where it fits, without reading into the frame behind it if need be. */
        size_t wanted = conn->left < most ? conn->left : most;
        size_t room = conn->terms->takes_descriptors && wanted < GLUE_BUFFER ? wanted : GLUE_BUFFER;
        ssize_t got = receive(conn, conn->buffer, room, conn->frame_deadline);

        error = got == PYGLUE_E_TIMEOUT ? PYGLUE_E_PROTOCOL : got < 0 ? (int)got : 0;
        conn->start = 0;
        conn->end = got < 0 ? 0 : (size_t)got;
    }
    have = conn->end - conn->start;
    have = have < conn->left ? have : conn->left;
    *part = (pyglue_str_t){conn->buffer + conn->start, have < most ? have : most};
    conn->start += part->len;
    conn->left -= part->len;
    return error;
}

void glue_conn_paused(glue_conn_t *conn, apr_interval_time_t time) {
    conn->frame_deadline += time;
}

int glue_conn_copy(glue_conn_t *conn, void *memory, size_t len) {
    for (size_t done = 0; done < len;) {
        pyglue_str_t part;
        int error = glue_conn_part(conn, &part, len - done);

        if (error == 0 && part.len == 0)
            error = PYGLUE_E_PROTOCOL;
        if (error != 0)
            return error;
        memcpy((char *)memory + done, part.ptr, part.len);
        done += part.len;
    }
    return 0;
}

int glue_conn_socket(const glue_conn_t *conn) {
    return conn->link.fd;
}

size_t glue_conn_at_hand(const glue_conn_t *conn) {
    size_t held = conn->end - conn->start + glue_spool_held(&conn->ahead.spool);
    int queued = 0;

    if (ioctl(conn->link.fd, FIONREAD, &queued) == 0 && queued > 0)
        held += (size_t)queued;
    return held > conn->left ? held - conn->left : 0;
}

int glue_conn_has_more(glue_conn_t *conn) {
    struct pollfd p = {.fd = conn->link.fd, .events = POLLIN};

    return conn->end > conn->start || glue_spool_held(&conn->ahead.spool) > 0 || poll(&p, 1, 0) > 0;
}

/* CMSG_SPACE of one int has room for two descriptors (TENANTS 5): the length says exactly one. */
int glue_conn_descriptor(glue_conn_t *conn, int *fd) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = CMSG_LEN(sizeof(int))};
    struct cmsghdr *c;
    ssize_t got;

    *fd = -1;
    if (conn->end > conn->start || wait_for(conn->link.fd, POLLIN, conn->frame_deadline))
        return PYGLUE_E_PROTOCOL;
    do
        got = recvmsg(conn->link.fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    c = got == 1 ? CMSG_FIRSTHDR(&m) : NULL;
    if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
        c->cmsg_len != CMSG_LEN(sizeof(int)))
        return PYGLUE_E_PROTOCOL;
    memcpy(fd, CMSG_DATA(c), sizeof *fd);
    if (!(m.msg_flags & MSG_CTRUNC))
        return 0;
    glue_janitor_close(*fd);
    *fd = -1;
    return PYGLUE_E_PROTOCOL;
}

/* Sending. */

/* Takes `sent` bytes off the front. */
static void advance(struct msghdr *m, size_t sent) {
    while (m->msg_iovlen > 0 && sent >= m->msg_iov->iov_len) {
        sent -= m->msg_iov->iov_len;
        m->msg_iov++;
        m->msg_iovlen--;
    }
    if (m->msg_iovlen > 0) {
        m->msg_iov->iov_base = (char *)m->msg_iov->iov_base + sent;
        m->msg_iov->iov_len -= sent;
    }
}

int glue_conn_send(glue_conn_t *conn, struct iovec *v, int n) {
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
    apr_time_t deadline = glue_clock_now() + conn->terms->frame_timeout;

    if (conn->is_torn || conn->link.fd < 0)
        return PYGLUE_E_STATE;
    conn->is_torn = 1; /* until all of it is sent */
    while (m.msg_iovlen > 0) {
        int flags, error = prepare(conn->link.fd, POLLOUT, deadline, &flags);
        ssize_t sent = error ? 0 : sendmsg(conn->link.fd, &m, flags | MSG_NOSIGNAL);

        if (error)
            return error;
        if (sent >= 0)
            advance(&m, (size_t)sent);
        else if (errno == EPIPE || errno == ECONNRESET)
            return PYGLUE_E_REFUSED;
        else if (errno != EINTR && errno != EAGAIN)
            return PYGLUE_E_IO;
    }
    conn->is_torn = 0;
    return 0;
}

/* Connecting. */

static int greet(glue_conn_t *conn, const pyglue_worker_entry_t *worker, apr_time_t deadline) {
    apr_time_t patience = glue_clock_now() + conn->terms->hello_timeout;
    pyglue_hello_t hello = {.version = PYGLUE_WIRE_VERSION, .worker = worker->number};
    pyglue_frame_t frame = pyglue_frame(PYGLUE_FRAME_HELLO, 0, 0, sizeof hello);
    struct iovec v[] = {{&frame, sizeof frame}, {&hello, sizeof hello}};
    int error;

    memcpy(hello.key, worker->key, sizeof hello.key);
    error = glue_conn_send(conn, v, 2);
    if (error == 0)
        error = glue_conn_frame(conn, &frame, patience < deadline ? patience : deadline);
    /* One that leaves closes what it had not yet accepted. */
    if (error == PYGLUE_E_IO || (error == 0 && frame.type == PYGLUE_FRAME_GOODBYE))
        return PYGLUE_E_REFUSED;
    if (error == PYGLUE_E_TOO_BIG ||
        (error == 0 && (frame.type != PYGLUE_FRAME_HELLO || frame.number != 0)))
        error = PYGLUE_E_PROTOCOL;
    if (error == 0)
        error = glue_conn_copy(conn, &hello, sizeof hello);
    if (error == 0 && hello.version != PYGLUE_WIRE_VERSION)
        error = PYGLUE_E_VERSION;
    if (error == 0 && hello.worker != worker->number)
        error = PYGLUE_E_PROTOCOL;
    return error;
}

static int open_new(glue_conn_t *conn, const pyglue_worker_entry_t *worker, apr_time_t deadline) {
    int error;

    glue_link_sweep();
    error = glue_link_open(&conn->link, worker);
    return error ? error : greet(conn, worker, deadline);
}

/* From request to request. */

int glue_conn_get(glue_conn_t **conn, const pyglue_worker_entry_t *worker,
                  const glue_conn_terms_t *terms, apr_time_t deadline) {
    glue_conn_t *c = calloc(1, sizeof *c);
    int error = 0, reason;

    *conn = NULL;
    if (c == NULL)
        return PYGLUE_E_NOMEM;
    c->link.fd = -1;
    c->terms = terms;
    c->buffer = glue_buffer_get();
    if (c->buffer == NULL)
        error = PYGLUE_E_NOMEM;
    else if (!glue_link_take(&c->link, worker->number))
        error = open_new(c, worker, deadline);
    reason = errno;
    if (error == 0)
        glue_link_admit(&c->link, terms->takes_descriptors);
    else
        glue_conn_close(c);
    errno = reason;
    *conn = error ? NULL : c;
    return error;
}

/* All but the socket. */
static void release(glue_conn_t *conn) {
    glue_spool_end(&conn->ahead.spool);
    glue_buffer_put(conn->buffer);
    free(conn);
}

void glue_conn_put(glue_conn_t *conn) {
    if (conn->left > 0 || conn->is_torn || glue_conn_is_over(conn) || conn->end > conn->start ||
        glue_spool_held(&conn->ahead.spool) > 0) {
        glue_conn_close(conn);
        return;
    }
    glue_link_keep(&conn->link);
    release(conn);
}

void glue_conn_give_up(glue_conn_t *conn, const glue_place_t *place) {
    pyglue_str_t read = {conn->buffer + conn->start, conn->end - conn->start};
    glue_walk_t walk = {.skip = conn->left};

    if (glue_spool_held(&conn->ahead.spool) > 0) {
        walk = conn->ahead.walk;
        read.len = 0;
    }
    glue_janitor_watch(conn->link.fd, place, &walk, read);
    release(conn);
}

/* A descriptor that nobody asked for may lie unread in the socket, and its close may block whoever
 * closes the socket: the janitor's thread (TENANTS 5). */
void glue_conn_close(glue_conn_t *conn) {
    if (conn->link.fd >= 0)
        glue_janitor_close(conn->link.fd);
    release(conn);
}

/* Reading ahead. */

/* The whole response is here, in buffer and spool: the socket goes back to the idle ones, and the
 * place to its worker. What the frames say is not known yet; that they are frames, and that nothing
 * is between requests, is. */
static void let_go(glue_ahead_t *ahead) {
    glue_conn_t *conn =
        (glue_conn_t *)(void *)((char *)ahead - APR_OFFSETOF(struct glue_conn, ahead));

    if (ahead->is_spoilt || conn->is_torn)
        glue_janitor_close(conn->link.fd);
    else
        glue_link_keep(&conn->link);
    conn->link.fd = -1;
    glue_place_give(conn->place);
    if (conn->wake != NULL)
        eventfd_write(*conn->wake, 1);
}

void glue_conn_lend(glue_conn_t *conn, const glue_loan_t *loan) {
    glue_ahead_t *ahead = &conn->ahead;

    /* Whoever has taken END decides what becomes of the connection. */
    if (conn->link.fd < 0 || conn->terms->spool == 0 || loan->order->state == PYGLUE_EXCHANGE_ENDED)
        return;
    conn->place = loan->place;
    ahead->asked = loan->file_asked;
    if (glue_spool_held(&ahead->spool) == 0) {
        ahead->spool.most = conn->terms->spool;
        ahead->bounds = conn->terms->bounds;
        ahead->fd = conn->link.fd;
        ahead->whole_frames = conn->terms->takes_descriptors;
        ahead->ended = let_go;
        ahead->is_spoilt = loan->is_leaving;
        ahead->taken = loan->file_taken;
        glue_ahead_begin(ahead, loan->order, conn->left,
                         (pyglue_str_t){conn->buffer + conn->start, conn->end - conn->start});
    }
    glue_ahead_lend(ahead, loan->is_slow);
}

void glue_conn_take_back(glue_conn_t *conn, request_rec *r) {
    if (conn->terms->spool == 0)
        return;
    glue_ahead_take_back(&conn->ahead);
    glue_spool_tell(&conn->ahead.spool, "the body of a response", r);
}

/* Lent with somebody to be woken: without a descriptor for that only the client ends it. */
static int await_lent(glue_conn_t *conn, const glue_loan_t *loan, int client, int timeout) {
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), result;
    struct pollfd p[] = {{.fd = client, .events = POLLOUT}, {.fd = wake, .events = POLLIN}};

    conn->wake = wake >= 0 ? &wake : NULL;
    if (loan != NULL)
        glue_conn_lend(conn, loan);
    result = poll(p, 2, timeout);
    glue_ahead_take_back(&conn->ahead);
    conn->wake = NULL;
    if (wake >= 0)
        close(wake);
    return result == 0 ? PYGLUE_E_TIMEOUT : 0;
}

int glue_conn_await(glue_conn_t *conn, const glue_loan_t *loan, int client,
                    apr_interval_time_t timeout) {
    int error = 0;

    glue_ahead_take_back(&conn->ahead);
    if (!glue_conn_is_over(conn)) {
        error = await_lent(conn, loan, client, timeout < 0 ? -1 : (int)apr_time_as_msec(timeout));
        if (loan != NULL)
            glue_conn_lend(conn, loan);
    }
    return glue_conn_is_over(conn) ? 1 : error;
}

int glue_conn_is_over(const glue_conn_t *conn) {
    return conn->link.fd < 0;
}

apr_off_t glue_conn_spooled(const glue_conn_t *conn) {
    return glue_spool_held(&conn->ahead.spool);
}
