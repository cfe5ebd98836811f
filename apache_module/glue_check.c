/* SPDX-License-Identifier: Apache-2.0 */
/* What `httpd -t` says beyond the syntax: whether the folder of the sockets will do, which is
 * httpd's own. And the plan, at -D DUMP_WSGI_PLAN: `pyglue check` reads it and probes each group as
 * its own user, because httpd itself, often root, touches nothing of a tenant's. Embedded mode is a
 * group there. To the scripts that are loaded at a start it adds those that a WSGIScriptAlias leads
 * to: a mistake in one of them should not wait for the first request.
 * Up: mod_pyglue.c; down: glue_plan.c. */
#include "glue_check.h"

#include <ap_listen.h>
#include <apr_fnmatch.h>
#include <grp.h>
#include <http_core.h>
#include <mpm_common.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unixd.h>

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
    if (alias->expression != NULL)
        return config; /* which URLs those are is not known */
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

/* Where it runs is known, and whoever runs there can be asked. */
static int is_probed(const glue_alias_t *alias, const char *process_group) {
    if (*process_group != '\0')
        return glue_group_find(alias->server, process_group) != NULL;
    return glue_config_site(alias->server)->restrict_embedded != 1 && glue_alias_is_embedded(alias);
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

    if (strcmp(script.process_group, "%{GLOBAL}") == 0)
        script.process_group = "";
    if (strcmp(script.application_group, "%{GLOBAL}") == 0)
        script.application_group = "";
    if (*script.callable == '%')
        script.callable = NULL;
    if (is_probed(alias, script.process_group) && !is_listed(scripts, &script))
        APR_ARRAY_PUSH(scripts, glue_script_t) = script;
}

/* The configuration is only tested here: nothing else will see the longer list. */
static void add_reached_scripts(server_rec *main_server) {
    apr_array_header_t *scripts = glue_config_site(main_server)->scripts;

    for (server_rec *s = main_server; s != NULL; s = s->next) {
        const apr_array_header_t *aliases = glue_config_server(s)->aliases;

        for (int i = 0; i < aliases->nelts; i++) {
            const glue_alias_t *alias = APR_ARRAY_IDX(aliases, i, const glue_alias_t *);

            if (!glue_alias_is_pattern(alias))
                add_script(scripts, alias);
        }
    }
}

/* The folder of the sockets. */

/* What pyglue/supervisor/listeners.py asks of the folder, as the end of a sentence. NULL: nothing
 * is wrong. */
static const char *problem_of_folder(const char *folder, apr_pool_t *pool) {
    struct stat info;

    if (stat(folder, &info) != 0)
        return apr_psprintf(pool, "lies in %s: %s", folder, strerror(errno));
    if (!S_ISDIR(info.st_mode) || access(folder, W_OK | X_OK) != 0)
        return apr_psprintf(pool, "lies in %s, where httpd cannot make a folder", folder);
    if (info.st_uid != 0 && info.st_uid != geteuid())
        return apr_psprintf(pool, "lies in %s, which belongs to uid %lu", folder,
                            (unsigned long)info.st_uid);
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) && !(info.st_mode & S_ISVTX))
        return apr_psprintf(pool, "lies in %s, which others can write to", folder);
    return NULL;
}

/* Which folder above the path cannot be entered, counted from the root; 0: all can be. */
static int count_to_closed(const char *path, apr_pool_t *pool) {
    int count = 1;

    for (const char *end = path + 1; (end = strchr(end, '/')) != NULL; end++, count++)
        if (access(apr_pstrmemdup(pool, path, (apr_size_t)(end - path)), X_OK) != 0)
            return count;
    return 0;
}

/* The same for httpd's children, of which the kernel is asked in a process that becomes one. What
 * cannot be found out is no complaint. */
static int count_to_closed_of_children(const char *path, apr_pool_t *pool) {
    enum { UNKNOWN = 255 };
    int status = 0;
    pid_t child;

    if (geteuid() != 0)
        return 0; /* httpd's children are as we are, and their folder can be made */
    child = fork();
    if (child == 0)
        _exit(setgid(ap_unixd_config.group_id) ||
                      initgroups(ap_unixd_config.user_name, ap_unixd_config.group_id) ||
                      setuid(ap_unixd_config.user_id)
                  ? UNKNOWN
                  : count_to_closed(path, pool));
    if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
        return 0;
    return WEXITSTATUS(status) == UNKNOWN ? 0 : WEXITSTATUS(status);
}

