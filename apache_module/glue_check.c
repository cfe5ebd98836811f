/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the plan at `httpd -t -D DUMP_WSGI_PLAN`. `pyglue check` reads it and probes each group as
 * its own user, because httpd itself, often root, touches nothing of a tenant's. To the scripts
 * that workers load at their start it adds those that a WSGIScriptAlias leads to: a mistake in one
 * of them should not wait for the first request. Up: mod_pyglue.c; down: glue_plan.c. */
#include "glue_check.h"

#include <apr_fnmatch.h>
#include <http_core.h>

#include "glue_alias.h"
#include "glue_group.h"
#include "glue_log.h"
#include "glue_plan.h"

#define DUMP_PLAN "DUMP_WSGI_PLAN"
#define DUMP_NUMBER 1 /* no supervisor will see this plan */

/* What holds for an alias, without a request. */

/* Does a <Directory> or <Location> section cover the path? As httpd's walks decide it, but that a
 * Match section is searched in the path as it is written. */
static int covers(const core_dir_config *section, const char *path) {
    if (section->r != NULL)
        return ap_regexec(section->r, path, 0, NULL, 0) == 0;
    if (section->d_is_fnmatch)
        return apr_fnmatch(section->d, path, APR_FNM_PATHNAME) == APR_SUCCESS;
    return glue_alias_is_below(path, section->d);
}

static void *merge_sections(void *config, const apr_array_header_t *sections, const char *path,
                            apr_pool_t *pool) {
    for (int i = 0; i < sections->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(sections, i, ap_conf_vector_t *);
        void *own = ap_get_module_config(section, &wsgi_module);

        if (own != NULL && covers(ap_get_core_module_config(section), path))
            config = glue_config_merge_request(pool, config, own);
    }
    return config;
}

/* Server, <Directory> and <Location>. What needs a request or a look into a folder (<Files>, <If>,
 * .htaccess) is left out. */
static const glue_request_config_t *config_of(const glue_alias_t *alias, const char *target,
                                              apr_pool_t *pool) {
    const server_rec *s = alias->server;
    const core_server_config *core = ap_get_core_module_config(s->module_config);
    void *config = ap_get_module_config(s->lookup_defaults, &wsgi_module);

    config = merge_sections(config, core->sec_dir, target, pool);
    return merge_sections(config, core->sec_url, alias->url, pool);
}

/* The scripts. */

static const char *either(const char *option, const char *directive, const char *standard) {
    return option != NULL ? option : directive != NULL ? directive : standard;
}

static int is_listed(const apr_array_header_t *scripts, const glue_script_t *script) {
    for (int i = 0; i < scripts->nelts; i++) {
        const glue_script_t *other = &APR_ARRAY_IDX(scripts, i, glue_script_t);

        if (strcmp(other->path, script->path) == 0 &&
            strcmp(other->process_group, script->process_group) == 0)
            return 1;
    }
    return 0;
}

/* An application group that depends on the request is any but the main one: its text as written
 * will do as a name. */
static void add_script(apr_array_header_t *scripts, const glue_alias_t *alias) {
    const char *target = ap_server_root_relative(scripts->pool, alias->target);
    const glue_request_config_t *config = config_of(alias, target, scripts->pool);
    const char *standard = alias->is_alone ? "" : "%{RESOURCE}";
    glue_script_t script = {
        .path = target,
        .process_group = either(alias->process_group, config->process_group, ""),
        .application_group = either(alias->application_group, config->application_group, standard),
        .callable = either(alias->callable, config->callable, "application"),
        .server = alias->server,
    };

    if (strcmp(script.application_group, "%{GLOBAL}") == 0)
        script.application_group = "";
    if (*script.callable == '%')
        script.callable = NULL;
    if (glue_group_find(alias->server, script.process_group) != NULL &&
        !is_listed(scripts, &script))
        APR_ARRAY_PUSH(scripts, glue_script_t) = script;
}

/* The configuration is only tested here: nothing else will see the longer list. */
static void add_reached_scripts(server_rec *main_server) {
    apr_array_header_t *scripts = glue_config_site(main_server)->scripts;

    for (server_rec *s = main_server; s != NULL; s = s->next) {
        const apr_array_header_t *aliases = glue_config_server(s)->aliases;

        for (int i = 0; i < aliases->nelts; i++) {
            const glue_alias_t *alias = APR_ARRAY_IDX(aliases, i, const glue_alias_t *);

            if (alias->expression == NULL)
                add_script(scripts, alias);
        }
    }
}

/* DESIGN 6: what lies in a tenant's folder is not httpd's to open. */
static void remind(server_rec *s) {
    if (glue_groups(s)->nelts > 0 || apr_hash_count(glue_config_site(s)->targets) > 0)
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s,
                     GLUE_ID(0105) "scripts, environments and Pythons were not checked: run "
                                   "`pyglue check`");
}

static void dump(apr_pool_t *pconf, server_rec *s) {
    glue_plan_t plan;
    apr_file_t *out;

    add_reached_scripts(s);
    glue_plan_make(&plan, DUMP_NUMBER, s, pconf);
    if (apr_file_open_stdout(&out, pconf) == APR_SUCCESS)
        apr_file_printf(out, "%.*s", (int)plan.length, plan.text);
}

void glue_check_test(apr_pool_t *pconf, server_rec *s) {
    if (ap_exists_config_define(DUMP_PLAN))
        dump(pconf, s);
    else
        remind(s);
}
