/* SPDX-License-Identifier: Apache-2.0 */
/* The connections of httpd's children and the threads that serve them: accept, arm, hand to a
 * thread, drain. What is said on a connection is exchange.c's.
 *
 * One epoll set for all, EPOLLONESHOT, so that a connection belongs either to the set (WKR_ARMED)
 * or to one thread (WKR_OWNED); whoever changes the one to the other owns it. Connections are never
 * freed before the pool, so a late event of a reused one finds nothing to read and does no harm.
 * There are `threads` places and one thread more, which is always there to say no. A warm small
 * request costs epoll_wait, recv, sendmsg and epoll_ctl. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "pool.h"
#include "watch.h"

#define SEND_BUFFER (256 * 1024) /* so that a block of PYGLUE_FRAME_BODY_MAX rarely waits */
#define FAULT_STACK (64 * 1024)  /* what faulthandler takes, and the registers of any processor */
#define NO_DESCRIPTOR_PAUSE 100  /* ms before accepting again when descriptors ran out */

void wkr_pool_tell(const wkr_pool_t *pool, enum wkr_event event) {
    unsigned char byte = (unsigned char)event;
    ssize_t done;

    do
        done = write(pool->settings.events, &byte, 1);
    while (done < 0 && errno == EINTR);
}

/* Connections. */

/* Called with the lock held: is this the moment at which the worker has left? Once. */
static int leaves_now_locked(wkr_pool_t *pool) {
    if (pool->open > 0 || !atomic_load(&pool->is_swept) || pool->has_left)
        return 0;
    pool->has_left = 1;
    return 1;
}

/* A connection for fd, owned by the caller; NULL: no memory. Takes fd. */
static wkr_conn_t *conn_new(wkr_pool_t *pool, int fd) {
    wkr_conn_t *conn;

    pthread_mutex_lock(&pool->lock);
    conn = pool->free;
    if (conn != NULL) {
        pool->free = conn->next_free;
    } else if ((conn = calloc(1, sizeof *conn)) != NULL) {
        conn->next = pool->all;
        pool->all = conn;
    }
    if (conn != NULL) {
        conn->is_greeted = 0;
        atomic_store(&conn->is_supervisors, 0);
        atomic_store(&conn->fd, fd);
        atomic_store(&conn->owner, WKR_OWNED);
        pool->open++;
    }
    pthread_mutex_unlock(&pool->lock);
    return conn;
}

/* One connection less keeps the worker from leaving. */
static void uncount(wkr_pool_t *pool) {
    int leaves;

    pthread_mutex_lock(&pool->lock);
    pool->open--;
    leaves = leaves_now_locked(pool);
    pthread_mutex_unlock(&pool->lock);
    if (leaves)
        wkr_pool_tell(pool, WKR_EVENT_LEFT);
}

/* The owner's. fd is forgotten before it is closed, so that a fork in between closes no other. */
static void conn_close(wkr_pool_t *pool, wkr_conn_t *conn) {
    int fd = atomic_exchange(&conn->fd, -1);
    int is_counted = !atomic_load(&conn->is_supervisors);

    if (fd >= 0)
        close(fd);
    pthread_mutex_lock(&pool->lock);
    atomic_store(&conn->owner, WKR_FREE);
    conn->next_free = pool->free;
    pool->free = conn;
    pthread_mutex_unlock(&pool->lock);
    if (is_counted)
        uncount(pool);
}

void wkr_pool_leave_out(wkr_pool_t *pool, wkr_conn_t *conn) {
    if (!atomic_exchange(&conn->is_supervisors, 1))
        uncount(pool);
}

static int conn_claim(wkr_conn_t *conn) {
    int armed = WKR_ARMED;

    return atomic_compare_exchange_strong(&conn->owner, &armed, WKR_OWNED);
}

/* docs/wire.md 10: goodbye, take no more, refuse what came meanwhile, close. A request of which a
 * part alone came is refused as well: its sender then knows that it did not start. */
