/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as the plan that the supervisor takes: docs/plan.md 3. */
#ifndef GLUE_PLAN_H
#define GLUE_PLAN_H

#include "glue.h"

/* JSON text and the error logs that its groups name by position. Both live in pool. */
typedef struct glue_plan {
    const char *text;
    apr_size_t length;
    apr_array_header_t *logs;    /* of int: httpd's own descriptors, at least one */
    apr_array_header_t *syslogs; /* of const char *: each one's name where it is syslog, or NULL */
    const glue_group_t *longest; /* NULL: there is no group */
    apr_size_t longest_length;   /* of the text that it takes */
} glue_plan_t;

/* Parent, in post_config. */
void glue_plan_make(glue_plan_t *plan, apr_uint64_t number, server_rec *s, apr_pool_t *pool);

/* Whether the supervisor would take a plan of that length, once groups are resolved. NULL: it
 * would; else a complaint. Parent, only when httpd reads its configuration for the first time: to
 * test it, or to start. At a restart the supervisor refuses instead, and what runs serves on, where
 * a refusal of ours would end httpd. pool: scratch, for the whole plan; the complaint lives in it
 * too. */
const char *glue_plan_check_length(server_rec *s, apr_pool_t *pool);

#endif
