/* SPDX-License-Identifier: Apache-2.0 */
/* May root execute what lies at this path? (TENANTS 2.2.) Parent, before each start of a
 * supervisor; pool: of that start. NULL: yes. Else which part is at fault and why. */
#ifndef GLUE_TRUST_H
#define GLUE_TRUST_H

#include "glue.h"

/* Each folder that the way leads through, each link that it follows and what it ends at must be
 * root's, and not writable by group or others; a sticky folder is accepted, as what follows is
 * root's. */
const char *glue_trust_complaint(const char *path, apr_pool_t *pool);

/* The same for a folder and all that lies below it. */
const char *glue_trust_folder_complaint(const char *folder, apr_pool_t *pool);

#endif
