/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's own header: its structs, and what its files offer to each other.
 *
 * Every function here is called with a thread state attached (the GIL held) unless its name ends
 * in _nogil or its comment says otherwise. "0 or -1" means -1 with an exception set. `_new`
 * returns a new reference. All Python objects of the engine belong to an eng_state_t, one for each
 * interpreter; the process has one pyglue_engine_t. There is no other state. */
#ifndef PYGLUE_ENG_H
#define PYGLUE_ENG_H

#include "eng_compat.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine.h"

#define ENG_SMALL (64 * 1024) /* bodies up to this many bytes leave after the GIL was released */

/* Every warning and error starts with an id, explained in docs/reference/messages.md. */
#define ENG_ID(number) "PG" #number ": "

#define ENG_MOD_WSGI_VERSION 6, 1, 1 /* the mod_wsgi whose interface this is */

typedef struct eng_state eng_state_t;
typedef struct eng_interp eng_interp_t;
typedef struct eng_thread eng_thread_t;
typedef struct eng_request eng_request_t;
typedef struct eng_note eng_note_t;
typedef struct eng_loaded eng_loaded_t;
typedef struct eng_spread eng_spread_t;

/* The process. */

/* Made by open, freed by close; the upper half is frozen between. */
struct pyglue_engine {
    char *package;
    char *settings;
    pyglue_log_fn log;
    void *baton;
    bool owns_python; /* open initialised it, close finalises it */
    unsigned parts;   /* interpreters that each application group is spread over; 0: one as usual */
    pthread_key_t thread_key;
    atomic_bool has_loaded; /* a script, in any interpreter */
    atomic_uint threads;    /* that ran requests so far: their numbers are mod_wsgi.thread_id */
    pthread_mutex_t lock;   /* guards what follows; never held while waiting for a GIL */
    pthread_cond_t changed; /* an interpreter is made, or was not */
    unsigned own_gils;      /* interpreters that were made with one */
    eng_interp_t *interps;
    eng_note_t *notes;
    eng_loaded_t *loaded;
    eng_spread_t *spreads;
    pthread_mutex_t stacks_lock; /* of the log, for those that are under one GIL; a leaf */
    bool is_forked; /* this is a child of the application: it has no host, and no other thread */
    eng_thread_t *thread_list;
};

/* interp.c, thread.c: application groups, threads, and the thread states of these in those. */

/* An interpreter of an application group. Lives until close. */
struct eng_interp {
    eng_interp_t *next;
    char *name;
    size_t name_len;
    unsigned part; /* of a group that is spread over several, from 1 on; 0: its only one */
    bool is_ready; /* others wait for it under the engine's lock */
    bool has_own_gil;
    unsigned gil;         /* number of its own one, from 1 on; 0: it has the main interpreter's */
    atomic_bool is_shown; /* whoever dumps its stacks has its GIL */
    PyInterpreterState *python;
    /* A sub-interpreter's first thread state: no thread's own, so that it is never without one.
     * CPython 3.11 aborts when an interpreter that lost its last state is given another. */
    PyThreadState *keeper;
    eng_state_t *state; /* of _engine in this interpreter, which holds the module */
    struct eng_seat *seats;
};

/* One thread's thread state in one interpreter. */
typedef struct eng_seat {
    struct eng_seat *next; /* of the thread */
    struct eng_seat *peer; /* of the interpreter, under the engine's lock */
    eng_interp_t *interp;
    PyThreadState *python;
    bool is_borrowed; /* Python's own for this thread: not ours to end */
} eng_seat_t;

/* The response head and a small body as plain memory: what is left of a request once its Python
 * objects are gone. Kept by a thread for its next request. */
typedef struct eng_scratch {
    pyglue_head_t head;
    pyglue_header_t *headers;
    size_t header_room;
    char *text; /* what head points into */
    size_t text_room;
    char *body; /* ENG_SMALL bytes, made when first needed */
    size_t body_len;
} eng_scratch_t;

/* A request as others may see it while they hold the gate of its thread. */
typedef struct eng_shown {
    const pyglue_snapshot_t *snapshot;
    eng_interp_t *interp;
    unsigned long ident; /* of its thread, as Python numbers them */
    double since;        /* seconds since the epoch */
    int gate;            /* of an outer request, while an inner one runs */
} eng_shown_t;

