/* SPDX-License-Identifier: Apache-2.0 */
/* The module record and its hooks: which part of the house acts when. No logic.
 * Each line below is httpd's phase, our room, and why in that order. */
#include "glue.h"

#include <ap_mpm.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_request.h>
#include <mpm_common.h>

#include "glue_advice.h"
#include "glue_alias.h"
#include "glue_check.h"
#include "glue_config.h"
#include "glue_daemon.h"
#include "glue_embed.h"
#include "glue_group.h"
#include "glue_handler.h"
#include "glue_log.h"
#include "glue_outlet.h"
#include "glue_plan.h"
#include "glue_snapshot.h"
#include "glue_supervisor.h"

static void advise(server_rec *s) {
    glue_advice_on_groups(s);
    glue_alias_advise(s);
}

/* Also at `httpd -t`, which never runs post_config. */
static int check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s) {
    const char *complaint;

    (void)plog;
    glue_config_finish(s);
    complaint = glue_group_resolve(s, pconf);
    if (complaint == NULL)
        complaint = glue_plan_check_length(s, ptemp);
    if (complaint != NULL) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, GLUE_ID(0104) "%s", complaint);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    glue_alias_find_alone(s);
    if (ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_TEST)
        advise(s);
    return OK;
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s) {
    /* At start httpd reads its configuration twice; only the second run serves. */
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG)
        return OK;
    ap_add_version_component(pconf, "mod_pyglue/" GLUE_VERSION);
    advise(s);
    return glue_supervisor_post_config(pconf, plog, ptemp, s);
}

static void child_init(apr_pool_t *pchild, server_rec *s) {
    glue_snapshot_child_init(pchild, s);
    glue_supervisor_child_init();
    glue_daemon_child_init(pchild, s);
    glue_outlet_child_init();
    glue_embed_child_init(pchild, s);
}

static void register_hooks(apr_pool_t *pool) {
    /* After mod_alias, so that Alias /static below an application works as in mod_wsgi; before the
     * modules that would map what is left. */
    static const char *const alias_before[] = {"mod_alias.c", NULL};
    static const char *const alias_after[] = {"mod_userdir.c", "mod_vhost_alias.c", NULL};

    (void)pool;
    ap_hook_check_config(check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_test_config(glue_check_test, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_status(glue_supervisor_child_status, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_monitor(glue_supervisor_monitor, NULL, NULL, APR_HOOK_MIDDLE);
    glue_outlet_register();
    ap_hook_pre_connection(glue_outlet_pre_connection, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_translate_name(glue_alias_translate, alias_before, alias_after, APR_HOOK_MIDDLE);
    ap_hook_handler(glue_handler, NULL, NULL, APR_HOOK_MIDDLE);
    /* Before httpd's own, which sends any file. */
    ap_hook_handler(glue_handler_withhold, NULL, NULL, APR_HOOK_REALLY_LAST - 1);
}

/* Spelt out for its name: existing configurations ask <IfModule mod_wsgi.c>. */
__attribute__((visibility("default"))) module AP_MODULE_DECLARE_DATA wsgi_module = {
    MODULE_MAGIC_NUMBER_MAJOR,
    MODULE_MAGIC_NUMBER_MINOR,
    -1, /* httpd fills in the index, and what else is NULL up to the magic */
    "mod_wsgi.c",
    NULL,
    NULL,
    MODULE_MAGIC_COOKIE,
    NULL,
    glue_config_create_request,
    glue_config_merge_request,
    glue_config_create_server,
    glue_config_merge_server,
    glue_config_directives,
    register_hooks,
    AP_MODULE_FLAG_NONE,
};
