/* SPDX-License-Identifier: Apache-2.0 */
/* The structs of the pool, and what pool.c, accept.c, owner.c, exchange.c and watch.c ask of each
 * other. A connection's functions are called by the thread that owns it. */
#ifndef PYGLUE_WORKER_POOL_H
#define PYGLUE_WORKER_POOL_H

#include <pthread.h>
#include <stdatomic.h>

#include "worker.h"

enum wkr_owner { WKR_FREE, WKR_ARMED, WKR_OWNED };

typedef struct wkr_conn wkr_conn_t;
struct wkr_conn {
    atomic_int fd;             /* -1: none */
    atomic_int owner;          /* enum wkr_owner */
    int is_greeted;            /* the owner's */
    atomic_int is_supervisors; /* it said LEAVE: open while the process lives, and not counted */
    wkr_conn_t *next;          /* in pool->all; never changes */
    wkr_conn_t *next_free;
};

/* All of it is this thread's own. */
typedef struct wkr_thread {
    wkr_pool_t *pool;
    pthread_t id;
    unsigned slot;       /* of the record */
    wkr_input_t first;   /* what an idle connection sends */
    wkr_input_t control; /* what comes within a request */
    wkr_host_t host;
    char *faults; /* stack of fault handlers, for when the thread's own has overflowed */
} wkr_thread_t;

struct wkr_pool {
    wkr_settings_t settings;
    const pyglue_engine_ops_t *ops;
    pyglue_engine_t *engine;
    pyglue_record_t *record;
    uid_t supervisor; /* who called listen */
    int epoll;
    int stop; /* eventfd, readable: threads end */
    atomic_int is_leaving;
    atomic_int is_swept;  /* drain has said goodbye to what it found */
    atomic_int is_forked; /* this is a child of the application: own nothing */
    atomic_uint running;  /* requests in the engine, at most settings.threads */
    atomic_ullong served;
    pthread_mutex_t lock; /* of the next four */
    wkr_conn_t *all;
    wkr_conn_t *free;
    unsigned open;
    int has_left;
    unsigned thread_count;
    wkr_thread_t *threads;
    atomic_ullong begun;     /* when the first request came, ms; 0: none has, or nobody asks */
    struct wkr_watch *watch; /* NULL: nothing is watched */
};

/* One byte on the events pipe. Any thread. */
void wkr_pool_tell(const wkr_pool_t *pool, enum wkr_event event);
/* A request is about to run: with the first one the clock of startup_timeout starts (watch.c). */
void wkr_pool_begin(wkr_pool_t *pool);

/* accept.c */

/* The listener into the set, once more: EPOLL_CTL_ADD or EPOLL_CTL_MOD. 0 or -1 with errno. */
int wkr_accept_arm(wkr_pool_t *pool, int operation);
/* It is ready: accepts what is pending, and arms it again unless the worker is leaving. */
void wkr_accept_serve(wkr_pool_t *pool);
/* Accepts what is pending. 0, or the errno that says that this process is short of something. */
int wkr_accept_pending(wkr_pool_t *pool);
/* The uid at the other end; of a listening socket: who called listen. 0, or PYGLUE_E_IO. */
int wkr_accept_peer(uid_t *uid, int fd);
/* Is the peer of this socket that user's? */
int wkr_accept_is_of(int fd, uid_t uid);

/* owner.c */

/* A connection for fd, owned by the caller; NULL: no memory. Takes fd. */
wkr_conn_t *wkr_owner_new(wkr_pool_t *pool, int fd);
/* 1: it was armed, and is the caller's now. Any thread. */
int wkr_owner_claim(wkr_conn_t *conn);
/* Gives it back to the set (EPOLL_CTL_ADD or EPOLL_CTL_MOD), or says goodbye if the worker is
 * leaving. It is not the caller's any more. */
void wkr_owner_arm(wkr_pool_t *pool, wkr_conn_t *conn, int operation);
/* Goodbye, take no more, refuse what came meanwhile, close. */
void wkr_owner_farewell(wkr_pool_t *pool, wkr_conn_t *conn);
void wkr_owner_close(wkr_pool_t *pool, wkr_conn_t *conn);
/* It is the supervisor's: drain leaves it open and waits for it no more. */
void wkr_owner_leave_out(wkr_pool_t *pool, wkr_conn_t *conn);
/* Is this the moment at which the worker has left? Once. Any thread. */
int wkr_owner_leaves_now_locked(wkr_pool_t *pool);

/* exchange.c */

/* One frame of the connection that thread->first reads, between requests, and all that follows from
 * it. 1; 0: nothing is there; PYGLUE_E_*: the connection is to be closed. */
int wkr_exchange_frame(wkr_thread_t *thread, wkr_conn_t *conn);
/* Says that this request did not start; why: pyglue_refusal. 0 or as wkr_send_small. */
int wkr_exchange_refuse(wkr_pool_t *pool, int fd, uint64_t number, uint32_t why);

#endif
