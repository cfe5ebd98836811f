/* SPDX-License-Identifier: Apache-2.0 */
/* From another thread into a request: what it runs, and ending it by mod_wsgi.RequestTimeout.
 *
 * Each thread has a gate. Whoever looks holds it for some plain C, marked by BUSY, and the thread
 * that it belongs to waits at its own gate meanwhile: what was looked at is still there, and an
 * exception is not set for a request that has just ended. With a GIL that thread never waits there,
 * as both sides have it; free-threaded Pythons have only the gate. */
#include "eng.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

enum gate {
    GATE_NONE,    /* no request */
    GATE_SHUT,    /* one, but not in the hands of the application */
    GATE_OPEN,    /* it may be interrupted */
    GATE_DONE,    /* it was */
    GATE_BUSY = 8 /* added to another: somebody looks */
};

/* The thread's own side. */

static int pass(eng_thread_t *thread, int to) {
    int was = atomic_load(&thread->gate);

    do {
        while (was & GATE_BUSY) {
            sched_yield();
            was = atomic_load(&thread->gate);
        }
    } while (!atomic_compare_exchange_weak(&thread->gate, &was, to));
    return was;
}

/* What was raised and has not come up yet: nothing of ours is to meet it. */
static void forget(void) {
    PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), NULL);
}

void eng_interrupt_begin(eng_thread_t *thread, eng_shown_t *outer, const eng_shown_t *shown) {
    *outer = thread->shown;
    outer->gate = pass(thread, GATE_NONE);
    thread->shown = *shown;
    pass(thread, GATE_SHUT);
}

void eng_interrupt_end(eng_thread_t *thread, const eng_shown_t *outer) {
    pass(thread, GATE_NONE);
    thread->shown = *outer;
    pass(thread, outer->gate);
}

void eng_interrupt_allow(eng_thread_t *thread) {
    pass(thread, GATE_OPEN);
}

void eng_interrupt_forbid(eng_thread_t *thread) {
    if (pass(thread, GATE_SHUT) == GATE_DONE)
        forget();
}

void eng_interrupt_settle(eng_request_t *request) {
    eng_thread_t *thread = pthread_getspecific(request->engine->thread_key);

    if (thread != NULL && (atomic_load(&thread->gate) & ~GATE_BUSY) == GATE_DONE)
        forget();
}

/* The other side. */

/* Holds the gate of a thread that runs a request, as soon as nobody else does. What the gate was;
 * GATE_NONE: nothing is held. */
static int hold(eng_thread_t *thread) {
    int was = atomic_load(&thread->gate);

    while (was != GATE_NONE) {
        if (was & GATE_BUSY) {
            sched_yield();
            was = atomic_load(&thread->gate);
        } else if (atomic_compare_exchange_weak(&thread->gate, &was, was | GATE_BUSY)) {
            return was;
        }
    }
    return GATE_NONE;
}

static void let_go(eng_thread_t *thread, int gate) {
    atomic_store(&thread->gate, gate);
}

/* The thread of this request, held; its interpreter, and what the gate was. NULL: none runs it. */
static eng_thread_t *hold_request(pyglue_engine_t *engine, uint64_t number, int *gate) {
    eng_thread_t *thread;

    pthread_mutex_lock(&engine->lock);
    for (thread = engine->thread_list; thread != NULL; thread = thread->next) {
        *gate = hold(thread);
        if (*gate == GATE_NONE)
            continue;
        if (thread->shown.snapshot->number == number)
            break;
        let_go(thread, *gate);
    }
    pthread_mutex_unlock(&engine->lock);
    return thread;
}

static eng_interp_t *interp_of_nogil(pyglue_engine_t *engine, uint64_t number) {
    int gate;
    eng_thread_t *thread = hold_request(engine, number, &gate);
    eng_interp_t *interp = thread != NULL ? thread->shown.interp : NULL;

    if (thread != NULL)
        let_go(thread, gate);
    return interp;
}

/* Coming in. */

enum { ASKERS = 32, ASK_AGAIN = 1000 /* µs */ };

/* An interpreter entered by the hand of a worker. */
typedef struct passage {
    eng_seat_t *seat;
    atomic_bool is_in;
    unsigned count;
    struct asker {
        pthread_t thread;
        const eng_interp_t *interp;
        atomic_bool *is_in;
    } askers[ASKERS];
} passage_t;

/* Has a thread of this interpreter give the GIL away, again and again. */
static void *ask(void *argument) {
    const struct asker *asker = argument;
    PyThreadState *state = PyThreadState_New(asker->interp->python);

    if (state == NULL)
        return NULL;
    while (!atomic_load(asker->is_in)) {
        PyEval_RestoreThread(state);
        PyEval_SaveThread();
        usleep(ASK_AGAIN);
    }
    PyEval_RestoreThread(state);
    PyThreadState_Clear(state);
    PyThreadState_DeleteCurrent();
    return NULL;
}

static bool is_asked(const passage_t *passage, const eng_interp_t *interp) {
    for (unsigned i = 0; i < passage->count; i++)
        if (passage->askers[i].interp == interp)
            return true;
    return false;
}

