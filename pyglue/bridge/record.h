/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's own record: what it tells of itself, in a sealed memfd that it alone writes.
 *
 * Others copy it whole with one pread and range-check it (pyglue_record_check): it is the word of
 * a stranger, and nothing in it is used as an index, a pid or a pointer. The numbers of running
 * requests are set before Python is entered and cleared when the end of the response has left, so
 * that a death can be told apart from a request that never started (SUCCESSION 7); beside each
 * number lies what the request was, so that the line about a death can name it.
 *
 * Version 2 is version 1 and something behind it: each side makes do with what the other knows. */
#ifndef PYGLUE_RECORD_H
#define PYGLUE_RECORD_H

#include "snapshot.h"
#include "types.h"

#define PYGLUE_RECORD_VERSION 2u
#define PYGLUE_RECORD_SLOTS 1024 /* requests that can run at once in one worker, at most */
#define PYGLUE_RECORD_ID 44      /* bytes of a request id that are kept; httpd's have up to 27 */
#define PYGLUE_RECORD_LINE 160   /* of method and path */

typedef struct pyglue_record_slot {
    uint64_t number;   /* of the request that runs here; 0: none */
    uint64_t start_ms; /* CLOCK_MONOTONIC when Python was entered */
} pyglue_record_slot_t;

/* What the request of the slot is. Whole while the slot has a number. No text ends in NUL. */
typedef struct pyglue_record_text {
    uint16_t id_size;
    uint16_t line_size;
    char id[PYGLUE_RECORD_ID];     /* httpd's: %L of its logs */
    char line[PYGLUE_RECORD_LINE]; /* method, space, path; no query, which may hold secrets */
} pyglue_record_text_t;

/* Why a worker ended itself. */
enum pyglue_record_ending {
    PYGLUE_ENDING_UNSAID = 0,
    PYGLUE_ENDING_STARTUP = 1, /* startup-timeout passed and nothing was loaded */
    PYGLUE_ENDING_DEADLOCK = 2 /* deadlock-timeout passed and nobody could have the GIL */
};

typedef struct pyglue_record {
    uint32_t version;
    uint32_t slots;    /* in use, at most PYGLUE_RECORD_SLOTS: the worker's threads + 1 */
    uint64_t requests; /* started since the worker began */
    uint64_t refused;
    pyglue_record_slot_t slot[PYGLUE_RECORD_SLOTS];
    /* Since version 2. */
    uint32_t ending; /* enum pyglue_record_ending, or what a newer one says */
    uint32_t reserved;
    pyglue_record_text_t text[PYGLUE_RECORD_SLOTS];
} pyglue_record_t;

/* Is a copy within its ranges? size: of what was read. 0 or PYGLUE_E_PROTOCOL, PYGLUE_E_VERSION. */
int pyglue_record_check(const pyglue_record_t *copy, size_t size);

/* Of a checked copy: what the request of this slot is, cut to what the memory holds. Both empty
 * where version 1 tells nothing. */
void pyglue_record_what(pyglue_str_t *id, pyglue_str_t *line, const pyglue_record_t *copy,
                        unsigned slot);

/* The worker's side. Each slot belongs to one thread. */

/* size: of the memory, zeroed. A supervisor of version 1 gives less, and is told less.
 * 0 or PYGLUE_E_VERSION: it is smaller than that. */
int pyglue_record_init(pyglue_record_t *record, size_t size, unsigned slots);
void pyglue_record_enter(pyglue_record_t *record, unsigned slot, const pyglue_snapshot_t *snapshot,
                         uint64_t now_ms);
void pyglue_record_leave(pyglue_record_t *record, unsigned slot);
void pyglue_record_end(pyglue_record_t *record, enum pyglue_record_ending ending);

#endif
