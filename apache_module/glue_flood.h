/* SPDX-License-Identifier: Apache-2.0 */
/* How much the workers of a group may write into the error log (TENANTS 6): so many bytes a
 * request, so many lines a second over all of httpd. What is beyond is counted and told. */
#ifndef GLUE_FLOOD_H
#define GLUE_FLOOD_H

#include "glue_group.h"

/* What one request has logged. The first two are the caller's, the rest starts as zeros. */
typedef struct glue_flood {
    const glue_group_t *group;
    request_rec *r;
    apr_size_t bytes;
    int has_lost;
} glue_flood_t;

/* Once in child_init; groups: how many there are. */
void glue_flood_child_init(apr_pool_t *pchild, int groups);

/* How much of text, from its start, may be logged at this level: none of it where httpd's LogLevel
 * leaves it out anyway, which then counts for nothing. Any thread of a child. */
pyglue_str_t glue_flood_admit(glue_flood_t *flood, int level, pyglue_str_t text);

/* The request is over: if it lost lines, their number is told, once a second at most. */
void glue_flood_end(const glue_flood_t *flood);

#endif
