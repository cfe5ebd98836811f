/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker watches in itself, so that it can be told, interrupted or replaced: requests that
 * run for too long, scripts that do not come to be loaded, an interpreter that nobody can have, its
 * memory and its age. Threads of its own: one that watches, and a hand for each GIL (hands.h),
 * started only if a setting asks for what they do.
 *
 * Up: pool.c. Down: the engine's table, the worker's record, process.c. */
#ifndef PYGLUE_WATCH_H
#define PYGLUE_WATCH_H

#include "worker.h"

/* Arguments of RECYCLE (docs/plan.md 4) that are said from here. */
enum wkr_recycle {
    WKR_RECYCLE_INTERVAL = 3,
    WKR_RECYCLE_RSS = 5,
    WKR_RECYCLE_REQUEST = 6,
    WKR_RECYCLE_DEADLOCK = 7
};

typedef struct wkr_watch wkr_watch_t;

/* Its threads, which do nothing before they are let. *watch is NULL afterwards where nothing is to
 * be watched. 0, PYGLUE_E_NOMEM or PYGLUE_E_IO: a thread could not be made; errno tells. */
int wkr_watch_start(wkr_watch_t **watch, wkr_pool_t *pool);

/* From now on. Once. */
void wkr_watch_let(wkr_watch_t *watch);

/* Ends its threads and waits for them; those that may hold a GIL say thread_end. */
void wkr_watch_stop(wkr_watch_t *watch);

#endif
