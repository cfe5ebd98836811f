/* SPDX-License-Identifier: Apache-2.0 */
/* Is a descriptor that a worker passed a plain file that httpd can send? (TENANTS 5.) */
#ifndef GLUE_PASSED_H
#define GLUE_PASSED_H

#include "frame.h"

/* NULL: yes; else why not. Blocks on no file system that is not on the list of known ones. */
const char *glue_passed_check(int fd, const pyglue_file_t *file);

#endif