static void conn_farewell(wkr_pool_t *pool, wkr_conn_t *conn) {
    char memory[WKR_CONTROL] __attribute__((aligned(8)));
    wkr_input_t in = {.size = sizeof memory,
                      .bytes = memory,
                      .timeout = pool->settings.socket_timeout,
                      .request_max = pool->settings.request_max};
    pyglue_frame_t frame = pyglue_frame(PYGLUE_FRAME_GOODBYE, 0, 0, 0);
    int fd = atomic_load(&conn->fd);

    wkr_send_small(fd, &frame, NULL);
    shutdown(fd, SHUT_RD);
    wkr_input_reset(&in, fd);
    while (wkr_input_frame(&in, &frame, WKR_LOOK) == 1) {
        if (frame.type == PYGLUE_FRAME_REQUEST)
            wkr_exchange_refuse(pool, fd, frame.number, PYGLUE_REFUSED_LEAVING);
        if (wkr_input_take(&in, NULL, frame.length))
            break;
    }
    conn_close(pool, conn);
}

/* Back into the set, or goodbye. Both this and drain look after they have written, so one sees
 * the other; the claim decides which of the two says goodbye. */
static void conn_arm(wkr_pool_t *pool, wkr_conn_t *conn, int operation) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = conn};

    atomic_store(&conn->owner, WKR_ARMED);
    if (epoll_ctl(pool->epoll, operation, atomic_load(&conn->fd), &event)) {
        if (conn_claim(conn))
            conn_close(pool, conn);
    } else if (atomic_load(&pool->is_leaving) && !atomic_load(&conn->is_supervisors) &&
               conn_claim(conn)) {
        conn_farewell(pool, conn);
    }
}

/* Accepting. */

/* The uid at the other end; of a listening socket: who called listen. 0, or PYGLUE_E_IO. */
static int peer_of(uid_t *uid, int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
        return PYGLUE_E_IO;
    *uid = peer.uid;
    return 0;
}

int wkr_pool_is_of(int fd, uid_t wanted) {
    uid_t uid;

    return peer_of(&uid, fd) == 0 && uid == wanted;
}

/* httpd's children, for requests; the supervisor's user, to say LEAVE. */
static int is_welcome(const wkr_pool_t *pool, int fd) {
    return wkr_pool_is_of(fd, pool->settings.peer_uid) || wkr_pool_is_of(fd, pool->supervisor);
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
    conn = conn_new(pool, fd);
    if (conn == NULL)
        close(fd);
    else
        conn_arm(pool, conn, EPOLL_CTL_ADD);
}

/* Accepts what is pending. 0, or the errno that says that this process is short of something. */
static int accept_pending(wkr_pool_t *pool) {
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

static int arm_listener(wkr_pool_t *pool, int operation) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = pool};

    return epoll_ctl(pool->epoll, operation, pool->settings.listener, &event);
}

/* Out of descriptors: the listener would be ready at once again, so wait a moment (no spinning). */
static void serve_listener(wkr_pool_t *pool) {
    int why = accept_pending(pool);

    if (why != 0) {
        wkr_say("PG2003: no connection can be accepted: %s", strerror(why));
        poll(NULL, 0, NO_DESCRIPTOR_PAUSE);
    }
    if (!atomic_load(&pool->is_leaving))
        arm_listener(pool, EPOLL_CTL_MOD);
}

static void serve_connection(wkr_thread_t *thread, wkr_conn_t *conn) {
    int rv;

    if (!conn_claim(conn))
        return;
    wkr_input_reset(&thread->first, atomic_load(&conn->fd));
    do
        rv = wkr_exchange_frame(thread, conn);
    while (rv == 1 && wkr_input_rest(&thread->first) > 0);
    if (rv >= 0) {
        conn_arm(thread->pool, conn, EPOLL_CTL_MOD);
        return;
    }
    if (rv != PYGLUE_E_GONE)
        wkr_say("PG2004: a connection of httpd's child was closed: %s", pyglue_error_text(rv));
    conn_close(thread->pool, conn);
}

/* Threads. */

/* faulthandler has one for the main thread only, and would say nothing of a stack that overflows
 * in a request. Without it the thread does its work all the same. A sanitizer has put one of its
 * own there, and wants it back. */
static void swap_fault_stack(wkr_thread_t *thread, stack_t *before) {
    stack_t stack = {.ss_sp = thread->faults, .ss_size = FAULT_STACK};

    if (sigaltstack(&stack, before))
        *before = (stack_t){.ss_flags = SS_DISABLE};
}

