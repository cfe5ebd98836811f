/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the plan at `httpd -t -D DUMP_WSGI_PLAN`. `pyglue check` reads it and probes each group as
 * its own user, because httpd itself, often root, touches nothing of a tenant's. Up: mod_pyglue.c;
 * down: glue_plan.c. */
#include "glue_check.h"

#include <http_core.h>

#include "glue_plan.h"

#define DUMP_PLAN "DUMP_WSGI_PLAN"
#define DUMP_NUMBER 1 /* no supervisor will see this plan */

void glue_check_dump(apr_pool_t *pconf, server_rec *s) {
    glue_plan_t plan;
    apr_file_t *out;

    if (!ap_exists_config_define(DUMP_PLAN))
        return;
    glue_plan_make(&plan, DUMP_NUMBER, s, pconf);
    if (apr_file_open_stdout(&out, pconf) == APR_SUCCESS)
        apr_file_printf(out, "%.*s", (int)plan.length, plan.text);
}
