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
} glue_plan_t;

/* Parent, in post_config. */
void glue_plan_make(glue_plan_t *plan, apr_uint64_t number, server_rec *s, apr_pool_t *pool);

#endif