static void *thread_main(void *argument) {
    wkr_thread_t *thread = argument;
    wkr_pool_t *pool = thread->pool;
    struct epoll_event event;
    stack_t before;

    swap_fault_stack(thread, &before);
    for (;;) {
        int count = epoll_wait(pool->epoll, &event, 1, -1);

        if (count < 0 && errno != EINTR)
            break;
        if (count <= 0)
            continue;
        if (event.data.ptr == NULL)
            break;
        if (event.data.ptr == pool)
            serve_listener(pool);
        else
            serve_connection(thread, event.data.ptr);
    }
    pool->ops->thread_end(pool->engine);
    sigaltstack(&before, NULL);
    return NULL;
}

static int input_init(wkr_input_t *in, const wkr_settings_t *settings, size_t size) {
    *in = (wkr_input_t){.fd = -1,
                        .timeout = settings->socket_timeout,
                        .request_max = settings->request_max,
                        .size = size,
                        .bytes = malloc(size)};
    return in->bytes == NULL ? PYGLUE_E_NOMEM : 0;
}

/* PYGLUE_E_IO with errno: also for a stack that is too small, or more than memory limits leave. */
static int thread_create(wkr_thread_t *thread, size_t stack) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);

    if (error == 0 && stack > 0)
        error = pthread_attr_setstacksize(&attributes, stack);
    if (error == 0)
        error = pthread_create(&thread->id, &attributes, thread_main, thread);
    pthread_attr_destroy(&attributes);
    errno = error;
    return error != 0 ? PYGLUE_E_IO : 0;
}

static int thread_start(wkr_pool_t *pool, unsigned slot) {
    wkr_thread_t *thread = &pool->threads[slot];
    char *out = malloc(WKR_BUFFER);

    thread->pool = pool;
    thread->slot = slot;
    thread->faults = malloc(FAULT_STACK);
    wkr_host_init(&thread->host, &thread->control, out);
    if (out == NULL || thread->faults == NULL ||
        input_init(&thread->first, &pool->settings, WKR_BUFFER) ||
        input_init(&thread->control, &pool->settings, WKR_CONTROL))
        return PYGLUE_E_NOMEM;
    if (thread_create(thread, pool->settings.stack_size))
        return PYGLUE_E_IO;
    pool->thread_count++;
    return 0;
}

static void thread_free(wkr_thread_t *thread) {
    wkr_input_reset(&thread->first, -1);
    wkr_input_reset(&thread->control, -1);
    free(thread->first.bytes);
    free(thread->control.bytes);
    free(thread->host.out);
    free(thread->faults);
}

/* The pool. */

static int map_record(wkr_pool_t *pool) {
    struct stat st;
    void *memory;

    if (fstat(pool->settings.record, &st))
        return PYGLUE_E_IO;
    memory = mmap(NULL, sizeof(pyglue_record_t), PROT_READ | PROT_WRITE, MAP_SHARED,
                  pool->settings.record, 0);
    if (memory == MAP_FAILED)
        return PYGLUE_E_IO;
    pool->record = memory;
    return pyglue_record_init(memory, (size_t)st.st_size, pool->settings.threads + 1);
}

static int open_set(wkr_pool_t *pool) {
    struct epoll_event stop = {.events = EPOLLIN, .data.ptr = NULL};

    int flags = fcntl(pool->settings.listener, F_GETFL);

    /* Two threads may race for one connection: the loser must not wait. */
    if (flags < 0 || fcntl(pool->settings.listener, F_SETFL, flags | O_NONBLOCK))
        return PYGLUE_E_IO;
    pool->epoll = epoll_create1(EPOLL_CLOEXEC);
    pool->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->epoll < 0 || pool->stop < 0 ||
        epoll_ctl(pool->epoll, EPOLL_CTL_ADD, pool->stop, &stop))
        return PYGLUE_E_IO;
    return arm_listener(pool, EPOLL_CTL_ADD) ? PYGLUE_E_IO : 0;
}

static int start_threads(wkr_pool_t *pool) {
    unsigned wanted = pool->settings.threads + 1;
    int rv = 0;

    pool->threads = calloc(wanted, sizeof *pool->threads);
    if (pool->threads == NULL)
        return PYGLUE_E_NOMEM;
    for (unsigned i = 0; i < wanted && rv == 0; i++)
        rv = thread_start(pool, i);
    return rv;
}

