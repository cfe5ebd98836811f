/* SPDX-License-Identifier: Apache-2.0 */
/* The two shared memories by which a request finds a worker. One writer each.
 *
 * Rows: one a child of httpd, one cell a worker, written by that child alone: how many requests it
 * has there, and likewise one a group, how many wait. The parent zeroes the row of a child that it
 * reaped, and keeps a few words of its own there. Pages: what children must know
 * of workers and groups, and obituaries, written by the supervisor alone. Workers map neither.
 * The count is a hint, a worker's refusal the authority. Nothing read from a memory is used as an
 * index, a pid or a pointer: slots are positions that the reader walks by itself.
 *
 * Both are memfds of fixed layout; docs/architecture.md (Placement) tells why, SUCCESSION 6 the
 * races. All functions are thread-safe, none blocks or allocates. */
#ifndef PYGLUE_PLACEMENT_H
#define PYGLUE_PLACEMENT_H

#include "frame.h"

#define PYGLUE_PLACEMENT_VERSION 2u
#define PYGLUE_WORKER_SLOTS 512
#define PYGLUE_GROUP_SLOTS 512
#define PYGLUE_OBITUARY_SLOTS 128
#define PYGLUE_OBITUARY_REQUESTS 64
#define PYGLUE_DIGEST_SIZE 20  /* SHA-1 of what makes a group's identity */
#define PYGLUE_SOCKET_PATH 108 /* sizeof sun_path */
#define PYGLUE_CAUSE_SIZE 96   /* one English clause: "killed by SIGSEGV" */

/* Pages. */

enum pyglue_worker_state {
    PYGLUE_WORKER_NONE,
    PYGLUE_WORKER_READY,  /* give it requests */
    PYGLUE_WORKER_LEAVING /* withdrawn: finish what it has, give it nothing */
};

typedef struct pyglue_worker_entry {
    uint64_t number;                    /* of the incarnation, epoch << 32 | sequence; never 0 */
    uint8_t digest[PYGLUE_DIGEST_SIZE]; /* of its group */
    uint32_t state;                     /* pyglue_worker_state */
    uint32_t threads;                   /* requests that it runs at once */
    char path[PYGLUE_SOCKET_PATH];      /* of its listening socket, NUL-terminated */
    uint8_t key[PYGLUE_KEY_SIZE];
} pyglue_worker_entry_t;

enum pyglue_group_state {
    PYGLUE_GROUP_NONE,
    PYGLUE_GROUP_STARTING, /* no worker is ready yet: wait */
    PYGLUE_GROUP_SERVING,  /* it has, or had a moment ago, a ready worker */
    PYGLUE_GROUP_DISABLED, /* it cannot start: 500; the reason is in the log and in cause */
    PYGLUE_GROUP_IDLE      /* no worker runs; a request that waits in the rows has one started */
};

typedef struct pyglue_group_entry {
    uint8_t digest[PYGLUE_DIGEST_SIZE];
    uint32_t state; /* pyglue_group_state */
    char cause[PYGLUE_CAUSE_SIZE];
} pyglue_group_entry_t;

typedef struct pyglue_obituary {
    uint64_t number;   /* of the dead worker */
    uint32_t complete; /* 1: requests lists all that it had started */
    uint32_t count;
    uint64_t requests[PYGLUE_OBITUARY_REQUESTS]; /* numbers of started, unfinished requests */
    char cause[PYGLUE_CAUSE_SIZE];
} pyglue_obituary_t;

typedef struct pyglue_pages pyglue_pages_t;

size_t pyglue_pages_size(void);
/* Writer: makes zeroed memory a valid, empty pages memory. */
void pyglue_pages_init(pyglue_pages_t *pages);
/* 0 or PYGLUE_E_VERSION: the memory is smaller than, or not of, this layout. */
int pyglue_pages_check(const pyglue_pages_t *pages, size_t size);

/* Writer only: slots are the supervisor's own choice, 0 ... SLOTS-1. A number (or, for groups, a
 * state) of 0 clears the slot. Obituaries replace the oldest. */
void pyglue_pages_put_worker(pyglue_pages_t *pages, unsigned slot, const pyglue_worker_entry_t *w);
void pyglue_pages_put_group(pyglue_pages_t *pages, unsigned slot, const pyglue_group_entry_t *g);
void pyglue_pages_put_obituary(pyglue_pages_t *pages, const pyglue_obituary_t *obituary);
/* Writer: the newest plan taken up, or refused as a whole; and "alive", ms of CLOCK_MONOTONIC. */
void pyglue_pages_put_plan(pyglue_pages_t *pages, uint64_t accepted, uint64_t refused);
void pyglue_pages_put_heartbeat(pyglue_pages_t *pages, uint64_t now_ms);

