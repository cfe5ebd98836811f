/* SPDX-License-Identifier: Apache-2.0 */
/* LD_PRELOAD: every call on the wire is interrupted, or does less than was asked for.
 *
 * The wire are stream sockets of AF_UNIX; all others are left alone. Of four calls one is EINTR,
 * the others move 1, 7 or 4096 bytes at most. A process in which that has happened leaves the file
 * PYGLUE_TEST_SHORT.PID. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PARTS_MAX = 8 };

static __thread unsigned turn;

static void tell(void) {
    static int is_told;
    const char *mark = getenv("PYGLUE_TEST_SHORT");
    char path[4096];

    if (is_told || mark == NULL)
        return;
    is_told = 1;
    snprintf(path, sizeof path, "%s.%d", mark, (int)getpid());
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
}

static int is_wire(int fd) {
    int domain = 0, type = 0, saved = errno;
    socklen_t size = sizeof domain;
    int is = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;

    size = sizeof type;
    is = is && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
    errno = saved;
    return is;
}

/* How much of this call is done; 0: it is interrupted. */
static size_t allowed(int fd, size_t wanted) {
    static const size_t most[] = {0, 1, 7, 4096};
    size_t some;

    if (wanted == 0 || !is_wire(fd))
        return wanted;
    tell();
    some = most[turn++ % 4];
    if (some == 0)
        errno = EINTR;
    return some < wanted ? some : wanted;
}

#define REAL(name, result, ...)                                                                    \
    static result (*real)(__VA_ARGS__);                                                            \
    if (real == NULL)                                                                              \
    real = (result(*)(__VA_ARGS__))(uintptr_t)dlsym(RTLD_NEXT, name)

ssize_t recv(int fd, void *memory, size_t size, int flags) {
    REAL("recv", ssize_t, int, void *, size_t, int);
    size_t some = flags & MSG_PEEK ? size : allowed(fd, size);

    return some == 0 && size > 0 ? -1 : real(fd, memory, some, flags);
}

ssize_t send(int fd, const void *memory, size_t size, int flags) {
    REAL("send", ssize_t, int, const void *, size_t, int);
    size_t some = allowed(fd, size);

    return some == 0 && size > 0 ? -1 : real(fd, memory, some, flags);
}

ssize_t read(int fd, void *memory, size_t size) {
    REAL("read", ssize_t, int, void *, size_t);
    size_t some = allowed(fd, size);

    return some == 0 && size > 0 ? -1 : real(fd, memory, some);
}

ssize_t write(int fd, const void *memory, size_t size) {
    REAL("write", ssize_t, int, const void *, size_t);
    size_t some = allowed(fd, size);

    return some == 0 && size > 0 ? -1 : real(fd, memory, some);
}

/* The first parts of a message, as far as `some` bytes go. */
static struct msghdr shortened(const struct msghdr *m, struct iovec parts[PARTS_MAX], size_t some) {
    struct msghdr less = *m;

    less.msg_iov = parts;
    less.msg_iovlen = 0;
    for (size_t i = 0; i < m->msg_iovlen && i < PARTS_MAX && some > 0; i++) {
        parts[i] = m->msg_iov[i];
        if (parts[i].iov_len > some)
            parts[i].iov_len = some;
        some -= parts[i].iov_len;
        less.msg_iovlen++;
    }
    return less;
}

static size_t total(const struct msghdr *m) {
    size_t size = 0;

    for (size_t i = 0; i < m->msg_iovlen; i++)
        size += m->msg_iov[i].iov_len;
    return size;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
    REAL("sendmsg", ssize_t, int, const struct msghdr *, int);
    struct iovec parts[PARTS_MAX];
    size_t size = total(m), some = allowed(fd, size);
    struct msghdr less = shortened(m, parts, some);

    if (some == 0 && size > 0)
        return -1;
    return some == size ? real(fd, m, flags) : real(fd, &less, flags);
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags) {
    REAL("recvmsg", ssize_t, int, struct msghdr *, int);

    return allowed(fd, total(m)) == 0 && total(m) > 0 ? -1 : real(fd, m, flags);
}

ssize_t sendfile64(int out, int in, off_t *offset, size_t size) {
    REAL("sendfile64", ssize_t, int, int, off_t *, size_t);
    size_t some = allowed(out, size);

    return some == 0 && size > 0 ? -1 : real(out, in, offset, some);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    REAL("accept4", int, int, struct sockaddr *, socklen_t *, int);

    return allowed(fd, 4) == 0 ? -1 : real(fd, address, size, flags);
}

int poll(struct pollfd *polled, nfds_t count, int timeout) {
    REAL("poll", int, struct pollfd *, nfds_t, int);

    return count > 0 && allowed(polled[0].fd, 4) == 0 ? -1 : real(polled, count, timeout);
}

int epoll_wait(int fd, struct epoll_event *events, int count, int timeout) {
    REAL("epoll_wait", int, int, struct epoll_event *, int, int);

    if (getenv("PYGLUE_TEST_SHORT_EPOLL") != NULL && turn++ % 4 == 0) {
        errno = EINTR;
        return -1;
    }
    return real(fd, events, count, timeout);
}