/* Those in which requests run under the GIL of the one that is wanted, beside it. */
static void list_askers(passage_t *passage, pyglue_engine_t *engine, const eng_interp_t *wanted) {
    pthread_mutex_lock(&engine->lock);
    for (eng_thread_t *thread = engine->thread_list; thread != NULL; thread = thread->next) {
        int gate = hold(thread);
        const eng_interp_t *interp = gate != GATE_NONE ? thread->shown.interp : wanted;

        if (interp != wanted && !interp->has_own_gil && passage->count < ASKERS &&
            !is_asked(passage, interp))
            passage->askers[passage->count++] =
                (struct asker){.interp = interp, .is_in = &passage->is_in};
        if (gate != GATE_NONE)
            let_go(thread, gate);
    }
    pthread_mutex_unlock(&engine->lock);
}

static void start_askers(passage_t *passage) {
    unsigned started = 0;

    for (unsigned i = 0; i < passage->count; i++) {
        struct asker *asker = &passage->askers[started];

        asker->interp = passage->askers[i].interp;
        if (pthread_create(&asker->thread, NULL, ask, asker) == 0)
            started++;
    }
    passage->count = started;
}

static void begin_passage(passage_t *passage, pyglue_engine_t *engine, const eng_interp_t *interp) {
    *passage = (passage_t){.seat = NULL};
    if (!ENG_ASKS_HOLDER && !interp->has_own_gil)
        list_askers(passage, engine, interp);
    start_askers(passage);
}

static bool enter_nogil(passage_t *passage, eng_thread_t *own, const eng_interp_t *interp) {
    begin_passage(passage, own->engine, interp);
    passage->seat =
        eng_interp_enter_nogil(own, (pyglue_str_t){interp->name, interp->name_len}, interp->part);
    atomic_store(&passage->is_in, true);
    return passage->seat != NULL;
}

/* Whether it was entered or not. */
static void leave(passage_t *passage) {
    if (passage->seat != NULL)
        eng_interp_leave(passage->seat);
    for (unsigned i = 0; i < passage->count; i++)
        pthread_join(passage->askers[i].thread, NULL);
}

/* With the request's interpreter attached. */
static int raise_in(pyglue_engine_t *engine, uint64_t number, const eng_interp_t *interp) {
    int gate;
    eng_thread_t *thread = hold_request(engine, number, &gate);
    bool may = thread != NULL && gate == GATE_OPEN && thread->shown.interp == interp;

    if (may && PyThreadState_SetAsyncExc(thread->shown.ident, interp->state->timeout) == 1)
        gate = GATE_DONE;
    else
        may = false;
    if (thread != NULL)
        let_go(thread, gate);
    return may;
}

int eng_interrupt_nogil(pyglue_engine_t *engine, unsigned gil, uint64_t number) {
    eng_thread_t *own = eng_thread_nogil(engine);
    eng_interp_t *interp = interp_of_nogil(engine, number);
    passage_t passage;
    int rv = 0;

    if (own == NULL || interp == NULL || interp->gil != gil)
        return 0;
    if (enter_nogil(&passage, own, interp))
        rv = raise_in(engine, number, interp);
    leave(&passage);
    return rv;
}

/* Stacks. */

enum { SHOWN_MAX = 512, METHOD_MAX = 16, URI_MAX = 380, ID_MAX = 64 }; /* in a dump */

static int shortened(pyglue_str_t text, size_t most) {
    return (int)(text.len < most ? text.len : most);
}

/* "GET /path (request ID, for 1.500 s)": a text of latin-1, without the query, which may hold
 * secrets. */
static void describe(char *text, const eng_shown_t *shown) {
    pyglue_str_t method = pyglue_snapshot_value(shown->snapshot, pyglue_str("REQUEST_METHOD"));
    pyglue_str_t uri = pyglue_snapshot_value(shown->snapshot, pyglue_str("REQUEST_URI"));
    pyglue_str_t id = pyglue_snapshot_text(shown->snapshot, shown->snapshot->request_id);
    const char *query = uri.len > 0 ? memchr(uri.ptr, '?', uri.len) : NULL;

    if (query != NULL)
        uri.len = (size_t)(query - uri.ptr);
    snprintf(text, SHOWN_MAX, "%.*s %.*s (request %.*s, for %.3f s)", shortened(method, METHOD_MAX),
             method.len > 0 ? method.ptr : "", shortened(uri, URI_MAX), uri.len > 0 ? uri.ptr : "",
             shortened(id, ID_MAX), id.ptr, eng_environ_now() - shown->since);
}

/* One that runs a request in this interpreter, as plain memory. */
typedef struct runner {
    struct runner *next;
    unsigned long ident;
    char text[SHOWN_MAX];
} runner_t;

