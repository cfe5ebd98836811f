/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that serve the connections of httpd's children, from start to drain and stop. New
 * connections are accept.c's, who owns one owner.c's, what is said on one exchange.c's.
 *
 * One epoll set for all, EPOLLONESHOT. There are `threads` places and one thread more, which is
 * always there to say no. A warm small request costs epoll_wait, recv, sendmsg and epoll_ctl. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool.h"
#include "watch.h"

#define FAULT_STACK (64 * 1024) /* what faulthandler takes, and the registers of any processor */

void wkr_pool_tell(const wkr_pool_t *pool, enum wkr_event event) {
    unsigned char byte = (unsigned char)event;
    ssize_t done;

    do
        done = write(pool->settings.events, &byte, 1);
    while (done < 0 && errno == EINTR);
}

static void serve_connection(wkr_thread_t *thread, wkr_conn_t *conn) {
    int rv;

    if (!wkr_owner_claim(conn))
        return;
    wkr_input_reset(&thread->first, atomic_load(&conn->fd));
    do
        rv = wkr_exchange_frame(thread, conn);
    while (rv == 1 && wkr_input_rest(&thread->first) > 0);
    if (rv >= 0) {
        wkr_owner_arm(thread->pool, conn, EPOLL_CTL_MOD);
        return;
    }
    if (rv != PYGLUE_E_GONE)
        wkr_say("PG2004: a connection of httpd's child was closed: %s", pyglue_error_text(rv));
    wkr_owner_close(thread->pool, conn);
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
            wkr_accept_serve(pool);
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
    return wkr_accept_arm(pool, EPOLL_CTL_ADD) ? PYGLUE_E_IO : 0;
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
    rv = wkr_accept_peer(&pool->supervisor, settings->listener);
    rv = rv != 0 ? rv : map_record(pool);
    rv = rv != 0 ? rv : open_set(pool);
    rv = rv != 0 ? rv : wkr_process_watchdog_start();
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
    wkr_accept_pending(pool);                   /* and those that wait get their goodbye */
    pthread_mutex_lock(&pool->lock);
    all = pool->all;
    pthread_mutex_unlock(&pool->lock);
    for (; all != NULL; all = all->next)
        if (!atomic_load(&all->is_supervisors) && wkr_owner_claim(all))
            wkr_owner_farewell(pool, all);
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->is_swept, 1);
    leaves = wkr_owner_leaves_now_locked(pool);
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
