/* SPDX-License-Identifier: Apache-2.0 */
/* GILs by their numbers: the main interpreter's, which is that of all who own none, and one for
 * each interpreter that owns its. And the stacks under one that is kept: faulthandler reads frames
 * without a GIL, so that it would follow ones that are gone meanwhile wherever requests run on. */
#include "eng.h"

#include <pthread.h>
#include <signal.h>

unsigned eng_gils_count(pyglue_engine_t *engine) {
    unsigned count;

    pthread_mutex_lock(&engine->lock);
    count = 1 + engine->own_gils;
    pthread_mutex_unlock(&engine->lock);
    return count;
}

eng_interp_t *eng_gils_next(pyglue_engine_t *engine, unsigned gil, eng_interp_t *interp) {
    do
        interp = eng_interp_next(engine, interp);
    while (interp != NULL && interp->gil != gil);
    return interp;
}

/* Somebody has it, and shows the stacks with it. */
static bool is_had(pyglue_engine_t *engine, unsigned gil) {
    eng_interp_t *interp = NULL;

    while ((interp = eng_gils_next(engine, gil, interp)) != NULL)
        if (atomic_load(&interp->is_shown))
            return true;
    return false;
}

typedef struct witness {
    pyglue_engine_t *engine;
    eng_interp_t *interp;
    int signal;
} witness_t;

/* faulthandler shows the interpreter of the first thread state that a thread has, which may be made
 * without the GIL. It is ended with those of other threads that never say so. */
static void *witness(void *argument) {
    const witness_t *witness = argument;

    eng_thread_witness_nogil(witness->engine, witness->interp);
    pthread_kill(pthread_self(), witness->signal);
    return NULL;
}

void eng_gils_dump_stuck(pyglue_engine_t *engine, unsigned gil, int number) {
    struct sigaction action;
    eng_interp_t *interp = NULL;
    pthread_t thread;

    if (number == 0 || sigaction(number, NULL, &action) || action.sa_handler == SIG_DFL ||
        is_had(engine, gil))
        return;
    pthread_mutex_lock(&engine->stacks_lock);
    while ((interp = eng_gils_next(engine, gil, interp)) != NULL) {
        witness_t one = {engine, interp, number};

        if (pthread_create(&thread, NULL, witness, &one) == 0)
            pthread_join(thread, NULL);
    }
    pthread_mutex_unlock(&engine->stacks_lock);
}
