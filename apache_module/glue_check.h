/* SPDX-License-Identifier: Apache-2.0 */
/* `httpd -t -D DUMP_WSGI_PLAN`: what this configuration would run, for `pyglue check`. */
#ifndef GLUE_CHECK_H
#define GLUE_CHECK_H

#include "glue.h"

/* httpd's hook test_config: only at `httpd -t`, after check_config. With that define it prints the
 * plan (docs/plan.md 3) on standard output; without, it says what was not looked at. Opens nothing
 * that the plan names. */
void glue_check_test(apr_pool_t *pconf, server_rec *s);

#endif