/* One OS thread. Made by its first call, freed by thread_end. */
struct eng_thread {
    pyglue_engine_t *engine;
    eng_thread_t *next; /* in the engine's thread_list, under its lock */
    unsigned number;    /* 0: it has run no request yet */
    atomic_int gate;    /* interrupt.c */
    eng_shown_t shown;  /* its own to write, while the gate says that there is none */
    eng_seat_t *seats;
    eng_scratch_t *scratch; /* NULL while a request uses it */
    eng_request_t *request; /* running now: where sys.stderr goes; borrowed */
};

/* life.c: open and close of engine.h. */
int eng_life_open_nogil(pyglue_engine_t **result, const pyglue_engine_settings_t *settings);
void eng_life_close_nogil(pyglue_engine_t *engine);

/* thread.c */

/* This thread's record; NULL: out of memory. No thread state needed. */
eng_thread_t *eng_thread_nogil(pyglue_engine_t *engine);

/* Notes a thread state of the calling thread, which stays its own if there is no memory: NULL. */
eng_seat_t *eng_thread_add_seat(eng_thread_t *thread, eng_interp_t *interp, PyThreadState *python,
                                bool is_borrowed);
/* Ends a seat that is on its thread's list no more, and its thread state, if that is ours. */
void eng_thread_end_seat_nogil(pyglue_engine_t *engine, eng_seat_t *seat);

/* A thread state of the calling thread, its first, in this interpreter; ended with those of threads
 * that never said thread_end. Any thread that calls nothing else here. */
void eng_thread_witness_nogil(pyglue_engine_t *engine, eng_interp_t *interp);

/* Ends the thread states of this thread and its record. */
void eng_thread_end_nogil(pyglue_engine_t *engine);

void eng_scratch_free(eng_scratch_t *scratch); /* NULL is ignored */

/* interp.c */

/* Attaches this thread to an interpreter of an application group, made if need be. NULL: it could
 * not be made, nothing is attached, the reason went to the engine's log. */
eng_seat_t *eng_interp_enter_nogil(eng_thread_t *thread, pyglue_str_t group, unsigned part);
bool eng_interp_is_main(const eng_interp_t *interp);
/* The next interpreter that is ready; of NULL the first, NULL after the last. */
eng_interp_t *eng_interp_next(pyglue_engine_t *engine, eng_interp_t *interp);
/* The same of the main interpreter. */
eng_seat_t *eng_interp_enter_main_nogil(eng_thread_t *thread);
void eng_interp_leave(eng_seat_t *seat);

/* Gives the main interpreter its record. The calling thread has it attached. 0 or -1. */
int eng_interp_adopt_main(pyglue_engine_t *engine);

/* Runs the exit callbacks of every sub-interpreter and ends those that nobody uses any more;
 * true: none is left. */
bool eng_interp_end_all_nogil(pyglue_engine_t *engine);

/* Runs the exit callbacks of the main interpreter, where Python cannot be finalised. */
void eng_interp_finish_main_nogil(pyglue_engine_t *engine);

/* Frees the records of ended interpreters, of their seats, and of the calling thread. */
void eng_interp_free_all(pyglue_engine_t *engine);

/* furnish.c: an interpreter and the Python half of the engine. */

/* Fills the current interpreter with what serving needs. The module stays referenced for the life
 * of the interpreter: the state is reached from C without it. 0 or -1. */
int eng_furnish(pyglue_engine_t *engine, eng_interp_t *interp);
/* How many interpreters each application group is spread over: the main interpreter's say, which
 * becomes engine->parts. 0 or -1. */
int eng_furnish_count_parts(pyglue_engine_t *engine);
/* Has this interpreter a GIL of its own? The main interpreter's say. 1, 0 or -1. */
int eng_furnish_has_own_gil(const eng_interp_t *interp);
/* Runs the exit callbacks of the current interpreter, which Py_EndInterpreter would do too late: it
 * is a fatal error while daemon threads live. What fails is logged. */
void eng_furnish_finish(pyglue_engine_t *engine);

/* spread.c: which interpreter of an application group runs a request, where each group has
 * several: its record counts what runs in each, and lives until close. Plain memory under the
 * engine's lock; no thread state needed. */

/* Takes a place for one request. Returns the part that serves it; 0, and *spread NULL: every group
 * has one interpreter. */
unsigned eng_spread_take(eng_spread_t **spread, pyglue_engine_t *engine, pyglue_str_t group);
/* The request has left that part; spread may be NULL. */
void eng_spread_give(pyglue_engine_t *engine, eng_spread_t *spread, unsigned part);
void eng_spread_clear(pyglue_engine_t *engine);

/* table.c: bytes to objects. */

