/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's side of the wire: threads that take requests from its listening socket, run them
 * through an engine, and answer. docs/wire.md is the normative text, docs/plan.md 4 tells what a
 * worker is given.
 *
 * No Python.h and no httpd here: the engine is a table of functions that the caller hands in, so
 * that tests bring their own. pyglue/engine/serve.c binds this to Python, start.py and life.py
 * drive it.
 *
 *   settings.c the pool's settings by name
 *   conn.c     bytes of one connection to frames, within bounds and deadlines
 *   host.c     the host operations of one request, each encoded as a frame
 *   file.c     one of them: files, handed over or pulled
 *   wire.c     the frames of one request, gathered and awaited
 *   exchange.c what is said on a connection: hello, requests, refusals
 *   accept.c   the listener, and who may connect
 *   owner.c    connections: in the epoll set, or a thread's
 *   pool.c     threads, drain
 *   hands.c    the threads that want a GIL for watch.c, one for each
 *   clock.c    time, and waiting by it
 *   watch.c    what runs for too long, hangs or grows, and is told, interrupted or replaced
 *   process.c  what the worker does to its own process: signals, forks, watchdog, name */
#ifndef PYGLUE_WORKER_H
#define PYGLUE_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "frame.h"
#include "record.h"

/* The pool: what the worker's Python uses through serve.c. */

/* One byte each on the events pipe; signals are written there as their own numbers. */
enum wkr_event {
    WKR_EVENT_MAXIMUM = 128, /* maximum_requests is reached; once */
    WKR_EVENT_LEFT,          /* leaving, and no connection is open any more; once */
    WKR_EVENT_LEAVE,         /* the supervisor said DRAIN, STOP or LEAVE */
    WKR_EVENT_ORPHAN,        /* the supervisor is gone; once */
    WKR_EVENT_STALE          /* strict_reload: a request was refused, its script has changed */
};

/* Descriptors stay the caller's and live as long as the pool. */
typedef struct wkr_settings {
    int listener;     /* made to listen by the supervisor */
    int record;       /* memfd of a pyglue_record_t, read-write */
    int events;       /* write end of a non-blocking pipe */
    uint32_t threads; /* requests run at once, 1 ... PYGLUE_RECORD_SLOTS - 1 */
    uint64_t number;  /* of this incarnation */
    uint8_t key[PYGLUE_KEY_SIZE];
    uid_t peer_uid;            /* httpd's: nobody else is answered */
    uint32_t request_max;      /* payload of a REQUEST frame */
    uint32_t socket_timeout;   /* ms: for a whole frame, and for the peer to take more bytes */
    uint32_t send_buffer;      /* of a connection; 0: what suits frames of greatest length */
    uint32_t receive_buffer;   /* 0: the system's */
    int pass_descriptors;      /* TENANTS 5: may file() hand over a descriptor? */
    uint64_t maximum_requests; /* 0: no event */
    int strict_reload;         /* a request for a script that has changed since is refused */
    uint32_t queue_timeout;    /* ms: a request that has waited so long for Python is not begun */
    uint32_t stack_size;       /* of a thread that runs requests; 0: the system's */
    int messages;              /* write end of the pipe to the supervisor, non-blocking */
    /* What is watched (watch.c), in ms; 0: it is not. */
    uint32_t startup_timeout;   /* from the first request until a script is loaded */
    uint32_t request_timeout;   /* of a request, until it is interrupted, or given up */
    uint32_t interrupt_timeout; /* from then on; 0: requests are not interrupted */
    uint32_t deadlock_timeout;  /* for which nobody can have the GIL */
    uint32_t shutdown_timeout;  /* for what runs when the worker ends itself; 0: none */
    uint64_t restart_interval;  /* of the worker's life */
    uint64_t rss_limit;         /* bytes in memory */
    int stacks_signal;          /* faulthandler writes stacks when it is raised; 0: nobody does */
} wkr_settings_t;

/* What a setting is called by those who give it, and where it stands. Rows in any order. */
enum wkr_setting_kind {
    WKR_SETTING_INT, /* from 0 on, as of a descriptor */
    WKR_SETTING_U32,
    WKR_SETTING_U64,
    WKR_SETTING_USER, /* uid_t */
    WKR_SETTING_KEY   /* PYGLUE_KEY_SIZE bytes */
};

typedef struct wkr_setting {
    const char *name; /* with its unit, where the field's comment alone tells it */
    size_t offset;    /* in wkr_settings_t */
    enum wkr_setting_kind kind;
} wkr_setting_t;

