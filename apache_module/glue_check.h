/* SPDX-License-Identifier: Apache-2.0 */
/* What `httpd -t` tells of a configuration that is well written, and with -D DUMP_WSGI_PLAN what it
 * would run, for `pyglue check`. */
#ifndef GLUE_CHECK_H
#define GLUE_CHECK_H

#include "glue.h"

/* httpd's hook test_config: only at `httpd -t`, after check_config. Warns where the folder of the
 * sockets will not do. With that define it prints the plan (docs/plan.md 3) on standard output;
 * without, it says what was not looked at. Opens nothing that the plan names. */
void glue_check_test(apr_pool_t *pconf, server_rec *s);

#endif
