/* SPDX-License-Identifier: Apache-2.0 */
/* The options of WSGIDaemonProcess, as typed rows. */
#ifndef GLUE_OPTIONS_H
#define GLUE_OPTIONS_H

#include "glue_group.h"
#include "glue_value.h"

/* A group as it was written. What needs the whole configuration is kept as words and becomes
 * numbers in glue_group_resolve. */
typedef struct glue_definition {
    glue_group_t group;            /* first: glue_group_resolve gets from it to the words */
    const char *user, *group_name; /* NULL: httpd's */
    const char *script_user, *script_group; /* at most one of them */
    const char *socket_user;                /* NULL: httpd's children */
    const char *supplementary_groups;       /* a list; NULL: the user's own */
    apr_array_header_t *listed;             /* of gid_t: that list resolved */
} glue_definition_t;

/* Sets all fields that have a row to their unset value. */
void glue_options_unset(glue_definition_t *definition);

/* Reads the options of a line. NULL, or a whole complaint that starts with subject. */
const char *glue_options_parse(glue_definition_t *definition, const char *subject, const char *line,
                               apr_pool_t *pool);

/* Applies the defaults. */
void glue_options_default(glue_definition_t *definition);

#endif