/* Readers copy whole, untorn entries. 1: copied; 0: the slot is empty or just changing. */
int pyglue_pages_get_worker(const pyglue_pages_t *pages, unsigned slot, pyglue_worker_entry_t *w);
/* By digest. 1: found; 0: not there. */
int pyglue_pages_find_group(const pyglue_pages_t *pages, const uint8_t *digest,
                            pyglue_group_entry_t *g);
/* In which slot that group is, for what the rows keep by group; -1: it is not there. */
int pyglue_pages_group_slot(const pyglue_pages_t *pages, const uint8_t *digest);
/* By number of the worker. 1: found. */
int pyglue_pages_find_obituary(const pyglue_pages_t *pages, uint64_t number,
                               pyglue_obituary_t *obituary);
uint64_t pyglue_pages_plan_accepted(const pyglue_pages_t *pages);
uint64_t pyglue_pages_plan_refused(const pyglue_pages_t *pages);
uint64_t pyglue_pages_heartbeat(const pyglue_pages_t *pages);
/* One past the last slot that was ever in use: readers need not look further. */
unsigned pyglue_pages_worker_end(const pyglue_pages_t *pages);

/* Rows. */

typedef struct pyglue_rows pyglue_rows_t;

typedef struct pyglue_rate {
    unsigned a_second, burst; /* both above 0 */
} pyglue_rate_t;

enum pyglue_parent_state {
    PYGLUE_PARENT_SERVING,
    PYGLUE_PARENT_HELPLESS, /* no supervisor can be started: what has no worker gets none */
    PYGLUE_PARENT_ENDING    /* a stop or a hard restart has begun: do not wait */
};

size_t pyglue_rows_size(unsigned rows);
/* How many rows a memory of this size was made for. */
unsigned pyglue_rows_room(size_t size);
void pyglue_rows_init(pyglue_rows_t *rows, unsigned count);
/* A free row for this pid, zeroed; -1: none is left (serve without placement). Child. */
int pyglue_rows_claim(pyglue_rows_t *rows, int32_t pid);
/* Zeroes and frees the row of a child that is dead. Parent, who may be root: the count that stands
 * in the memory is its children's to write, so here and below `count` is his own knowledge. */
void pyglue_rows_release(pyglue_rows_t *rows, unsigned count, int32_t pid);
/* Takes one of `threads` places at the worker in this slot: add to the own cell, look at the sum,
 * take back if too many. 1: taken; 0: full. */
int pyglue_rows_take(pyglue_rows_t *rows, int row, unsigned slot, uint64_t number,
                     unsigned threads);
/* Gives it back; nothing happens when the slot belongs to another worker by now. */
void pyglue_rows_give(pyglue_rows_t *rows, int row, unsigned slot, uint64_t number);
/* Requests of a group that wait for a worker, by the group's slot in the pages; the digest tells a
 * group from one that had the slot before. Of `most` over all children: 1: it may wait, and
 * wait_end is to be called once; 0: too many wait already. */
int pyglue_rows_wait(pyglue_rows_t *rows, int row, unsigned slot, const uint8_t *digest,
                     unsigned most);
void pyglue_rows_wait_end(pyglue_rows_t *rows, int row, unsigned slot, const uint8_t *digest);
unsigned pyglue_rows_waiting(const pyglue_rows_t *rows, unsigned slot, const uint8_t *digest);
/* How many of `wanted` things may happen now, when over all children `a_second` of them, and
 * `burst` at once, are a group's share. Any child writes: a slot that another group had before
 * starts with what that one left, for burst / a_second seconds at most. */
unsigned pyglue_rows_spend(pyglue_rows_t *rows, unsigned slot, uint64_t now_us, unsigned wanted,
                           pyglue_rate_t rate);
/* What only httpd's parent knows, for its children. Parent writes. */
void pyglue_rows_put_parent(pyglue_rows_t *rows, enum pyglue_parent_state state);
enum pyglue_parent_state pyglue_rows_parent(const pyglue_rows_t *rows);
/* httpd's parent lists its children here, with the plan that each was born under, because neither
 * a row nor a pipe tells who still lives (SUCCESSION 2). Parent only; 0 or PYGLUE_E_TOO_BIG. */
int pyglue_rows_child_started(pyglue_rows_t *rows, unsigned count, int32_t pid, uint64_t plan);
void pyglue_rows_child_ended(pyglue_rows_t *rows, unsigned count, int32_t pid);
/* The i-th listed child, 0 ... pyglue_rows_count-1. 1: copied; 0: that place is empty. */
int pyglue_rows_get_child(const pyglue_rows_t *rows, unsigned i, int32_t *pid, uint64_t *plan);
unsigned pyglue_rows_count(const pyglue_rows_t *rows);
/* 0 or PYGLUE_E_VERSION: the memory is smaller than, or not of, this layout. */
int pyglue_rows_check(const pyglue_rows_t *rows, size_t size);
/* Requests at this worker, over all children. */
unsigned pyglue_rows_sum(const pyglue_rows_t *rows, unsigned slot, uint64_t number);

#endif
