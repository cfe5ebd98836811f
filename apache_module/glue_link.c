/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets to workers. Up: glue_conn.c. Down: glue_janitor.c, which closes what may block. */
#include "glue_link.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "glue_buffer.h"
#include "glue_janitor.h"
#include "glue_watchdog.h"

#define IDLE_MAX 256

static struct {
    pthread_mutex_t lock;       /* guards the two below */
    glue_link_t idle[IDLE_MAX]; /* the most recently used one last */
    int count;
    uid_t supervisor; /* frozen after child_init */
} here = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Connecting. */

/* The peer is whoever called listen: the supervisor, for that path alone (TENANTS 4). */
static int is_supervisors(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           peer.uid == here.supervisor;
}

void glue_link_admit(glue_link_t *link, int is_open) {
    if (link->admits_descriptors != is_open)
        setsockopt(link->fd, SOL_SOCKET, SO_PASSRIGHTS, &is_open, sizeof is_open);
    link->admits_descriptors = is_open;
}

static int set_up(const glue_link_t *link) {
    struct timeval slice = {.tv_sec = apr_time_sec(GLUE_LINK_SLICE)};
    int size = 4 * GLUE_BUFFER;

    setsockopt(link->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (setsockopt(link->fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof slice) != 0 ||
        setsockopt(link->fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof slice) != 0)
        return PYGLUE_E_IO;
    return 0;
}

/* Non-blocking: for AF_UNIX a full queue is EAGAIN at once, and means busy. Closed to descriptors
 * before it is connected: the worker may send at once. */
static int dial(glue_link_t *link, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int flags;

    memcpy(address.sun_path, path, strlen(path) + 1);
    link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0)
        return PYGLUE_E_IO;
    link->admits_descriptors = 1;
    glue_link_admit(link, 0);
    if (connect(link->fd, (struct sockaddr *)&address, sizeof address) != 0)
        return errno == EAGAIN                            ? PYGLUE_E_TOO_BIG
               : errno == ECONNREFUSED || errno == ENOENT ? PYGLUE_E_GONE
                                                          : PYGLUE_E_IO;
    if (!is_supervisors(link->fd))
        return PYGLUE_E_PROTOCOL;
    flags = fcntl(link->fd, F_GETFL);
    return flags < 0 || fcntl(link->fd, F_SETFL, flags & ~O_NONBLOCK) != 0 ? PYGLUE_E_IO : 0;
}

int glue_link_open(glue_link_t *link, const pyglue_worker_entry_t *worker) {
    int error;

    link->worker = worker->number;
    error = dial(link, worker->path);
    return error ? error : set_up(link);
}

/* Those that wait. */

static void remove_locked(int i) {
    here.count--;
    memmove(&here.idle[i], &here.idle[i + 1], (size_t)(here.count - i) * sizeof here.idle[0]);
}

int glue_link_take(glue_link_t *link, uint64_t worker) {
    int i;

    pthread_mutex_lock(&here.lock);
    for (i = here.count - 1; i >= 0 && here.idle[i].worker != worker; i--)
        ;
    if (i >= 0) {
        *link = here.idle[i];
        remove_locked(i);
    }
    pthread_mutex_unlock(&here.lock);
    return i >= 0;
}

void glue_link_keep(const glue_link_t *link) {
    int oldest = -1;

    pthread_mutex_lock(&here.lock);
    if (here.count == IDLE_MAX) {
        oldest = here.idle[0].fd;
        remove_locked(0);
    }
    here.idle[here.count++] = *link;
    pthread_mutex_unlock(&here.lock);
    if (oldest >= 0)
        glue_janitor_close(oldest);
}

static int is_silent(int fd) {
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

void glue_link_sweep(void) {
    int gone[IDLE_MAX], count = 0;

    pthread_mutex_lock(&here.lock);
    for (int i = here.count - 1; i >= 0; i--) {
        if (is_silent(here.idle[i].fd))
            continue;
        gone[count++] = here.idle[i].fd;
        remove_locked(i);
    }
    pthread_mutex_unlock(&here.lock);
    while (count > 0)
        glue_janitor_close(gone[--count]);
}

static apr_status_t end_all(void *unused) {
    (void)unused;
    while (here.count > 0)
        glue_watchdog_close(here.idle[--here.count].fd);
    return APR_SUCCESS;
}

void glue_link_child_init(apr_pool_t *pchild, uid_t supervisor) {
    here.supervisor = supervisor;
    apr_pool_cleanup_register(pchild, NULL, end_all, apr_pool_cleanup_null);
}
