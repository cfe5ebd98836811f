/* SPDX-License-Identifier: Apache-2.0 */
/* One connection's bytes: frames in, within bounds and a deadline for each whole frame; bytes out.
 * Knows nothing of requests. Above: host.c and pool.c; below: bridge/frame.h and the socket. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "worker.h"

void wkr_input_reset(wkr_input_t *in, int fd) {
    free(in->large);
    in->large = NULL;
    in->fd = fd;
    in->begin = in->end = 0;
    in->deadline = 0;
}

/* Waits for more of a frame that has begun. The clock is asked only when something is missing. */
static int wait_for_rest(wkr_input_t *in) {
    struct pollfd p = {.fd = in->fd, .events = POLLIN};
    uint64_t now = wkr_now_ms();

    if (in->deadline == 0)
        in->deadline = now + in->timeout;
    if (now >= in->deadline)
        return PYGLUE_E_TIMEOUT;
    if (poll(&p, 1, (int)(in->deadline - now)) < 0 && errno != EINTR)
        return PYGLUE_E_IO;
    return 0;
}

enum nothing { NOTHING_RETURN, NOTHING_WAIT, NOTHING_DEADLINE };

/* One successful recv: the count, 0 for "nothing there" (NOTHING_RETURN), or an error. */
static ssize_t receive(wkr_input_t *in, void *at, size_t room, enum nothing mode) {
    for (;;) {
        ssize_t got = recv(in->fd, at, room, mode == NOTHING_WAIT ? 0 : MSG_DONTWAIT);
        int rv;

        if (got > 0)
            return got;
        if (got == 0 || errno == ECONNRESET || errno == EBADF)
            return PYGLUE_E_GONE;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return PYGLUE_E_IO;
        if (mode == NOTHING_RETURN)
            return 0;
        if (mode == NOTHING_DEADLINE && (rv = wait_for_rest(in)))
            return rv;
    }
}

/* Moves what is at hand to the start of the memory. */
static void compact(wkr_input_t *in) {
    if (in->begin > 0)
        memmove(in->bytes, in->bytes + in->begin, in->end - in->begin);
    in->end -= in->begin;
    in->begin = 0;
}

/* At least `want` bytes at hand, in one piece; want <= size. 1, 0 (nothing at all) or an error. */
static int gather(wkr_input_t *in, size_t want, enum nothing when_empty) {
    if (in->begin == in->end)
        in->begin = in->end = 0;
    if (in->begin + want > in->size)
        compact(in);
    while (wkr_input_rest(in) < want) {
        ssize_t got = receive(in, in->bytes + in->end, in->size - in->end,
                              wkr_input_rest(in) == 0 ? when_empty : NOTHING_DEADLINE);

        if (got <= 0)
            return (int)got;
        in->end += (size_t)got;
    }
    return 1;
}

int wkr_input_frame(wkr_input_t *in, pyglue_frame_t *frame, enum wkr_patience patience) {
    pyglue_bounds_t bounds = pyglue_bounds_default;
    int rv;

    in->deadline = 0;
    rv = gather(in, sizeof *frame, patience == WKR_WAIT ? NOTHING_WAIT : NOTHING_RETURN);
    if (rv <= 0)
        return rv;
    bounds.request = in->request_max;
    rv = pyglue_frame_get(frame, in->bytes + in->begin, PYGLUE_FROM_CHILD, &bounds);
    if (rv != 0)
        return rv;
    in->begin += sizeof *frame;
    return 1;
}

int wkr_input_take(wkr_input_t *in, void *buf, size_t len) {
    size_t at_hand = wkr_input_rest(in) < len ? wkr_input_rest(in) : len;
    size_t done = at_hand;

    if (buf != NULL && at_hand > 0)
        memcpy(buf, in->bytes + in->begin, at_hand);
    in->begin += at_hand;
    while (done < len) {
        /* Nothing is at hand now, so the own memory is free to throw bytes away in. */
        size_t room = buf == NULL && len - done > in->size ? in->size : len - done;
        ssize_t got =
            receive(in, buf != NULL ? (char *)buf + done : in->bytes, room, NOTHING_DEADLINE);

        if (got < 0)
            return (int)got;
        done += (size_t)got;
    }
    return 0;
}

int wkr_input_whole(wkr_input_t *in, const pyglue_frame_t *frame, const char **payload) {
    int rv;

    if (frame->length > in->size) {
        free(in->large);
        in->large = malloc(frame->length);
        if (in->large == NULL)
            return PYGLUE_E_NOMEM;
        *payload = in->large;
        return wkr_input_take(in, in->large, frame->length);
    }
    if (in->begin % sizeof(uint64_t) != 0)
        compact(in);
    rv = frame->length > 0 ? gather(in, frame->length, NOTHING_DEADLINE) : 1;
    if (rv < 0)
        return rv;
    *payload = in->bytes + in->begin;
    in->begin += frame->length;
    return 0;
}

int wkr_input_adopt(wkr_input_t *in, wkr_input_t *from) {
    size_t rest = wkr_input_rest(from);

    wkr_input_reset(in, from->fd);
    if (rest > in->size)
        return PYGLUE_E_PROTOCOL;
    if (rest > 0)
        memcpy(in->bytes, from->bytes + from->begin, rest);
    in->end = rest;
    from->end = from->begin;
    return 0;
}

static int send_error(void) {
    return errno == EAGAIN ? PYGLUE_E_TIMEOUT : PYGLUE_E_GONE;
}

int wkr_send(int fd, struct iovec *v, size_t count) {
    struct msghdr message = {.msg_iov = v, .msg_iovlen = count};

    while (message.msg_iovlen > 0) {
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return send_error();
        while (message.msg_iovlen > 0 && (size_t)sent >= message.msg_iov->iov_len) {
            sent -= (ssize_t)message.msg_iov->iov_len;
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (message.msg_iovlen > 0) {
            message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
            message.msg_iov->iov_len -= (size_t)sent;
        }
    }
    return 0;
}

int wkr_send_small(int fd, const pyglue_frame_t *frame, const void *payload) {
    char bytes[sizeof *frame + sizeof(pyglue_hello_t)];
    size_t size = sizeof *frame + frame->length;

    memcpy(bytes, frame, sizeof *frame);
    if (frame->length > 0)
        memcpy(bytes + sizeof *frame, payload, frame->length);
    for (size_t done = 0; done < size;) {
        ssize_t sent = send(fd, bytes + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno != EINTR)
            return send_error();
        done += sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}
