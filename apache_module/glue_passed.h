/* SPDX-License-Identifier: Apache-2.0 */
/* Is a descriptor that a worker passed a plain file that httpd can send? (TENANTS 5.) And how many
 * files a child keeps open for clients that are still to take them. */
#ifndef GLUE_PASSED_H
#define GLUE_PASSED_H

#include "glue.h"

#include "frame.h"

/* NULL: yes; else why not. Blocks on no file system that is not on the list of known ones. */
const char *glue_passed_check(int fd, const pyglue_file_t *file);

void glue_passed_child_init(void);
/* May this child keep one more file open for as long as the pool lives, that is until the client
 * has its last byte? Passed ones and its own together, not beyond a quarter of its descriptors. */
int glue_passed_keep(apr_pool_t *pool);

#endif
