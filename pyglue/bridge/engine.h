/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine offers to a host: run one request, load one script.
 *
 * An engine is a CPython extension module (pyglue._engine); its shared object exports the one
 * symbol pyglue_engine besides its module init function. httpd's children reach it by dlopen and
 * dlsym (apache_module/glue_embed.c); in a worker it is the same extension (pyglue/worker).
 * Neither needs Python.h to use this header. docs/bridge.md is the normative text. */
#ifndef PYGLUE_ENGINE_H
#define PYGLUE_ENGINE_H

#include "host.h"
#include "snapshot.h"

#define PYGLUE_ENGINE_VERSION 1u /* raised when a table or struct here changes incompatibly */
#define PYGLUE_ENGINE_SYMBOL "pyglue_engine"

typedef struct pyglue_engine pyglue_engine_t; /* one for each process */

/* Text that Python writes while no request runs (imports at start, threads of the application). */
typedef void (*pyglue_log_fn)(void *baton, int level, pyglue_str_t text);

/* All pointers are borrowed for the call of open only, log and baton for the engine's life. */
typedef struct pyglue_engine_settings {
    uint32_t size;          /* of this struct */
    const char *package;    /* folder of the package pyglue that belongs to this engine */
    const char *executable; /* embedded: the configured Python's path; NULL: Python runs already */
    const char *settings;   /* JSON for pyglue.loader.interpreter.prepare, UTF-8: docs/bridge.md */
    pyglue_log_fn log;
    void *baton;
    /* With an executable of a free-threaded build: 1: its GIL is on. A host that does not know this
     * field gets 1. The struct only ever grows at its end. */
    uint32_t has_gil;
} pyglue_engine_settings_t;

enum pyglue_outcome_kind {
    PYGLUE_COMPLETE, /* the head was started and the whole body handed over */
    PYGLUE_FAILED,   /* no head was started: answer with outcome.status */
    PYGLUE_CUT       /* the head was started, the body is incomplete: the client must see that */
};

typedef struct pyglue_outcome {
    int kind;   /* pyglue_outcome_kind */
    int status; /* PYGLUE_FAILED: 500; 404: the script has no such callable; 403: it is of another
                   owner than script-user or script-group allow; 504: it was interrupted, or a
                   worker did not begin with it in time */
} pyglue_outcome_t;

/* A script to load before it is asked for. */
typedef struct pyglue_load {
    const char *script;
    const char *application_group;
    const char *callable; /* NULL: executed only (WSGIImportScript) */
} pyglue_load_t;

typedef struct pyglue_engine_ops {
    uint32_t size;    /* of this table; it only ever grows at its end */
    uint32_t version; /* PYGLUE_ENGINE_VERSION */
    /* Once a process. With an executable it initialises Python, and the calling thread must be
     * one that lives as long as the process and later calls close: Python's main thread. On
     * return no thread state is held. 0; PYGLUE_E_PYTHON, PYGLUE_E_VERSION, PYGLUE_E_NOMEM. */
    int (*open)(pyglue_engine_t **engine, const pyglue_engine_settings_t *settings);
    /* Runs one request. Any thread, many at once. Always fills *outcome; errors of the
     * application are logged through the host and are outcomes, not results.
     * 0, or PYGLUE_E_GONE when the host failed (outcome is then what was reached). */
    int (*call)(pyglue_engine_t *engine, const pyglue_snapshot_t *snapshot, pyglue_host_t *host,
                pyglue_outcome_t *outcome);
    /* Loads a script now. 0 or PYGLUE_E_PYTHON (the traceback is in the log). Any thread. */
    int (*load)(pyglue_engine_t *engine, const pyglue_load_t *load);
    /* The calling thread will not call again: its thread states go. */
    void (*thread_end)(pyglue_engine_t *engine);
    /* Ends sub-interpreters and, if open initialised it, Python: runs atexit callbacks. Called by
     * the thread that called open, when no call is running any more. */
    void (*close)(pyglue_engine_t *engine);
    /* 1: some script has been loaded since open. Any thread, also while another holds the GIL. */
    int (*has_loaded)(pyglue_engine_t *engine);
    /* 0: the file of this request's script is not what was loaded of it, and the request says that
     * such changes count (PYGLUE_REQ_RELOADING). One stat(2). Any thread, without the GIL. */
    int (*is_current)(pyglue_engine_t *engine, const pyglue_snapshot_t *snapshot);
    /* The rest is what a worker watches with (pyglue/worker/watch.c): any thread beside those of
     * calls. Each is of one GIL, waits for no other, and for its own as long as that is kept: a
     * thread for each GIL, at one of them at a time. GIL 0 is the main interpreter's, and of all
     * that share it; `gils` tells how many there are.
     * Raises mod_wsgi.RequestTimeout in the thread that runs this request, in its interpreter, as
     * soon as that runs Python code; never in another request, nor after the application is done
     * with this one. 1: it will be raised; 0: the request does not run under this GIL, or is not in
     * the hands of the application, or was interrupted before. */
    int (*interrupt)(pyglue_engine_t *engine, unsigned gil, uint64_t number);
    /* Logs the stacks of all threads of each interpreter, with the requests that they run. */
    void (*dump)(pyglue_engine_t *engine, unsigned gil);
    /* The same for a GIL that others wait for in vain, without it: `signal` is raised once for each
     * interpreter, for which Python's faulthandler is registered, and the stacks go where that
     * writes. `signal` 0, or a dump that has the GIL just now: nothing is done. Any thread. */
    void (*dump_stuck)(pyglue_engine_t *engine, unsigned gil, int signal);
    /* Returns when it has had this GIL. */
    void (*touch)(pyglue_engine_t *engine, unsigned gil);
    /* How many GILs there are, which only grows: one, and one for each interpreter that owns its.
     * Any thread, without a GIL. */
    unsigned (*gils)(pyglue_engine_t *engine);
} pyglue_engine_ops_t;

/* The engine's one exported function, named PYGLUE_ENGINE_SYMBOL. Static storage. */
const pyglue_engine_ops_t *pyglue_engine(void);

#endif
