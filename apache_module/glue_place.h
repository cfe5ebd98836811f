/* SPDX-License-Identifier: Apache-2.0 */
/* Which worker gets a request: looks through the pages for ready workers of the group, takes a
 * place in this child's row, waits in short sleeps when all are full (SUCCESSION 6). And how many
 * of httpd's threads a group may hold meanwhile (TENANTS 6). Any thread of a child. */
#ifndef GLUE_PLACE_H
#define GLUE_PLACE_H

#include "glue_host.h"
#include "glue_refusal.h"

/* A place taken at a worker: to be given back once. */
typedef struct glue_place {
    unsigned slot;
    pyglue_worker_entry_t worker; /* as the pages had it; path is for messages and to connect */
} glue_place_t;

/* One request's search, over all its tries. */
typedef struct glue_search {
    const glue_group_t *group;
    glue_host_t *host;         /* is its client still there? */
    apr_time_t deadline;       /* of waiting for a thread, or for a worker to start */
    uint64_t avoided;          /* the worker that refused last, tried only after a sleep; 0: none */
    unsigned refusals;         /* so far: each makes the sleeps longer */
    enum glue_refusal refusal; /* why it failed */
    char cause[PYGLUE_CAUSE_SIZE]; /* of GLUE_REFUSAL_DISABLED, else "" */
} glue_search_t;

/* Once in child_init: how many threads this child has, and how many groups there are. */
void glue_place_child_init(apr_pool_t *pchild, int threads, int groups);

/* The calling thread works for the group from now on, waiting included, until it leaves.
 * 0; PYGLUE_E_REFUSED: the group holds its share of this child's threads (child-threads);
 * PYGLUE_E_STATE: there is no placement. After an error there is nothing to leave. */
int glue_place_enter(glue_search_t *search);
void glue_place_leave(const glue_group_t *group);

/* The calling thread waits for the body that its client sends, until it ends that.
 * 0; PYGLUE_E_REFUSED: too many do so, of this group or of all together, or too many wait already;
 * there is nothing to end then. */
int glue_place_begin_upload(glue_search_t *search);
void glue_place_end_upload(const glue_group_t *group);

/* 0: *place is taken. PYGLUE_E_REFUSED: the time is over, too many wait already, or httpd ends;
 * PYGLUE_E_STATE: the group is disabled, its plan was refused, or nothing can start it;
 * PYGLUE_E_GONE: the client has left. search->refusal tells which. */
int glue_place_take(glue_place_t *place, glue_search_t *search);
/* Nothing came of the place that was taken: sleeps, the longer the more refusals there were. 0:
 * look again; else as glue_place_take. */
int glue_place_rest(glue_search_t *search);
void glue_place_give(const glue_place_t *place);
/* Gives it back, and this child asks for no other at that worker: it takes nothing any more. It has
 * died, or leaves, and the pages do not say so yet. */
void glue_place_strike(const glue_place_t *place);

/* The worker did not say hello in time: for a while this child asks it last. */
void glue_place_note_late(const glue_place_t *place);

/* A sleep of a random 1 to 5 ms. */
void glue_place_pause(void);

#endif
