/* SPDX-License-Identifier: Apache-2.0 */
/* Who serves a request: script, process group, application group, callable. */
#ifndef GLUE_ROUTE_H
#define GLUE_ROUTE_H

#include "glue_config.h"
#include "glue_group.h"

struct glue_route {
    glue_request_config_t config;  /* what holds for this request, defaults applied */
    const glue_group_t *group;     /* NULL: embedded */
    const char *process_group;     /* "" : embedded */
    const char *application_group; /* "" : the main interpreter */
    const char *callable;
    int pass_authorization;
};

/* Does a request decide what this value of a group is? */
int glue_route_is_token(const char *value);

/* Fills *route; its texts live in the request's pool or the configuration. 0, or PYGLUE_E_STATE:
 * the group is unknown, restricted or not this server's; the reason has been logged. */
int glue_route_find(glue_route_t *route, request_rec *r);

#endif