/* Those are copied first: Python objects may not be made while gates are held. */
static runner_t *list_runners(pyglue_engine_t *engine, const eng_interp_t *interp) {
    runner_t *list = NULL, *runner;

    pthread_mutex_lock(&engine->lock);
    for (eng_thread_t *thread = engine->thread_list; thread != NULL; thread = thread->next) {
        int gate = hold(thread);

        if (gate == GATE_NONE)
            continue;
        if (thread->shown.interp == interp && (runner = malloc(sizeof *runner)) != NULL) {
            runner->next = list;
            runner->ident = thread->shown.ident;
            describe(runner->text, &thread->shown);
            list = runner;
        }
        let_go(thread, gate);
    }
    pthread_mutex_unlock(&engine->lock);
    return list;
}

/* {ident: text}, and frees the list. NULL with an exception set. */
static PyObject *runners_new(runner_t *list) {
    PyObject *dict = PyDict_New();

    while (list != NULL) {
        runner_t *runner = list;
        PyObject *ident = PyLong_FromUnsignedLong(runner->ident);
        PyObject *text =
            PyUnicode_DecodeLatin1(runner->text, (Py_ssize_t)strlen(runner->text), NULL);

        if (dict != NULL && (ident == NULL || text == NULL || PyDict_SetItem(dict, ident, text)))
            Py_CLEAR(dict);
        Py_XDECREF(ident);
        Py_XDECREF(text);
        list = runner->next;
        free(runner);
    }
    return dict;
}

/* Adds what each thread of the current interpreter runs. 0 or -1. */
static int add_frames(PyObject *dict) {
    PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    int rv = 0;

    for (; rv == 0 && thread != NULL; thread = PyThreadState_Next(thread)) {
        PyObject *frame = (PyObject *)PyThreadState_GetFrame(thread);
        PyObject *ident = frame != NULL ? PyLong_FromUnsignedLong(thread->thread_id) : NULL;

        if (frame != NULL)
            rv = ident != NULL ? PyDict_SetItem(dict, ident, frame) : -1;
        Py_XDECREF(ident);
        Py_XDECREF(frame);
    }
    return rv;
}

/* {ident: frame} of this interpreter. sys._current_frames() looks into others as well, which may
 * have a GIL of their own; only where there is none does it stop them. A collection of garbage
 * would run the application's code, at whose hands threads may go. */
static PyObject *frames_new(void) {
    PyObject *dict = NULL;

    if (ENG_HAS_GIL) {
        int was_enabled = PyGC_Disable();

        dict = PyDict_New();
        if (dict != NULL && add_frames(dict))
            Py_CLEAR(dict);
        if (was_enabled)
            PyGC_Enable();
    } else {
        PyObject *borrowed_function = PySys_GetObject("_current_frames");

        if (borrowed_function != NULL)
            dict = PyObject_CallNoArgs(borrowed_function);
    }
    return dict;
}

/* To the log of the process, of which this is the affair, not to that of a request. */
static void log_nogil(pyglue_engine_t *engine, const char *text) {
    pthread_mutex_lock(&engine->stacks_lock);
    engine->log(engine->baton, PYGLUE_LEVEL_ERROR, pyglue_str(text));
    pthread_mutex_unlock(&engine->stacks_lock);
}

static void dump_interp(pyglue_engine_t *engine, const eng_interp_t *interp) {
    PyObject *runners = runners_new(list_runners(engine, interp));
    PyObject *frames = runners != NULL ? frames_new() : NULL;
    PyObject *text = NULL, *bytes = NULL;

    if (frames != NULL)
        text = PyObject_CallFunction(interp->state->stacks, "sIOO", interp->name, interp->part,
                                     frames, runners);
    Py_XDECREF(frames);
    if (text != NULL)
        bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    if (bytes != NULL) {
        Py_BEGIN_ALLOW_THREADS
            log_nogil(engine, PyBytes_AS_STRING(bytes));
        Py_END_ALLOW_THREADS
    } else {
        eng_exc_log(interp->state, NULL, ENG_ID(3022), "stacks could not be shown", pyglue_str(""));
    }
    Py_XDECREF(bytes);
    Py_XDECREF(text);
    Py_XDECREF(runners);
}

void eng_interrupt_dump_nogil(pyglue_engine_t *engine, unsigned gil) {
    eng_thread_t *own = eng_thread_nogil(engine);
    eng_interp_t *interp = NULL;

    while (own != NULL && (interp = eng_gils_next(engine, gil, interp)) != NULL) {
        passage_t passage;

        if (enter_nogil(&passage, own, interp)) {
            atomic_store(&interp->is_shown, true);
            dump_interp(engine, interp);
            atomic_store(&interp->is_shown, false);
        }
        leave(&passage);
    }
}

void eng_interrupt_touch_nogil(pyglue_engine_t *engine, unsigned gil) {
    eng_thread_t *own = eng_thread_nogil(engine);
    eng_interp_t *interp = NULL;
    passage_t passage;

    do
        interp = eng_gils_next(engine, gil, interp);
    while (interp != NULL && gil == 0 && !eng_interp_is_main(interp));
    if (own == NULL || interp == NULL)
        return;
    enter_nogil(&passage, own, interp);
    leave(&passage);
}
