/* SPDX-License-Identifier: Apache-2.0 */
/* All that the httpd parent does after the configuration was read: starts the supervisor, sends it
 * each plan, lists children by plan, revives a dead or hung supervisor, ends it at last. */
#ifndef GLUE_SUPERVISOR_H
#define GLUE_SUPERVISOR_H

#include "glue.h"

#include <ap_mpm.h>
#include <mpm_common.h>

/* Hooks of httpd; run in the parent. */
int glue_supervisor_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                                server_rec *s);
void glue_supervisor_child_status(server_rec *s, pid_t pid, ap_generation_t gen, int slot,
                                  mpm_child_status status);
int glue_supervisor_monitor(apr_pool_t *p, server_rec *s);

/* First in child_init: what is the parent's alone is closed, and the child gets its placement. */
void glue_supervisor_child_init(void);

#endif