typedef struct eng_entry {
    uint64_t hash;
    size_t len;
    char *bytes; /* NULL: free */
    PyObject *object;
} eng_entry_t;

/* Open addressing; zeroed memory is an empty table. */
typedef struct eng_table {
    eng_entry_t *entries;
    size_t room; /* a power of two, or 0 */
    size_t used;
    eng_leaf_t leaf;
} eng_table_t;

/* A new reference; NULL without an exception set: it is not there. */
PyObject *eng_table_new(eng_table_t *table, const char *bytes, size_t len);
/* Puts or replaces, unless the table has `most` entries; keeps a reference of its own. 0, or -1
 * without memory and no exception set. */
int eng_table_put(eng_table_t *table, const char *bytes, size_t len, PyObject *object, size_t most);
int eng_table_traverse(eng_table_t *table, visitproc visit, void *arg);
void eng_table_clear(eng_table_t *table);

/* module.c: the state of one interpreter. */

/* Interned strings; the texts are in module.c, in this order. */
enum eng_name {
    ENG_NAME_SCRIPT_NAME,
    ENG_NAME_PATH_INFO,
    ENG_NAME_QUERY_STRING,
    ENG_NAME_SCRIPT_FILENAME,
    ENG_NAME_DOCUMENT_ROOT,
    ENG_NAME_VERSION,
    ENG_NAME_URL_SCHEME,
    ENG_NAME_MULTITHREAD,
    ENG_NAME_MULTIPROCESS,
    ENG_NAME_RUN_ONCE,
    ENG_NAME_ERRORS,
    ENG_NAME_INPUT,
    ENG_NAME_INPUT_TERMINATED,
    ENG_NAME_FILE_WRAPPER,
    ENG_NAME_EARLY_HINTS,
    ENG_NAME_APACHE_VERSION,
    ENG_NAME_MOD_WSGI_VERSION,
    ENG_NAME_PROCESS_GROUP,
    ENG_NAME_APPLICATION_GROUP,
    ENG_NAME_CALLABLE_OBJECT,
    ENG_NAME_REQUEST_HANDLER,
    ENG_NAME_HANDLER_SCRIPT,
    ENG_NAME_REQUEST_ID,
    ENG_NAME_CONNECTION_ID,
    ENG_NAME_THREAD_ID,
    ENG_NAME_REQUEST_START,
    ENG_NAME_QUEUE_START,
    ENG_NAME_DAEMON_START,
    ENG_NAME_APPLICATION_START,
    ENG_NAME_HTTP,
    ENG_NAME_HTTPS,
    ENG_NAME_EMPTY,
    ENG_NAME_CLOSE,
    ENG_NAME_READ,
    ENG_NAME_FILENO,
    ENG_NAME_TELL,
    ENG_NAME_RAW,
    ENG_NAME_STATUS,
    ENG_NAMES
};

struct eng_state {
    pyglue_engine_t *engine; /* NULL until this interpreter belongs to one */
    eng_interp_t *interp;
    PyTypeObject *app_type, *request_type, *input_type, *stream_type, *file_type;
    PyObject *names[ENG_NAMES];
    PyObject *base_environ;  /* what every environ starts as */
    PyObject *httpd_version; /* tuple of the numbers beside it, or NULL */
    PyObject *find;          /* pyglue.loader.script.find */
    PyObject *error;         /* pyglue.errors.PyglueError */
    PyObject *buffered;      /* io.BufferedIOBase */
    PyObject *raw;           /* io.FileIO */
    PyObject *timeout;       /* pyglue.compat.mod_wsgi.RequestTimeout */
    PyObject *stacks;        /* pyglue.loader.stacks.describe */
    int32_t httpd_numbers[3];
    eng_leaf_t leaf;  /* of these two */
    eng_table_t keys; /* environ keys, interned; bounded */
    eng_table_t apps; /* script, NUL, callable: eng_app_t */
};

/* The state of an _engine module. */
eng_state_t *eng_state_of(PyObject *module);

/* The state of this interpreter's _engine, by the type of one of its objects. */
static inline eng_state_t *eng_state_by_type(PyTypeObject *type) {
    return PyType_GetModuleState(type);
}

/* app.c: a loaded application. */

extern PyType_Spec eng_app_spec;
/* What a changed script means to who asks for its application. */
enum eng_reloads {
    ENG_RELOADS_ITSELF, /* by `modified`; or the asker has no say */
    ENG_WORKER_RELOADS, /* the worker is replaced: WSGIScriptReloading On */
    ENG_WORKER_STAYS    /* Off */
};

