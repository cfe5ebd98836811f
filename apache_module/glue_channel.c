/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of httpd's parent to the supervisor: docs/plan.md 2. */
#include "glue_channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOGS_A_MESSAGE 250

enum { PLAN = 1, LOGS = 2, STOP = 3 };

typedef struct message {
    uint32_t kind, version, a, b;
    uint64_t plan;
} message_t;

/* 0, or errno. */
static int send_message(int channel, message_t *message, const int *fds, int count) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(LOGS_A_MESSAGE * sizeof(int))];
    } control;
    struct iovec v = {message, sizeof *message};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

    if (count > 0) {
        struct cmsghdr *c;

        memset(&control, 0, sizeof control);
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)count * sizeof(int));
    }
    return sendmsg(channel, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

int glue_channel_send_plan(int channel, int *sent_logs, const glue_outgoing_t *plan) {
    const apr_array_header_t *logs = plan->logs;
    int error = 0;

    if (*sent_logs < 0) {
        message_t message = {PLAN, 1, (uint32_t)logs->nelts, 0, plan->number};

        error = send_message(channel, &message, &plan->fd, 1);
        if (error == 0)
            *sent_logs = 0;
    }
    while (error == 0 && *sent_logs < logs->nelts) {
        int left = logs->nelts - *sent_logs, n = left < LOGS_A_MESSAGE ? left : LOGS_A_MESSAGE;
        message_t message = {LOGS, 1, (uint32_t)*sent_logs, (uint32_t)n, plan->number};

        error = send_message(channel, &message, &APR_ARRAY_IDX(logs, *sent_logs, const int), n);
        if (error == 0)
            *sent_logs += n;
    }
    return error;
}

int glue_channel_send_stop(int channel, enum glue_stop how, uint64_t plan) {
    message_t message = {STOP, 1, how, 0, plan};

    return send_message(channel, &message, NULL, 0);
}

static int write_all(int fd, const char *text, apr_size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0)
            return PYGLUE_E_IO;
        text += n;
        len -= (apr_size_t)n;
    }
    return 0;
}

int glue_channel_seal(int *fd, const char *text, apr_size_t len) {
    *fd = memfd_create("pyglue-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0 || fchmod(*fd, 0600) != 0 || write_all(*fd, text, len) != 0)
        return -1;
    return fcntl(*fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}
