/* SPDX-License-Identifier: Apache-2.0 */
/* A child's view of the two placement memories, which httpd's parent made: pages, rows, its own
 * row. Written once, in child_init, frozen then; read by any thread of a child. How the
 * memories are made is glue_memories.c's affair, how a place is taken glue_place.c's. */
#ifndef GLUE_PLACEMENT_H
#define GLUE_PLACEMENT_H

#include "glue.h"
#include "placement.h"

typedef struct glue_placement {
    const pyglue_pages_t *pages; /* NULL: no daemon group is configured */
    pyglue_rows_t *rows;
    int row;          /* -1: serve without placement */
    uint64_t plan;    /* under which this child was born */
    uid_t supervisor; /* the uid that must have called listen on workers' sockets */
} glue_placement_t;

/* Once in child_init. */
void glue_placement_child_init(const glue_placement_t *placement);

/* Never NULL. */
const glue_placement_t *glue_placement(void);

/* In a child that has placement: no sign of life of a supervisor for some seconds. */
int glue_placement_is_late(void);

#endif
