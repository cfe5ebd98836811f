/* SPDX-License-Identifier: Apache-2.0 */
/* One thread of this child, started when first needed. It leaves loans alone that are only just
 * begun: most clients are not slow. */
#include "glue_ahead.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "glue_clock.h"
#include "glue_thread.h"
#include "glue_watchdog.h"

#define LENT_MAX 1024    /* beyond, a slow client holds its worker's thread */
#define GRACE 10000      /* µs from the beginning of a loan until the thread minds it */
#define READS_AT_ONCE 16 /* from one worker, before others have their turn */

static struct {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t done;  /* a connection is not busy any more */
    glue_thread_t thread;
    int is_ending;
    int is_asleep; /* nothing ends its poll but what it listens to */
    glue_ahead_t *lent[LENT_MAX];
    int count;
} here = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER, .thread = {.wake = -1}};

/* What was received. */

/* A frame's header is looked at, its payload passes. What breaks a rule is left to the request's
 * thread, which comes to the same header and knows what to say of it. */
static void look_at(glue_ahead_t *a, const pyglue_frame_t *frame) {
    int is_file = a->order.state == PYGLUE_EXCHANGE_FILE;

    if (frame->type == PYGLUE_FRAME_GOODBYE && frame->number == 0) {
        a->is_spoilt = 1;
        return;
    }
    if (is_file && frame->type == PYGLUE_FRAME_BODY)
        a->taken += frame->length;
    if (pyglue_exchange_accept(&a->order, frame) != 0 || (frame->flags & PYGLUE_FILE_DESCRIPTOR) ||
        (is_file && frame->type == PYGLUE_FRAME_END && a->taken != a->asked))
        a->state = GLUE_AHEAD_STOPPED;
}

static void walk(glue_ahead_t *a, pyglue_str_t bytes) {
    pyglue_frame_t frame;
    int found = 1;

    while (found == 1 && a->state == GLUE_AHEAD_GOES_ON && a->order.state != PYGLUE_EXCHANGE_ENDED)
        if ((found = glue_walk(&a->walk, &frame, &bytes, a->bounds)) == 1)
            look_at(a, &frame);
    if (found < 0)
        a->state = GLUE_AHEAD_STOPPED;
    if (a->state != GLUE_AHEAD_GOES_ON || a->order.state != PYGLUE_EXCHANGE_ENDED)
        return;
    /* The payload of END. */
    if (bytes.len < a->walk.skip) {
        a->walk.skip -= bytes.len;
        return;
    }
    a->is_spoilt |= bytes.len > a->walk.skip;
    a->state = GLUE_AHEAD_ENDED;
    a->ended(a);
}

void glue_ahead_begin(glue_ahead_t *a, const pyglue_exchange_t *order, size_t skip,
                      pyglue_str_t read) {
    a->walk = (glue_walk_t){.skip = skip};
    a->order = *order;
    a->state = GLUE_AHEAD_GOES_ON;
    walk(a, read);
}

/* How many bytes may be received at once. */
static size_t limit(const glue_ahead_t *a, size_t room) {
    size_t wanted = a->walk.skip > 0 ? a->walk.skip : sizeof a->walk.header - a->walk.have;

    return a->whole_frames && wanted < room ? wanted : room;
}