extern const wkr_setting_t wkr_setting_rows[];
extern const unsigned wkr_setting_count;

/* 0; PYGLUE_E_TOO_BIG: the field cannot hold it; PYGLUE_E_STATE: the row's is no number. */
int wkr_setting_put(wkr_settings_t *settings, const wkr_setting_t *row, uint64_t number);

typedef struct wkr_pool wkr_pool_t;

/* Starts `threads` + 1 threads: one is always there to refuse. ops and engine live as long as the
 * pool. 0, PYGLUE_E_NOMEM, PYGLUE_E_IO (errno tells), PYGLUE_E_VERSION: the record is too small. */
int wkr_pool_start(wkr_pool_t **pool, const wkr_settings_t *settings,
                   const pyglue_engine_ops_t *ops, pyglue_engine_t *engine);

/* Leaves: nothing new is accepted, idle connections get their goodbye, running requests go on.
 * WKR_EVENT_LEFT tells the end. Any thread; again is harmless. */
void wkr_pool_drain(wkr_pool_t *pool);

/* Connections of httpd's children that are open now. Any thread. */
unsigned wkr_pool_connections(wkr_pool_t *pool);

/* Requests that were run, and those that run now. Any thread. */
void wkr_pool_activity(const wkr_pool_t *pool, uint64_t *served, unsigned *running);

/* From now on it is watched, and the supervisor told: after READY, before which nothing is to be
 * said. Once. */
void wkr_pool_watch(wkr_pool_t *pool);

/* After WKR_EVENT_LEFT: ends the threads (each calls thread_end), waits for them, frees. */
void wkr_pool_stop(wkr_pool_t *pool);

/* The process: once each, called by the main thread. */

/* SIGTERM, SIGINT, SIGUSR1 and SIGXCPU become bytes on the events pipe from now on. 0 or
 * PYGLUE_E_IO. */
int wkr_process_signals(int events);

/* In every fork of this process these descriptors, those of the pool and the signal handlers go,
 * so that a child of the application holds no wire and no listener (RELIABILITY C 7).
 * 0; PYGLUE_E_TOO_BIG: more than a dozen; PYGLUE_E_NOMEM. */
int wkr_process_forks(wkr_pool_t *pool, const int *fds, unsigned count);

/* The pool is about to be stopped: forks need not care for it any more. */
void wkr_process_forks_end(void);

/* A thread that reads the supervisor's commands (docs/plan.md 4) from `control`. The time that a
 * command allows is kept by the watchdog, not by Python. After end-of-file it reads `log`, the
 * other end of descriptors 1 and 2, into nothing. Before wkr_process_ready either ends the process.
 * 0 or PYGLUE_E_NOMEM. */
int wkr_process_commands(int control, int log, int events);
void wkr_process_ready(int is_loaded);

/* For everybody to see, /proc hiding nothing of it, as the name of that thread: top -H and ps -L
 * show it, and `pyglue reload` waits by it. Any thread. */
enum wkr_state { WKR_STATE_STARTING, WKR_STATE_READY, WKR_STATE_UNLOADED, WKR_STATE_LEAVING };
void wkr_process_state(enum wkr_state state);

/* When the last SIGUSR1 came, ms of CLOCK_MONOTONIC; 0: none did. */
uint64_t wkr_process_reload_ms(void);

/* The watchdog: a thread from the start, as a worker that has to end may get none any more. By
 * wkr_pool_start. 0 or PYGLUE_E_NOMEM. */
int wkr_process_watchdog_start(void);

/* Exits after so many ms, whatever Python does then. Said again, the earlier time holds. Any
 * thread, after wkr_pool_start. */
void wkr_process_watchdog(uint32_t milliseconds);

/* What ps shows instead of the command line; cut to the room that this leaves. */
void wkr_process_name(const char *name);

/* dumpable=off: no core, no ptrace by others of this user. 0 or PYGLUE_E_IO. */
int wkr_process_undumpable(void);

/* Between the files of this folder. */

#define WKR_BUFFER 65536u /* first read of a request; gathered output */
#define WKR_CONTROL 4096u /* frames of the child within a request */

/* Reads frames of one connection. The memory is the owner's, aligned for a uint64_t. */
typedef struct wkr_input {
    int fd;
    uint32_t timeout;  /* ms for a whole frame */
    uint64_t deadline; /* of the frame being read, ms of CLOCK_MONOTONIC; 0: not needed yet */
    uint32_t request_max;
    size_t size;       /* of bytes */
    size_t begin, end; /* what is at hand */
    char *bytes;
    char *large; /* payload that did not fit, until the next reset; malloc */
} wkr_input_t;

