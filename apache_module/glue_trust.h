/* SPDX-License-Identifier: Apache-2.0 */
/* May root execute what lies at this path? (TENANTS 2.2.) */
#ifndef GLUE_TRUST_H
#define GLUE_TRUST_H

#include "glue.h"

/* Each component of the path, after symbolic links, must be root's and not writable by group or
 * others; a sticky directory is accepted if what follows is root's. NULL: it is so. Else which
 * component is at fault and why. Parent, before each start of a supervisor. */
const char *glue_trust_complaint(const char *path, apr_pool_t *pool);

#endif
