/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that do everything of a worker's watching that wants a GIL: one for each GIL, its
 * hand, so that one that is kept holds up nobody under another. A hand has stacks dumped,
 * interrupts requests, and takes its GIL once a second just to see that it can. How long it has
 * waited for that is how a deadlock is told: hands are themselves watched, and decide nothing.
 *
 * Up: watch.c, whose thread never waits for Python and calls all of this. Down: the engine's table.
 */
#ifndef PYGLUE_HANDS_H
#define PYGLUE_HANDS_H

#include "worker.h"

typedef struct wkr_hands wkr_hands_t;

/* What they do, and where. */
typedef struct wkr_hands_task {
    const pyglue_engine_ops_t *ops;
    pyglue_engine_t *engine;
    unsigned slots; /* of requests */
    int touches;    /* GILs are to be taken also where nothing is asked for */
} wkr_hands_task_t;

/* The first hand, a thread that does nothing before it is let. Others are made as GILs come into
 * being: by it when it touches, and when something is asked for; where there is no thread to be
 * had, later. *hands is NULL after an error. 0, PYGLUE_E_NOMEM or PYGLUE_E_IO: the thread could not
 * be made; errno tells. */
int wkr_hands_start(wkr_hands_t **hands, const wkr_hands_task_t *task);
/* From now on. Once. */
void wkr_hands_let(wkr_hands_t *hands);
/* Ends the threads, each of which says thread_end, and waits for them: what follows may be called
 * meanwhile. */
void wkr_hands_stop(wkr_hands_t *hands);
void wkr_hands_free(wkr_hands_t *hands);

/* Asks for the request that runs in this slot to be interrupted. */
void wkr_hands_interrupt(wkr_hands_t *hands, unsigned slot, uint64_t number);
/* Asks each hand for the stacks of all threads. */
void wkr_hands_dump(wkr_hands_t *hands);
/* Are any of them yet to come? */
int wkr_hands_owe_dump(wkr_hands_t *hands);
/* A hand that owes stacks and has been at one thing for so many ms. 1: its GIL; they are the
 * caller's to show, and it owes them no more. 0: there is none. */
int wkr_hands_take_stuck(unsigned *gil, wkr_hands_t *hands, uint64_t ms);
/* Since when one waits for its GIL, or has it, ms: the least of all; 0: none does. */
uint64_t wkr_hands_busy_since(wkr_hands_t *hands);

#endif
