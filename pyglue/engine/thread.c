/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's record of each OS thread, and its seats: the thread states that it has in
 * interpreters. A seat is on two lists, its thread's, which is that thread's alone, and its
 * interpreter's, which is under the engine's lock. Up: interp.c, api.c. */
#include "eng.h"

eng_thread_t *eng_thread_nogil(pyglue_engine_t *engine) {
    eng_thread_t *thread = pthread_getspecific(engine->thread_key);

    if (thread != NULL)
        return thread;
    thread = calloc(1, sizeof *thread);
    if (thread == NULL || pthread_setspecific(engine->thread_key, thread) != 0) {
        free(thread);
        return NULL;
    }
    thread->engine = engine;
    pthread_mutex_lock(&engine->lock);
    thread->next = engine->thread_list;
    engine->thread_list = thread;
    pthread_mutex_unlock(&engine->lock);
    return thread;
}

void eng_scratch_free(eng_scratch_t *scratch) {
    if (scratch == NULL)
        return;
    free(scratch->headers);
    free(scratch->text);
    free(scratch->body);
    free(scratch);
}

static void link_seat(pyglue_engine_t *engine, eng_seat_t *seat) {
    pthread_mutex_lock(&engine->lock);
    seat->peer = seat->interp->seats;
    seat->interp->seats = seat;
    pthread_mutex_unlock(&engine->lock);
}

eng_seat_t *eng_thread_add_seat(eng_thread_t *thread, eng_interp_t *interp, PyThreadState *python,
                                bool is_borrowed) {
    eng_seat_t *seat = malloc(sizeof *seat);

    if (seat == NULL)
        return NULL;
    *seat = (eng_seat_t){thread->seats, NULL, interp, python, is_borrowed};
    thread->seats = seat;
    link_seat(thread->engine, seat);
    return seat;
}

void eng_thread_witness_nogil(pyglue_engine_t *engine, eng_interp_t *interp) {
    eng_seat_t *seat = calloc(1, sizeof *seat);

    if (seat == NULL)
        return;
    *seat = (eng_seat_t){.interp = interp, .python = PyThreadState_New(interp->python)};
    if (seat->python == NULL) {
        free(seat);
        return;
    }
    link_seat(engine, seat);
}

static void unlink_seat(pyglue_engine_t *engine, eng_seat_t *seat) {
    eng_seat_t **at;

    pthread_mutex_lock(&engine->lock);
    for (at = &seat->interp->seats; *at != NULL && *at != seat; at = &(*at)->peer)
        ;
    if (*at != NULL)
        *at = seat->peer;
    pthread_mutex_unlock(&engine->lock);
}

void eng_thread_end_seat_nogil(pyglue_engine_t *engine, eng_seat_t *seat) {
    unlink_seat(engine, seat);
    if (!seat->is_borrowed && seat->python != NULL) {
        PyEval_RestoreThread(seat->python);
        PyThreadState_Clear(seat->python);
        PyThreadState_DeleteCurrent();
    }
    free(seat);
}

static void unlink_thread(pyglue_engine_t *engine, eng_thread_t *thread) {
    eng_thread_t **at = &engine->thread_list;

    pthread_mutex_lock(&engine->lock);
    while (*at != thread)
        at = &(*at)->next;
    *at = thread->next;
    pthread_mutex_unlock(&engine->lock);
}

void eng_thread_end_nogil(pyglue_engine_t *engine) {
    eng_thread_t *thread = pthread_getspecific(engine->thread_key);

    if (thread == NULL)
        return;
    while (thread->seats != NULL) {
        eng_seat_t *seat = thread->seats;

        thread->seats = seat->next;
        eng_thread_end_seat_nogil(engine, seat);
    }
    unlink_thread(engine, thread);
    eng_scratch_free(thread->scratch);
    free(thread);
    pthread_setspecific(engine->thread_key, NULL);
}
