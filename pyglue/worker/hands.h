/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that does everything of a worker's watching that wants a GIL: has stacks dumped,
 * interrupts requests, and takes the GIL once a second just to see that it can. How long it has
 * waited for that is how a deadlock is told: it is itself watched, and decides nothing.
 *
 * Up: watch.c, whose thread never waits for Python and calls all of this. Down: the engine's table.
 */
#ifndef PYGLUE_HANDS_H
#define PYGLUE_HANDS_H

#include "worker.h"

typedef struct wkr_hands wkr_hands_t;

/* What it does, and where. */
typedef struct wkr_hands_task {
    const pyglue_engine_ops_t *ops;
    pyglue_engine_t *engine;
    unsigned requests; /* that may be told to be interrupted at once */
    int touches;       /* the GIL is to be taken also where nothing is asked for */
} wkr_hands_task_t;

/* A thread that does nothing before it is let. *hand is NULL after an error. 0, PYGLUE_E_NOMEM or
 * PYGLUE_E_IO: the thread could not be made; errno tells. */
int wkr_hands_start(wkr_hands_t **hand, const wkr_hands_task_t *task);
/* From now on. Once. */
void wkr_hands_let(wkr_hands_t *hand);
/* Ends the thread, which says thread_end, and waits for it: what follows may be called meanwhile.
 */
void wkr_hands_stop(wkr_hands_t *hand);
void wkr_hands_free(wkr_hands_t *hand);

/* Asks for this request to be interrupted. */
void wkr_hands_interrupt(wkr_hands_t *hand, uint64_t number);
/* Asks for the stacks of all threads. */
void wkr_hands_dump(wkr_hands_t *hand);
/* No stacks are asked for any more. 1: they were, or are being dumped and that takes long. */
int wkr_hands_dump_no_more(wkr_hands_t *hand);
/* Since when it waits for a GIL, or has it, ms; 0: neither. */
uint64_t wkr_hands_busy_since(wkr_hands_t *hand);

#endif
