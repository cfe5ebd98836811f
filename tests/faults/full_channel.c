/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into httpd: the socket to the supervisor is full for each kind of message (docs/plan.md
 * section 2) for which a file PYGLUE_TEST_FULL/KIND exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int is_channel(int fd) {
    int type = 0;
    socklen_t size = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

static int is_full(const struct msghdr *message) {
    const char *folder = getenv("PYGLUE_TEST_FULL");
    char path[PATH_MAX];

    if (folder == NULL)
        return 0;
    snprintf(path, sizeof path, "%s/%u", folder, *(const uint32_t *)message->msg_iov[0].iov_base);
    return access(path, F_OK) == 0;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    ssize_t (*real)(int, const struct msghdr *, int);

    if (is_channel(fd) && is_full(message)) {
        errno = EAGAIN;
        return -1;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "sendmsg");
    return real(fd, message, flags);
}
