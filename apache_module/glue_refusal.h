/* SPDX-License-Identifier: Apache-2.0 */
/* Why no worker was given a request, and the line that says so.
 *
 * Overload repeats itself with each request, so of one reason a group has one line a second in a
 * child, which tells for how many requests it stands. Any thread of a child. */
#ifndef GLUE_REFUSAL_H
#define GLUE_REFUSAL_H

#include "glue_group.h"

enum glue_refusal {
    GLUE_REFUSAL_CHILD_THREADS,
    GLUE_REFUSAL_ALL_WAIT,
    GLUE_REFUSAL_UPLOADS,
    GLUE_REFUSAL_ALL_UPLOAD,
    GLUE_REFUSAL_BACKLOG,
    GLUE_REFUSAL_QUEUE_TIMEOUT,
    GLUE_REFUSAL_QUEUES_FULL,
    GLUE_REFUSAL_ALWAYS_REFUSED,
    GLUE_REFUSAL_ENDING,
    GLUE_REFUSAL_LEFT,
    GLUE_REFUSAL_NO_PLACEMENT,
    GLUE_REFUSAL_HELPLESS,
    GLUE_REFUSAL_PLAN,
    GLUE_REFUSAL_UNKNOWN,
    GLUE_REFUSAL_DISABLED,    /* the supervisor's words tell why */
    GLUE_REFUSAL_UNREACHABLE, /* not of a search: glue_daemon.c says it in its own words */
    GLUE_REFUSALS
};

/* Once in child_init; s: any server. What was counted and not told is told at pchild's end. */
void glue_refusal_child_init(apr_pool_t *pchild, server_rec *s);

/* The result of the search that ended so, a negative PYGLUE_E*: as glue_place_take. */
int glue_refusal_error(enum glue_refusal refusal);

/* Says it, or counts it. cause: what the supervisor says of a group that is disabled. */
void glue_refusal_log(enum glue_refusal refusal, const glue_group_t *group, request_rec *r,
                      const char *cause);

/* The same, but the caller says it: for how many requests, 0: not now. */
apr_uint64_t glue_refusal_count(enum glue_refusal refusal, const glue_group_t *group);

/* How a line ends that stands for so many: "" for one. pool: scratch. */
const char *glue_refusal_counted(apr_uint64_t count, apr_pool_t *pool);

/* A request of the group is over: what was counted a second ago or longer is told. */
void glue_refusal_settle(const glue_group_t *group);

#endif