int wkr_pool_start(wkr_pool_t **result, const wkr_settings_t *settings,
                   const pyglue_engine_ops_t *ops, pyglue_engine_t *engine) {
    wkr_pool_t *pool;
    int rv;

    if (settings->threads == 0 || settings->threads >= PYGLUE_RECORD_SLOTS)
        return PYGLUE_E_TOO_BIG;
    pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return PYGLUE_E_NOMEM;
    pool->settings = *settings;
    pool->ops = ops;
    pool->engine = engine;
    pool->epoll = pool->stop = -1;
    pthread_mutex_init(&pool->lock, NULL);
    rv = peer_of(&pool->supervisor, settings->listener);
    rv = rv != 0 ? rv : map_record(pool);
    rv = rv != 0 ? rv : open_set(pool);
    rv = rv != 0 ? rv : start_threads(pool);
    rv = rv != 0 ? rv : wkr_watch_start(&pool->watch, pool);
    if (rv != 0) {
        int saved = errno;

        wkr_pool_stop(pool);
        errno = saved;
        return rv;
    }
    *result = pool;
    return 0;
}

void wkr_pool_watch(wkr_pool_t *pool) {
    if (pool->watch != NULL)
        wkr_watch_let(pool->watch);
}

void wkr_pool_begin(wkr_pool_t *pool) {
    if (atomic_load(&pool->begun) == 0)
        atomic_store(&pool->begun, wkr_now_ms());
}

void wkr_pool_drain(wkr_pool_t *pool) {
    wkr_conn_t *all;
    int leaves;

    if (atomic_exchange(&pool->is_leaving, 1))
        return;
    shutdown(pool->settings.listener, SHUT_RD); /* later ones are refused by the kernel */
    accept_pending(pool);                       /* and those that wait get their goodbye */
    pthread_mutex_lock(&pool->lock);
    all = pool->all;
    pthread_mutex_unlock(&pool->lock);
    for (; all != NULL; all = all->next)
        if (!atomic_load(&all->is_supervisors) && conn_claim(all))
            conn_farewell(pool, all);
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->is_swept, 1);
    leaves = leaves_now_locked(pool);
    pthread_mutex_unlock(&pool->lock);
    if (leaves)
        wkr_pool_tell(pool, WKR_EVENT_LEFT);
}

void wkr_pool_activity(const wkr_pool_t *pool, uint64_t *served, unsigned *running) {
    *running = atomic_load(&pool->running);
    *served = atomic_load(&pool->served);
}

unsigned wkr_pool_connections(wkr_pool_t *pool) {
    unsigned open;

    pthread_mutex_lock(&pool->lock);
    open = pool->open;
    pthread_mutex_unlock(&pool->lock);
    return open;
}

static void free_connections(wkr_pool_t *pool) {
    while (pool->all != NULL) {
        wkr_conn_t *conn = pool->all;

        pool->all = conn->next;
        if (atomic_load(&conn->fd) >= 0 && !atomic_load(&conn->is_supervisors))
            close(atomic_load(&conn->fd));
        free(conn);
    }
}

static void close_if_open(int fd) {
    if (fd >= 0)
        close(fd);
}

void wkr_pool_stop(wkr_pool_t *pool) {
    if (pool->watch != NULL)
        wkr_watch_stop(pool->watch);
    if (pool->stop >= 0)
        eventfd_write(pool->stop, 1);
    for (unsigned i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i].id, NULL);
    for (unsigned i = 0; pool->threads != NULL && i <= pool->settings.threads; i++)
        thread_free(&pool->threads[i]);
    free_connections(pool);
    close_if_open(pool->epoll);
    close_if_open(pool->stop);
    if (pool->record != NULL)
        munmap(pool->record, sizeof *pool->record);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}

/* No lock: the thread that held it does not exist here. */
void wkr_pool_forked(wkr_pool_t *pool) {
    atomic_store(&pool->is_forked, 1);
    close_if_open(pool->epoll);
    close_if_open(pool->stop);
    for (wkr_conn_t *conn = pool->all; conn != NULL; conn = conn->next)
        close_if_open(atomic_exchange(&conn->fd, -1));
    for (unsigned i = 0; i < pool->thread_count; i++)
        pool->threads[i].first.fd = pool->threads[i].control.fd = -1;
}
