/* SPDX-License-Identifier: Apache-2.0 */
/* Application groups: one interpreter each, or one for each part; how threads enter them, and
 * their end. What an interpreter is given is furnish.c's, the record of a thread thread.c's.
 *
 * A thread that needs an interpreter which another one is making waits without a thread state.
 * The engine's lock is a leaf: nothing that may want a GIL happens under it. */
#include "eng.h"

/* Interpreters. */

static bool is_of(const eng_interp_t *interp, pyglue_str_t group, unsigned part) {
    return interp->part == part && interp->name_len == group.len &&
           memcmp(interp->name, group.ptr, group.len) == 0;
}

bool eng_interp_is_main(const eng_interp_t *interp) {
    return interp->part == 0 && interp->name_len == 0;
}

eng_interp_t *eng_interp_next(pyglue_engine_t *engine, eng_interp_t *interp) {
    pthread_mutex_lock(&engine->lock);
    do
        interp = interp == NULL ? engine->interps : interp->next;
    while (interp != NULL && !interp->is_ready);
    pthread_mutex_unlock(&engine->lock);
    return interp;
}

static eng_interp_t *new_interp(pyglue_str_t group, unsigned part) {
    eng_interp_t *interp = calloc(1, sizeof *interp);

    if (interp != NULL && (interp->name = malloc(group.len + 1)) == NULL) {
        free(interp);
        return NULL;
    }
    if (interp != NULL) {
        memcpy(interp->name, group.ptr, group.len);
        interp->name[group.len] = '\0';
        interp->name_len = group.len;
        interp->part = part;
    }
    return interp;
}

static void free_interp(eng_interp_t *interp) {
    free(interp->name);
    free(interp);
}

static void remove_locked(pyglue_engine_t *engine, const eng_interp_t *interp) {
    eng_interp_t **at = &engine->interps;

    while (*at != interp)
        at = &(*at)->next;
    *at = interp->next;
}

static void settle(pyglue_engine_t *engine, eng_interp_t *interp, bool is_made) {
    pthread_mutex_lock(&engine->lock);
    interp->is_ready = is_made;
    if (is_made && interp->has_own_gil)
        interp->gil = ++engine->own_gils;
    if (!is_made)
        remove_locked(engine, interp);
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
    if (!is_made)
        free_interp(interp);
}

/* The record of an interpreter: ready, or new and ours to make (*is_mine). NULL: no memory. */
static eng_interp_t *find_or_reserve_nogil(pyglue_engine_t *engine, pyglue_str_t group,
                                           unsigned part, bool *is_mine) {
    eng_interp_t *interp;

    pthread_mutex_lock(&engine->lock);
    for (;;) {
        for (interp = engine->interps; interp != NULL; interp = interp->next)
            if (is_of(interp, group, part))
                break;
        if (interp == NULL || interp->is_ready)
            break;
        pthread_cond_wait(&engine->changed, &engine->lock);
    }
    *is_mine = interp == NULL;
    if (*is_mine && (interp = new_interp(group, part)) != NULL) {
        interp->next = engine->interps;
        engine->interps = interp;
    }
    pthread_mutex_unlock(&engine->lock);
    return interp;
}

