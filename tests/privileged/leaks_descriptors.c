/* SPDX-License-Identifier: Apache-2.0 */
/* A module of httpd that leaves fifty descriptors open for all who come after it. */
#include <httpd.h> /* the others need it */

#include <fcntl.h>
#include <http_config.h>

static int leak(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp) {
    (void)pconf, (void)plog, (void)ptemp;
    for (int i = 0; i < 50; i++)
        if (open("/dev/zero", O_RDWR) < 0)
            return HTTP_INTERNAL_SERVER_ERROR;
    return OK;
}

static void hooks(apr_pool_t *pool) {
    (void)pool;
    ap_hook_pre_config(leak, NULL, NULL, APR_HOOK_REALLY_FIRST);
}

module AP_MODULE_DECLARE_DATA leaks_descriptors_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, hooks, 0};
