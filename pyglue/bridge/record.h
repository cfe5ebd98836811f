/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's own record: what it tells of itself, in a sealed memfd that it alone writes.
 *
 * Others copy it whole with one pread and range-check it (pyglue_record_check): it is the word of
 * a stranger, and nothing in it is used as an index, a pid or a pointer. The numbers of running
 * requests are set before Python is entered and cleared when the end of the response has left, so
 * that a death can be told apart from a request that never started (SUCCESSION 7). */
#ifndef PYGLUE_RECORD_H
#define PYGLUE_RECORD_H

#include "types.h"

#define PYGLUE_RECORD_VERSION 1u
#define PYGLUE_RECORD_SLOTS 1024 /* requests that can run at once in one worker, at most */

typedef struct pyglue_record_slot {
    uint64_t number;   /* of the request that runs here; 0: none */
    uint64_t start_ms; /* CLOCK_MONOTONIC when Python was entered */
} pyglue_record_slot_t;

typedef struct pyglue_record {
    uint32_t version;
    uint32_t slots;    /* in use, at most PYGLUE_RECORD_SLOTS: the worker's threads + 1 */
    uint64_t requests; /* started since the worker began */
    uint64_t refused;
    pyglue_record_slot_t slot[PYGLUE_RECORD_SLOTS];
} pyglue_record_t;

/* Is a copy within its ranges? 0 or PYGLUE_E_PROTOCOL, PYGLUE_E_VERSION. */
int pyglue_record_check(const pyglue_record_t *copy, size_t size);

/* The worker's side. Each slot belongs to one thread. */
void pyglue_record_init(pyglue_record_t *record, unsigned slots);
void pyglue_record_enter(pyglue_record_t *record, unsigned slot, uint64_t number, uint64_t now_ms);
void pyglue_record_leave(pyglue_record_t *record, unsigned slot);

#endif
