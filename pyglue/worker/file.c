/* SPDX-License-Identifier: Apache-2.0 */
/* The operation `file` on the wire: announced, and then handed over as a descriptor, where the
 * group may, or sent piece by piece as the child pulls it (docs/wire.md). Up: host.c. Down: wire.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wkr_wire.h"

/* The byte that carries the descriptor. A re-opened one, so that its position is httpd's alone. */
static int send_descriptor(wkr_host_t *host, int fd) {
    char byte = 0;
    struct iovec v = {&byte, 1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &v,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    ssize_t sent;

    *c = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    do
        sent = sendmsg(host->in->fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return wkr_wire_broken(host, errno == EAGAIN ? PYGLUE_E_TIMEOUT : PYGLUE_E_GONE);
    return 0;
}

static int reopen(int fd) {
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int file_by_descriptor(wkr_host_t *host, int fd, const pyglue_file_t *file) {
    if (wkr_wire_put_small(host, PYGLUE_FRAME_FILE, PYGLUE_FILE_DESCRIPTOR, file, sizeof *file) ||
        wkr_wire_flush(host))
        return PYGLUE_E_GONE;
    return send_descriptor(host, fd);
}

/* A file system without sendfile: the same bytes through the buffer. */
static ssize_t copy_some(wkr_host_t *host, int fd, off_t *at, size_t len) {
    ssize_t got = pread(fd, host->out, len < WKR_BUFFER ? len : WKR_BUFFER, *at);
    struct iovec v = {host->out, got > 0 ? (size_t)got : 0};

    if (got <= 0)
        return got;
    if (wkr_send(host->in->fd, &v, 1))
        return -1;
    *at += got;
    return got;
}

/* len promised bytes of the file. One that shrinks now leaves half a frame: no way but to close. */
static int send_range(wkr_host_t *host, int fd, off_t at, size_t len) {
    int can_sendfile = 1;

    while (len > 0) {
        ssize_t sent =
            can_sendfile ? sendfile(host->in->fd, fd, &at, len) : copy_some(host, fd, &at, len);

        if (sent > 0)
            len -= (size_t)sent;
        else if (sent < 0 && can_sendfile && (errno == EINVAL || errno == ENOSYS))
            can_sendfile = 0;
        else if (sent == 0 || errno != EINTR)
            return wkr_wire_broken(host, sent == 0         ? PYGLUE_E_IO
                                         : errno == EAGAIN ? PYGLUE_E_TIMEOUT
                                                           : PYGLUE_E_GONE);
    }
    return 0;
}

static int has_range(int fd, uint64_t end) {
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size >= end;
}

/* One PULL, answered by exactly one BODY. */
static int answer_pull(wkr_host_t *host, int fd, const pyglue_file_t *file,
                       const pyglue_pull_t *pull) {
    struct iovec v[2];
    pyglue_frame_t frame;

    if (pull->length > PYGLUE_FRAME_BODY_MAX || pull->offset > file->length ||
        pull->length > file->length - pull->offset)
        return wkr_wire_broken(host, PYGLUE_E_PROTOCOL);
    if (!has_range(fd, file->offset + pull->offset + pull->length)) {
        host->is_cut = 1;
        if (wkr_wire_put_small(host, PYGLUE_FRAME_BODY, PYGLUE_BODY_ERROR, NULL, 0))
            return PYGLUE_E_GONE;
        return wkr_wire_flush(host);
    }
    frame = pyglue_frame(PYGLUE_FRAME_BODY, 0, host->number, pull->length);
    v[1] = (struct iovec){&frame, sizeof frame};
    if (wkr_wire_send(host, v, 2))
        return PYGLUE_E_GONE;
    return send_range(host, fd, (off_t)(file->offset + pull->offset), pull->length);
}

static int file_by_pull(wkr_host_t *host, int fd, const pyglue_file_t *file) {
    pyglue_frame_t frame;
    pyglue_pull_t pull;

    if (wkr_wire_put_small(host, PYGLUE_FRAME_FILE, 0, file, sizeof *file) || wkr_wire_flush(host))
        return PYGLUE_E_GONE;
    for (;;) {
        int rv;

        if (wkr_wire_expect(host, &frame, PYGLUE_FRAME_PULL))
            return PYGLUE_E_GONE;
        rv = wkr_input_take(host->in, &pull, sizeof pull);
        if (rv != 0)
            return wkr_wire_broken(host, rv);
        if (pull.length == 0)
            return host->is_cut ? PYGLUE_E_IO : 0;
        if (answer_pull(host, fd, file, &pull))
            return PYGLUE_E_GONE;
    }
}

int wkr_file_send(wkr_host_t *host, int fd, const pyglue_file_t *file) {
    int own = host->can_pass ? reopen(fd) : -1, rv;

    if (own < 0)
        return file_by_pull(host, fd, file);
    rv = file_by_descriptor(host, own, file);
    close(own);
    return rv;
}