/* Takes what is there. 1: there may come more. */
static int read_some(glue_ahead_t *a) {
    for (int i = 0; i < READS_AT_ONCE; i++) {
        size_t room;
        char *memory = glue_spool_space(&a->spool, &room);
        ssize_t got;

        if (memory == NULL)
            return 0;
        got = glue_watchdog_recv(a->fd, memory, limit(a, room), MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return 1;
        if (got <= 0)
            return 0; /* the worker has ended, which the request's thread will see, too */
        glue_spool_put(&a->spool, (size_t)got);
        walk(a, (pyglue_str_t){memory, (size_t)got});
        if (a->state != GLUE_AHEAD_GOES_ON)
            return 0;
    }
    return 1;
}

/* The thread. */

static int position_locked(const glue_ahead_t *a) {
    for (int i = 0; i < here.count; i++)
        if (here.lent[i] == a)
            return i;
    return -1;
}

static void remove_locked(glue_ahead_t *a) {
    int i = position_locked(a);

    a->lent = 0;
    if (i >= 0)
        here.lent[i] = here.lent[--here.count];
}

/* Fills in what to poll, the wake-up last, and until when in ms. The count without it. */
static int list_locked(struct pollfd *polled, glue_ahead_t **who, int *timeout) {
    apr_time_t now = glue_clock_now(), next = 0;
    int count = 0;

    for (int i = 0; i < here.count; i++) {
        glue_ahead_t *a = here.lent[i];

        if (now >= a->lent + GRACE) {
            polled[count] = (struct pollfd){.fd = a->fd, .events = POLLIN};
            who[count++] = a;
        } else if (next == 0 || a->lent + GRACE < next) {
            next = a->lent + GRACE;
        }
    }
    polled[count] = (struct pollfd){.fd = here.thread.wake, .events = POLLIN};
    *timeout = next == 0 ? -1 : (int)((next - now + 999) / 1000);
    return count;
}

/* It may have been taken back meanwhile, and its memory with it: then it is not on the list, or was
 * lent anew. */
static void serve_locked(glue_ahead_t *a) {
    int goes_on;

    if (position_locked(a) < 0)
        return;
    a->is_busy = 1;
    pthread_mutex_unlock(&here.lock);
    goes_on = read_some(a);
    pthread_mutex_lock(&here.lock);
    a->is_busy = 0;
    if (!goes_on)
        remove_locked(a);
    pthread_cond_broadcast(&here.done);
}

static void *serve(void *unused) {
    struct pollfd polled[LENT_MAX + 1];
    glue_ahead_t *who[LENT_MAX];
    uint64_t times;

    (void)unused;
    pthread_mutex_lock(&here.lock);
    while (!here.is_ending) {
        int timeout, count = list_locked(polled, who, &timeout), ready;

        here.is_asleep = timeout < 0;
        pthread_mutex_unlock(&here.lock);
        ready = poll(polled, (nfds_t)count + 1, timeout);
        pthread_mutex_lock(&here.lock);
        here.is_asleep = 0;
        if (ready <= 0)
            continue;
        if (polled[count].revents != 0 && read(here.thread.wake, &times, sizeof times) < 0)
            continue;
        for (int i = 0; i < count && !here.is_ending; i++)
            if (polled[i].revents != 0)
                serve_locked(who[i]);
    }
    pthread_mutex_unlock(&here.lock);
    return NULL;
}

/* Lending. */

void glue_ahead_lend(glue_ahead_t *a, int is_slow) {
    if (a->state != GLUE_AHEAD_GOES_ON)
        return;
    pthread_mutex_lock(&here.lock);
    if (glue_thread_need_locked(&here.thread, serve, here.is_ending) && here.count < LENT_MAX) {
        a->lent = glue_clock_now() - (is_slow ? GRACE : 0);
        here.lent[here.count++] = a;
        if (here.is_asleep || is_slow)
            glue_thread_wake(&here.thread);
        here.is_asleep = 0;
    }
    pthread_mutex_unlock(&here.lock);
}

void glue_ahead_take_back(glue_ahead_t *a) {
    pthread_mutex_lock(&here.lock);
    while (a->is_busy)
        pthread_cond_wait(&here.done, &here.lock);
    if (a->lent != 0)
        remove_locked(a);
    pthread_mutex_unlock(&here.lock);
}

static apr_status_t end_thread(void *unused) {
    (void)unused;
    glue_thread_end(&here.is_ending, &here.lock, (glue_thread_t *[]){&here.thread}, 1);
    return APR_SUCCESS;
}

void glue_ahead_child_init(apr_pool_t *pchild) {
    glue_thread_init_polling(&here.thread);
    apr_pool_cleanup_register(pchild, NULL, end_thread, apr_pool_cleanup_null);
}
