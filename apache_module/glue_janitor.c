/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads of this child, started when first needed: the closer may block in close(2) on what a
 * trusted group passed (TENANTS 5), the watcher never does, so that places are given back beside
 * it. */
#include "glue_janitor.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "glue_thread.h"
#include "glue_watchdog.h"

#define CLOSES_MAX 1024       /* descriptors that wait to be closed; beyond: closed by the caller */
#define WATCHED_MAX 128       /* connections given up; beyond: closed at once */
#define FLIGHT_MAX (4u << 20) /* bytes that one may still send; more than any buffers hold */

struct watched {
    int fd;
    glue_place_t place;
    glue_walk_t walk;
    size_t taken; /* bytes that came since */
};

static struct {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t closing;
    glue_thread_t closer, watcher;
    int is_ending;
    int closes[CLOSES_MAX];
    int close_count;
    struct watched *watched[WATCHED_MAX];
    int watched_count;
} here = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .closing = PTHREAD_COND_INITIALIZER,
          .closer = {.wake = -1},
          .watcher = {.wake = -1}};

/* Closing. */

static void close_now(int fd) {
    struct linger off = {.l_onoff = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off); /* ENOTSOCK for anything else */
    glue_watchdog_close(fd);
}

static void *closer(void *unused) {
    (void)unused;
    pthread_mutex_lock(&here.lock);
    while (!here.is_ending) {
        int fd;

        if (here.close_count == 0) {
            pthread_cond_wait(&here.closing, &here.lock);
            continue;
        }
        fd = here.closes[--here.close_count];
        pthread_mutex_unlock(&here.lock);
        close_now(fd);
        pthread_mutex_lock(&here.lock);
    }
    pthread_mutex_unlock(&here.lock);
    return NULL;
}

void glue_janitor_close(int fd) {
    int is_taken = 0;

    pthread_mutex_lock(&here.lock);
    if (glue_thread_need_locked(&here.closer, closer, here.is_ending) &&
        here.close_count < CLOSES_MAX) {
        here.closes[here.close_count++] = fd;
        is_taken = 1;
        glue_thread_wake(&here.closer);
    }
    pthread_mutex_unlock(&here.lock);
    if (!is_taken)
        close_now(fd);
}

/* Watching. */

static void give_back(struct watched *w) {
    glue_place_give(&w->place);
    glue_janitor_close(w->fd);
    free(w);
}

/* 1: END, or what is no frame of a worker's. */
static int is_over(struct watched *w, pyglue_str_t bytes) {
    pyglue_frame_t frame;
    int found;

    while ((found = glue_walk(&w->walk, &frame, &bytes, &pyglue_bounds_default)) == 1)
        if (frame.type == PYGLUE_FRAME_END || frame.type == PYGLUE_FRAME_REFUSE)
            return 1;
    return found < 0;
}

/* What is there is read, once. 1: it is over. */
static int read_some(struct watched *w) {
    char bytes[4096];
    ssize_t got = glue_watchdog_recv(w->fd, bytes, sizeof bytes, MSG_DONTWAIT);

    if (got < 0)
        return errno != EAGAIN && errno != EINTR;
    w->taken += (size_t)got;
    return got == 0 || w->taken > FLIGHT_MAX || is_over(w, (pyglue_str_t){bytes, (size_t)got});
}

/* The watcher alone removes, so positions stay as they were polled; others only add at the end. */
static void remove_finished(const struct pollfd *polled, int count) {
    for (int i = count - 1; i >= 0; i--) {
        struct watched *w = here.watched[i];

        if (polled[i].revents == 0 || !read_some(w))
            continue;
        pthread_mutex_lock(&here.lock);
        here.watched[i] = here.watched[--here.watched_count];
        pthread_mutex_unlock(&here.lock);
        give_back(w);
    }
}

/* Fills in what to poll, the wake-up last. The count without it; -1: end. */
static int list(struct pollfd *polled) {
    int count;

    pthread_mutex_lock(&here.lock);
    count = here.is_ending ? -1 : here.watched_count;
    for (int i = 0; i < count; i++)
        polled[i] = (struct pollfd){.fd = here.watched[i]->fd, .events = POLLIN};
    pthread_mutex_unlock(&here.lock);
    return count;
}

static void *watcher(void *unused) {
    struct pollfd polled[WATCHED_MAX + 1];
    int count;

    (void)unused;
    while ((count = list(polled)) >= 0) {
        uint64_t times;

        polled[count] = (struct pollfd){.fd = here.watcher.wake, .events = POLLIN};
        if (poll(polled, (nfds_t)count + 1, -1) < 0)
            continue;
        if (polled[count].revents != 0 && read(here.watcher.wake, &times, sizeof times) < 0)
            continue;
        remove_finished(polled, count);
    }
    return NULL;
}

static int add(struct watched *w) {
    int is_taken = 0;

    pthread_mutex_lock(&here.lock);
    if (glue_thread_need_locked(&here.watcher, watcher, here.is_ending) &&
        here.watched_count < WATCHED_MAX) {
        here.watched[here.watched_count++] = w;
        is_taken = 1;
        glue_thread_wake(&here.watcher);
    }
    pthread_mutex_unlock(&here.lock);
    return is_taken;
}

void glue_janitor_watch(int fd, const glue_place_t *place, const glue_walk_t *walk,
                        pyglue_str_t read) {
    struct watched *w = calloc(1, sizeof *w);

    if (w == NULL) {
        glue_place_give(place);
        glue_janitor_close(fd);
        return;
    }
    w->fd = fd;
    w->place = *place;
    w->walk = *walk;
    if (is_over(w, read) || !add(w))
        give_back(w);
}

/* The child's end. */

static apr_status_t end_threads(void *unused) {
    (void)unused;
    glue_thread_end(&here.is_ending, &here.lock, (glue_thread_t *[]){&here.closer, &here.watcher},
                    2);
    return APR_SUCCESS;
}

void glue_janitor_child_init(apr_pool_t *pchild) {
    glue_thread_init_waiting(&here.closer, &here.closing);
    glue_thread_init_polling(&here.watcher);
    apr_pool_cleanup_register(pchild, NULL, end_threads, apr_pool_cleanup_null);
}