int eng_interp_adopt_main(pyglue_engine_t *engine) {
    eng_interp_t *interp = new_interp(pyglue_str(""), 0);

    if (interp == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    interp->python = PyInterpreterState_Get();
    if (eng_furnish(engine, interp) || eng_furnish_count_parts(engine)) {
        if (interp->state != NULL) { /* the module lives on without an engine */
            interp->state->engine = NULL;
            interp->state->interp = NULL;
        }
        free_interp(interp);
        return -1;
    }
    interp->is_ready = true;
    engine->interps = interp;
    return 0;
}

/* Entering. */

/* Python may know this thread in the main interpreter: one state for each is its rule. What it
 * names after it made a sub-interpreter is, from 3.12 on, the keeper, which is no thread's. */
static PyThreadState *borrow_python(const eng_interp_t *interp) {
    PyThreadState *python = eng_interp_is_main(interp) ? PyGILState_GetThisThreadState() : NULL;

    return python != NULL && PyThreadState_GetInterpreter(python) == interp->python ? python : NULL;
}

static eng_seat_t *sit_nogil(eng_thread_t *thread, eng_interp_t *interp) {
    PyThreadState *python = borrow_python(interp);
    bool is_borrowed = python != NULL;
    eng_seat_t *seat;

    if (python == NULL)
        python = PyThreadState_New(interp->python);
    if (python == NULL)
        return NULL;
    PyEval_RestoreThread(python);
    seat = eng_thread_add_seat(thread, interp, python, is_borrowed);
    if (seat != NULL)
        return seat;
    if (is_borrowed) {
        PyEval_SaveThread();
    } else {
        PyThreadState_Clear(python);
        PyThreadState_DeleteCurrent();
    }
    return NULL;
}

/* Its keeper is attached and its last state; left without a thread state. */
static void end_interp(eng_thread_t *thread, eng_interp_t *interp) {
    eng_seat_t *main_seat = thread->seats;

    while (!eng_interp_is_main(
        main_seat->interp)) /* a thread that ends or makes one sat in main before */
        main_seat = main_seat->next;
    Py_EndInterpreter(interp->keeper);
    interp->keeper = NULL;
    /* Before 3.12 the GIL is still held here, later it is not; swapping is right for both. */
    PyThreadState_Swap(main_seat->python);
    eng_interp_leave(main_seat);
}

/* An interpreter that nobody else has seen goes with its only seat, if it got one. */
static void abandon_nogil(eng_thread_t *thread, eng_interp_t *interp, eng_seat_t *seat) {
    if (seat != NULL) {
        thread->seats = seat->next;
        eng_thread_end_seat_nogil(thread->engine, seat);
    }
    PyEval_RestoreThread(interp->keeper);
    end_interp(thread, interp);
}

/* The interpreter's first state becomes its keeper, before anything is imported with it: what
 * imports `threading` is that module's main thread, whose end an interpreter waits for.
 * Called and left without a thread state. */
static bool make_nogil(eng_thread_t *thread, eng_interp_t *interp) {
    eng_seat_t *main_seat = eng_interp_enter_main_nogil(thread);
    PyThreadState *python = NULL;
    int own_gil;

    if (main_seat == NULL)
        return false;
    own_gil = eng_furnish_has_own_gil(interp);
    if (own_gil >= 0)
        python = eng_compat_new_interpreter(own_gil);
    if (python == NULL) {
        eng_exc_log_early(thread->engine, ENG_ID(3011) "a sub-interpreter could not be made");
        PyThreadState_Swap(main_seat->python);
        eng_interp_leave(main_seat);
        return false;
    }
    interp->has_own_gil = own_gil;
    interp->python = PyThreadState_GetInterpreter(python);
    interp->keeper = PyEval_SaveThread();
    return true;
}

static void log_shortage(const pyglue_engine_t *engine) {
    engine->log(engine->baton, PYGLUE_LEVEL_ERROR,
                pyglue_str(ENG_ID(3017) "out of memory: a thread could not enter an application "
                                        "group's interpreter"));
}

/* The first seat in a new interpreter, which has all that serving needs. NULL: there is none. */
static eng_seat_t *found_nogil(eng_thread_t *thread, eng_interp_t *interp) {
    eng_seat_t *seat;

    if (!make_nogil(thread, interp))
        return NULL;
    seat = sit_nogil(thread, interp);
    if (seat == NULL)
        log_shortage(thread->engine);
    if (seat != NULL && eng_furnish(thread->engine, interp) == 0)
        return seat;
    if (seat != NULL) {
        eng_exc_log_early(thread->engine, ENG_ID(3012) "a sub-interpreter could not be prepared");
        eng_interp_leave(seat);
    }
    abandon_nogil(thread, interp, seat);
    return NULL;
}

static eng_seat_t *enter_first_nogil(eng_thread_t *thread, pyglue_str_t group, unsigned part) {
    bool is_mine;
    eng_interp_t *interp = find_or_reserve_nogil(thread->engine, group, part, &is_mine);
    eng_seat_t *seat;

    if (interp == NULL || !is_mine) {
        seat = interp != NULL ? sit_nogil(thread, interp) : NULL;
        if (seat == NULL)
            log_shortage(thread->engine);
        return seat;
    }
    seat = found_nogil(thread, interp);
    settle(thread->engine, interp, seat != NULL);
    return seat;
}

eng_seat_t *eng_interp_enter_nogil(eng_thread_t *thread, pyglue_str_t group, unsigned part) {
    for (eng_seat_t *seat = thread->seats; seat != NULL; seat = seat->next) {
        if (is_of(seat->interp, group, part)) {
            PyEval_RestoreThread(seat->python);
            return seat;
        }
    }
    return enter_first_nogil(thread, group, part);
}

eng_seat_t *eng_interp_enter_main_nogil(eng_thread_t *thread) {
    return eng_interp_enter_nogil(thread, pyglue_str(""), 0);
}

void eng_interp_leave(eng_seat_t *seat) {
    (void)seat;
    PyEval_SaveThread();
}

/* The end. */

/* Thread states of threads that never said thread_end; they don't run any more. */
static void end_seats(eng_interp_t *interp) {
    for (eng_seat_t *seat = interp->seats; seat != NULL; seat = seat->peer) {
        PyThreadState_Clear(seat->python);
        PyThreadState_Delete(seat->python);
        seat->python = NULL;
    }
}

/* False: it is left to the process, because threads of the application still live in it, or
 * because it has a GIL and so an allocator of its own: when such a one ends, CPython 3.12 frees
 * with it objects that all share, and the heap is broken. */
static bool end_one_nogil(eng_thread_t *thread, eng_interp_t *interp) {
    PyEval_RestoreThread(interp->keeper);
    end_seats(interp);
    eng_furnish_finish(thread->engine);
    if (interp->has_own_gil ||
        PyThreadState_Next(PyInterpreterState_ThreadHead(interp->python)) != NULL) {
        PyEval_SaveThread();
        return false;
    }
    interp->state = NULL;
    end_interp(thread, interp);
    return true;
}

bool eng_interp_end_all_nogil(pyglue_engine_t *engine) {
    eng_thread_t *thread = eng_thread_nogil(engine);
    eng_seat_t *main_seat = thread != NULL ? eng_interp_enter_main_nogil(thread) : NULL;
    bool is_clean = true;

    if (main_seat == NULL)
        return false;
    eng_interp_leave(main_seat);
    for (eng_interp_t *interp = engine->interps; interp != NULL; interp = interp->next)
        if (!eng_interp_is_main(interp) && !end_one_nogil(thread, interp))
            is_clean = false;
    return is_clean;
}

void eng_interp_finish_main_nogil(pyglue_engine_t *engine) {
    eng_thread_t *thread = eng_thread_nogil(engine);
    eng_seat_t *seat = thread != NULL ? eng_interp_enter_main_nogil(thread) : NULL;

    if (seat == NULL)
        return;
    eng_furnish_finish(engine);
    eng_interp_leave(seat);
}

void eng_interp_free_all(pyglue_engine_t *engine) {
    eng_thread_t *thread = pthread_getspecific(engine->thread_key);

    while (engine->interps != NULL) {
        eng_interp_t *interp = engine->interps;

        while (interp->seats != NULL) {
            eng_seat_t *seat = interp->seats;

            interp->seats = seat->peer;
            free(seat);
        }
        engine->interps = interp->next;
        free_interp(interp);
    }
    if (thread != NULL)
        eng_scratch_free(thread->scratch);
    free(thread);
}