enum wkr_patience {
    WKR_LOOK, /* take what is there; finish a frame that has begun */
    WKR_WAIT  /* wait without limit for the first byte */
};

/* Ready for another connection; frees what a frame left. */
void wkr_input_reset(wkr_input_t *in, int fd);
/* Bytes that were read after the last frame. */
static inline size_t wkr_input_rest(const wkr_input_t *in) {
    return in->end - in->begin;
}
/* The header of the next frame; its payload is to be taken, skipped or had whole before the next
 * call. 1; 0: nothing is there (WKR_LOOK); PYGLUE_E_GONE: end of file, PYGLUE_E_TIMEOUT,
 * PYGLUE_E_PROTOCOL, PYGLUE_E_TOO_BIG, PYGLUE_E_IO: the connection is of no more use. */
int wkr_input_frame(wkr_input_t *in, pyglue_frame_t *frame, enum wkr_patience patience);
/* The payload in one piece, 8-aligned, valid until the next reset or frame of this input.
 * 0 or an error as above, PYGLUE_E_NOMEM. */
int wkr_input_whole(wkr_input_t *in, const pyglue_frame_t *frame, const char **payload);
/* len bytes of the payload to where the caller wants them; buf NULL: nowhere. 0 or as above. */
int wkr_input_take(wkr_input_t *in, void *buf, size_t len);
/* What `from` has read beyond its frame becomes `in`'s. 0 or PYGLUE_E_PROTOCOL: too much. */
int wkr_input_adopt(wkr_input_t *in, wkr_input_t *from);

/* Sends all of it, changing v. 0; PYGLUE_E_GONE: the peer has left; PYGLUE_E_TIMEOUT: it took no
 * byte for socket-timeout (SO_SNDTIMEO of the socket). */
int wkr_send(int fd, struct iovec *v, size_t count);
/* A frame of a few bytes, without waiting. Same results. */
int wkr_send_small(int fd, const pyglue_frame_t *frame, const void *payload);

/* clock.c: ms of CLOCK_MONOTONIC. */

#define WKR_NEVER UINT64_MAX

uint64_t wkr_now_ms(void);
/* A condition for wkr_clock_wait. */
void wkr_clock_condition(pthread_cond_t *condition);
/* Until the condition is signalled, or then; WKR_NEVER: however long. */
void wkr_clock_wait(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until);

/* The host of one request. Belongs to the thread that runs it. */
typedef struct wkr_host {
    pyglue_host_t host; /* first: the engine sees this */
    wkr_input_t *in;    /* frames of the child within this request */
    uint64_t number;
    pyglue_str_t body; /* what came with the request and is not read yet */
    char *out;         /* WKR_BUFFER bytes of whole frames that are not sent yet */
    size_t used;
    uint8_t body_ended;
    uint8_t body_failed; /* sticky */
    uint8_t is_headed;
    uint8_t is_cut;           /* a file was shorter than announced */
    uint8_t is_gone;          /* the client has left; END is still owed */
    uint8_t is_broken;        /* the connection is of no more use */
    uint8_t can_pass;         /* file() may hand over a descriptor */
    uint8_t is_late;          /* it was not begun in time: 504 */
    uint8_t interims;         /* interim heads that may still be sent */
    uint64_t begin_by;        /* wkr_now_ms; 0: whenever */
    atomic_int awaits_client; /* its thread waits for more of the body; other threads read it */
} wkr_host_t;

void wkr_host_init(wkr_host_t *host, wkr_input_t *in, char *out);
/* The next request. body: what came with it. */
void wkr_host_begin(wkr_host_t *host, uint64_t number, pyglue_str_t body, int body_ended,
                    int can_pass);
/* Sends what is pending, and END. 0, or PYGLUE_E_GONE: the connection is to be closed. */
int wkr_host_end(wkr_host_t *host, pyglue_outcome_t outcome);

/* The operation `file`, after its checks: all of these bytes of fd, which stays the caller's.
 * 0, PYGLUE_E_GONE, or PYGLUE_E_IO: it has become shorter. */
int wkr_file_send(wkr_host_t *host, int fd, const pyglue_file_t *file);

/* One line, with its id (docs/reference/messages.md), to descriptor 2, which the supervisor brings
 * into the error log. */
void wkr_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Text of the application, as it is, when no request's log can take it. */
void wkr_say_text(pyglue_str_t text);

/* For process.c in a forked child: closes what the pool holds; it is never used again there. */
void wkr_pool_forked(wkr_pool_t *pool);

#endif
