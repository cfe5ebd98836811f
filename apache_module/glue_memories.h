/* SPDX-License-Identifier: Apache-2.0 */
/* The two memories of placement as httpd's parent makes them: sealed memfds of fixed length, which
 * nobody can shrink under a reader. The parent writes the rows and reads the pages. What stands in
 * them is pyglue/bridge/placement.h's affair, a child's view of them glue_placement.c's. */
#ifndef GLUE_MEMORIES_H
#define GLUE_MEMORIES_H

#include "glue.h"
#include "placement.h"

/* Retained over restarts, so plain data; another version of this module may have made it: nothing
 * in here moves. */
typedef struct glue_memories {
    pyglue_pages_t *pages; /* read-only mapping; NULL: there are none */
    pyglue_rows_t *rows;
    int pages_fd, rows_fd; /* read-only descriptors: children inherit them until child_init */
} glue_memories_t;

/* All in the parent, at start and restarts. */

/* Room for all children that this httpd may have. 0, or PYGLUE_E_IO with errno: pages is then
 * NULL. */
int glue_memories_make(glue_memories_t *memories);

/* The pages for a writer: a descriptor of the caller's, or -1 with errno. */
int glue_memories_open_pages(const glue_memories_t *memories);

/* How many rows there are: by the size of the memory, which is sealed. What stands in it is written
 * by httpd's children. */
unsigned glue_memories_count_rows(const glue_memories_t *memories);

/* Are they of the layout that this version knows? */
int glue_memories_are_known(const glue_memories_t *memories);

/* Unmaps and closes; who else has them keeps them. */
void glue_memories_leave(glue_memories_t *memories);

#endif