/* The application for a request, or for a load, loaded if need be; a new reference, NULL with an
 * exception set. `modified` is the script's mtime in µs, 0: not looked at. */
PyObject *eng_app_new(eng_state_t *state, pyglue_str_t script, pyglue_str_t callable,
                      int64_t modified, enum eng_reloads reloads);

/* host.c: a request, and its way to the host. */

/* A request while it runs, and the start_response of the application. Objects of the application
 * may outlive the request: then host is NULL and every operation raises RuntimeError.
 * The GIL guards it, or its critical section where there is none: whoever reads or writes a field
 * that is not atomic is in it, but for the thread that holds `lock`. */
struct eng_request {
    PyObject_HEAD vectorcallfunc vectorcall;
    pyglue_engine_t *engine;
    const pyglue_snapshot_t *snapshot; /* valid while host is */
    pthread_mutex_t lock;              /* one host operation at a time; guards host */
    _Atomic(pyglue_host_t *) host;     /* NULL once the request has ended */
    eng_scratch_t *scratch;            /* valid while host is */
    int64_t length;                    /* announced Content-Length, -1: none */
    int64_t taken;                     /* body bytes of the application so far */
    atomic_int error;                  /* first failure of the host: nothing more is sent */
    atomic_bool has_head;              /* start_response was called and its head is valid */
    atomic_bool is_given;              /* the head is the host's, or on its way: it stays */
    atomic_bool is_started;            /* the host has the head */
    bool is_gathered;                  /* the whole response is in scratch, to be sent later */
    bool is_bodiless;                  /* HEAD, 204, 304 */
    bool is_excess_logged;
    uint8_t interims; /* interim heads that the application may still send */
};

enum eng_send { ENG_SEND_LAST = 1, ENG_SEND_FLUSH = 2 };

/* Hands bytes to the host, the head first if it has not been. Lets the GIL go.
 * 0, or a PYGLUE_E* that is also kept in request->error. PYGLUE_E_STATE: ended. */
int eng_host_send(eng_request_t *request, const struct iovec *v, int n, unsigned flags);
/* The same for the bytes of a regular file, which are the last. */
int eng_host_send_file(eng_request_t *request, int fd, int64_t offset, int64_t len);
/* Sends an interim head on its way. As above; PYGLUE_E_HEAD or PYGLUE_E_STATE of the host end
 * nothing. Its texts are nobody else's. */
int eng_host_interim(eng_request_t *request, const pyglue_head_t *head);
/* Up to len bytes of the request body; PYGLUE_E_STATE: ended. Lets the GIL go. */
ssize_t eng_host_read(eng_request_t *request, void *buf, size_t len);

/* One entry of the error log: of this request if there is one and it runs, of the thread's
 * request, or of the engine. Lets the GIL go; an exception that is set stays set. */
