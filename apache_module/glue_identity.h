/* SPDX-License-Identifier: Apache-2.0 */
/* As whom the workers of a process group run: users and groups as names become numbers, and the
 * numbers a digest. Runs in httpd's parent while it reads its configuration; what is filled in
 * lives in that configuration's pool. */
#ifndef GLUE_IDENTITY_H
#define GLUE_IDENTITY_H

#include "glue_options.h"

/* Looks up the names of one line, while that line is known, and fills in `listed`, `socket_uid`,
 * `script_uid` and `script_gid`. NULL, or a whole complaint that starts with subject. */
const char *glue_identity_check(glue_definition_t *definition, const char *subject,
                                apr_pool_t *pool);

/* Fills in user, numbers and digest, once `User` and `Group` of httpd are known, too. */
void glue_identity_resolve(glue_definition_t *definition, apr_pool_t *pool);

/* Do these groups, of glue_group_t * and resolved, run as more than one user? */
int glue_identity_has_several(const apr_array_header_t *groups);

#endif