static const char *problem_of_children(const char *path, apr_pool_t *pool) {
    int count = count_to_closed_of_children(path, pool);
    const char *end = path;

    if (count == 0)
        return NULL;
    while (count-- > 0)
        end = strchr(end + 1, '/');
    return apr_psprintf(pool, "lies below %.*s, which httpd's user (uid %lu) may not enter",
                        (int)(end - path), path, (unsigned long)ap_unixd_config.user_id);
}

/* The shortest that the supervisor puts behind the prefix of a process id of seven digits. */
static const char *problem_of_length(const char *path, apr_pool_t *pool) {
    static const char rest[] = ".4194304.1/4294967297.sock";

    if (strlen(path) + sizeof rest <= PYGLUE_SOCKET_PATH)
        return NULL;
    return apr_psprintf(pool, "is longer than %d bytes", (int)(PYGLUE_SOCKET_PATH - sizeof rest));
}

static void advise_sockets(server_rec *s, apr_pool_t *pool) {
    const char *prefix = glue_config_site(s)->socket_prefix;
    const char *path = prefix != NULL ? prefix : ap_runtime_dir_relative(pool, "wsgi");
    const char *folder = ap_make_dirstr_parent(pool, path), *problem;

    if (prefix == NULL && access(folder, F_OK) != 0)
        return; /* what starts httpd makes it */
    problem = problem_of_length(path, pool);
    if (problem == NULL)
        problem = problem_of_folder(folder, pool);
    if (problem == NULL)
        problem = problem_of_children(path, pool);
    if (problem != NULL)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     GLUE_ID(0106) "WSGISocketPrefix: '%s' %s. Set it to a short path in a folder "
                                   "that only root can write, and that httpd's user may enter",
                     path, problem);
}

/* The whole. */

/* DESIGN 6: what lies in a tenant's folder is not httpd's to open. */
static void remind(server_rec *s) {
    if (glue_groups(s)->nelts > 0 || apr_hash_count(glue_config_site(s)->targets) > 0)
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s,
                     GLUE_ID(0105) "scripts, environments and Pythons were not checked: run "
                                   "`pyglue check`");
}

/* Embedded mode is probed like a group, by a worker of httpd's own user and Python. */
static void add_children(server_rec *s, apr_pool_t *pool) {
    const apr_array_header_t *scripts = glue_scripts(s);

    for (int i = 0; i < scripts->nelts; i++)
        if (*APR_ARRAY_IDX(scripts, i, glue_script_t).process_group == '\0') {
            APR_ARRAY_PUSH(glue_config_site(s)->groups, glue_group_t *) =
                glue_group_of_children(s, pool);
            return;
        }
}

/* Where httpd would listen; and whether it does, since then the addresses are taken by itself. */
static void print_listeners(apr_file_t *out, apr_pool_t *pool) {
    for (const ap_listen_rec *at = ap_listeners; at != NULL; at = at->next) {
        char *ip;

        if (apr_sockaddr_ip_get(&ip, at->bind_addr) == APR_SUCCESS)
            apr_file_printf(out, "listen %s %d\n", ip, at->bind_addr->port);
    }
    if (ap_pid_fname != NULL)
        apr_file_printf(out, "pid-file %s\n", ap_runtime_dir_relative(pool, ap_pid_fname));
}

static void dump(apr_pool_t *pconf, server_rec *s) {
    glue_plan_t plan;
    apr_file_t *out;

    add_reached_scripts(s);
    add_children(s, pconf);
    glue_plan_make(&plan, DUMP_NUMBER, s, pconf);
    if (apr_file_open_stdout(&out, pconf) != APR_SUCCESS)
        return;
    print_listeners(out, pconf);
    apr_file_printf(out, "%.*s", (int)plan.length, plan.text);
}

void glue_check_test(apr_pool_t *pconf, server_rec *s) {
    if (glue_groups(s)->nelts > 0)
        advise_sockets(s, pconf);
    if (ap_exists_config_define(DUMP_PLAN))
        dump(pconf, s);
    else
        remind(s);
}