void eng_log(eng_state_t *state, eng_request_t *request, int level, const char *text, size_t len);
void eng_log_format(eng_state_t *state, eng_request_t *request, int level, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Sets RuntimeError: the request has ended. */
void eng_raise_ended(const char *what);

/* environ.c */

/* Builds the dict that environs are copied from. 0 or -1. */
int eng_environ_prepare(eng_state_t *state);
PyObject *eng_environ_new(eng_state_t *state, eng_request_t *request, PyObject *input,
                          PyObject *errors, unsigned thread_number, double entered);
/* Seconds since the epoch. */
double eng_environ_now(void);

/* start.c: start_response, write and early_hints. */

extern PyType_Spec eng_start_spec; /* of request_type */
eng_request_t *eng_start_new(eng_state_t *state, const pyglue_snapshot_t *snapshot,
                             pyglue_host_t *host, eng_scratch_t *scratch);
/* The callable `wsgi.early_hints`. */
PyObject *eng_start_hints_new(eng_request_t *request);

/* head.c: a response head as the application gave it. Texts are borrowed from its objects until
 * they are kept. 0 or -1 each. */

/* `NNN` or `NNN reason` */
int eng_head_read_status(PyObject *object, pyglue_head_t *head);
/* A whole list of fields, into the scratch's; *dropped: one that concerns the connection, and was
 * left out with all such, if there was any. */
int eng_head_read_fields(PyObject *list, eng_scratch_t *scratch, pyglue_head_t *head,
                         pyglue_str_t *dropped);
/* Replaces the borrowed texts of the head by copies. Those of the scratch's old head are
 * overwritten. */
int eng_head_keep(eng_scratch_t *scratch, pyglue_head_t *head);
/* Adds a Content-Length that the application did not give, to the head that was kept. */
int eng_head_add_length(eng_request_t *request, int64_t length);

/* result.c */

/* The bytes of an item within the announced length. 0, or -1 and TypeError. */
int eng_result_take(eng_request_t *request, PyObject *item, struct iovec *block);
/* Runs what the application returned to its end and calls close(). 0 or -1; errors of the host
 * are in request->error. */
int eng_result_run(eng_state_t *state, eng_request_t *request, PyObject *result);
/* True: nothing that was announced is missing. */
static inline bool eng_result_is_whole(const eng_request_t *request) {
    return request->is_gathered ||
           (request->is_started && request->length >= 0 && request->taken >= request->length);
}

/* file.c */

extern PyType_Spec eng_file_spec;
/* 1: sent as a file; 0: it is to be iterated; -1. */
int eng_file_send(eng_state_t *state, eng_request_t *request, PyObject *result);

/* input.c, stream.c */

extern PyType_Spec eng_input_spec;
PyObject *eng_input_new(eng_state_t *state, eng_request_t *request);

extern PyType_Spec eng_stream_spec;
/* request NULL: sys.stdout or sys.stderr. */
PyObject *eng_stream_new(eng_state_t *state, eng_request_t *request, const char *name);
/* Logs a last line without an end. */
void eng_stream_finish(PyObject *stream);

/* exc.c: a Python exception to log text and outcome. The only translator. */

/* Logs the exception that is set and clears it; `script` may be empty, a PyglueError has an id and
 * words of its own, and so has an interruption. Returns the status of a request that fails by it:
 * 500, 403, 404 or 504. */
int eng_exc_log(eng_state_t *state, eng_request_t *request, const char *id, const char *what,
                pyglue_str_t script);
/* The same where there is no state yet; `what` begins with the id. */
void eng_exc_log_early(pyglue_engine_t *engine, const char *what);

/* interrupt.c: requests seen and ended by other threads. */

/* This thread runs the request from here to end, which is given what begin has kept in *outer. */
void eng_interrupt_begin(eng_thread_t *thread, eng_shown_t *outer, const eng_shown_t *shown);
void eng_interrupt_end(eng_thread_t *thread, const eng_shown_t *outer);
/* In between: what runs is the application's, and may be interrupted; is ours again. */
void eng_interrupt_allow(eng_thread_t *thread);
void eng_interrupt_forbid(eng_thread_t *thread);
/* What the application does next is no part of what was interrupted: its close(). */
void eng_interrupt_settle(eng_request_t *request);

/* The operations of engine.h. */
int eng_interrupt_nogil(pyglue_engine_t *engine, unsigned gil, uint64_t number);
void eng_interrupt_dump_nogil(pyglue_engine_t *engine, unsigned gil);
void eng_interrupt_touch_nogil(pyglue_engine_t *engine, unsigned gil);

/* gils.c: GILs by their numbers; any thread. */

/* `gils` and `dump_stuck` of engine.h. */
unsigned eng_gils_count(pyglue_engine_t *engine);
void eng_gils_dump_stuck(pyglue_engine_t *engine, unsigned gil, int number);
/* The next interpreter under this GIL, as eng_interp_next. */
eng_interp_t *eng_gils_next(pyglue_engine_t *engine, unsigned gil, eng_interp_t *interp);

/* note.c: files that matter, of all interpreters. */

PyObject *eng_note_add(PyObject *module, PyObject *args);
PyObject *eng_note_list(PyObject *module, PyObject *unused);
PyObject *eng_note_unwatch(PyObject *module, PyObject *path);
void eng_note_clear(pyglue_engine_t *engine);
/* loaded.c: which applications were loaded, in all interpreters. Any thread. */
void eng_loaded_add(pyglue_engine_t *engine, pyglue_str_t script, pyglue_str_t group,
                    pyglue_str_t callable);
PyObject *eng_loaded_list(PyObject *module, PyObject *unused);
void eng_loaded_clear(pyglue_engine_t *engine);
/* Whether changes of a noted file count. */
void eng_note_watch(pyglue_engine_t *engine, const char *path, bool is_watched);
/* As if it had changed. */
void eng_note_outdate(pyglue_engine_t *engine, const char *path);
/* Is this file what was loaded of it, or does it not matter (yet)? Looks at it. Without the GIL. */
bool eng_note_is_current(pyglue_engine_t *engine, const char *path);

#endif
