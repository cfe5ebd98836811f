/* SPDX-License-Identifier: Apache-2.0 */
/* Process groups: from WSGIDaemonProcess to frozen numbers, and who may use which group.
 * Nothing below a tenant's folder is looked at. As whom a group runs is glue_identity.c's, what an
 * administrator should know of his groups glue_advice.c's. */
#include "glue_options.h"

#include <http_core.h>
#include <unistd.h>

#include "glue_config.h"
#include "glue_identity.h"
#include "glue_interpreter.h"

#define RESPONSE_BUFFER (8 << 20) /* mod_wsgi's */

/* What starts on demand stops again, unless the configuration says otherwise. */
#define ON_DEMAND_INACTIVITY apr_time_from_sec(300)

const apr_array_header_t *glue_groups(const server_rec *s) {
    return glue_config_site(s)->groups;
}

const apr_array_header_t *glue_scripts(const server_rec *s) {
    return glue_config_site(s)->scripts;
}

const glue_group_t *glue_group_find(const server_rec *s, const char *name) {
    const apr_array_header_t *groups = glue_groups(s);

    for (int i = 0; i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, const glue_group_t *);

        if (strcmp(group->name, name) == 0)
            return group;
    }
    return NULL;
}

int glue_group_is_open_to(const glue_group_t *group, const server_rec *s) {
    if (group->server == s || !group->server->is_virtual)
        return 1;
    return group->server->server_hostname != NULL && s->server_hostname != NULL &&
           strcmp(group->server->server_hostname, s->server_hostname) == 0;
}

const char *glue_group_path(const glue_group_t *group, const char *path) {
    apr_size_t length = group != NULL && group->chroot != NULL ? strlen(group->chroot) : 0;

    while (length > 0 && group->chroot[length - 1] == '/')
        length--;
    return length > 0 && strncmp(path, group->chroot, length) == 0 && path[length] == '/'
               ? path + length
               : path;
}

/* WSGIDaemonProcess. */

/* pool: configuration's, as of all that a group points to. */
static glue_definition_t *definition_make(const char *name, const char *where, server_rec *s,
                                          apr_pool_t *pool) {
    glue_definition_t *definition = apr_pcalloc(pool, sizeof *definition);
    glue_group_t *group = &definition->group;

    glue_options_unset(definition);
    group->name = name;
    group->where = where;
    group->server = s;
    group->socket_uid = group->script_uid = group->script_gid = -1;
    group->bounds = pyglue_bounds_default;
    return definition;
}

static void definition_finish(glue_definition_t *definition, apr_pool_t *pool) {
    glue_group_t *group = &definition->group;

    group->has_processes = group->processes.most != GLUE_UNSET;
    glue_options_default(definition);
    if (group->inactivity_timeout == GLUE_UNSET)
        group->inactivity_timeout = group->processes.least == 0 ? ON_DEMAND_INACTIVITY : 0;
    if (group->response_buffer_size == 0)
        group->response_buffer_size = RESPONSE_BUFFER;
    if (group->header_buffer_size > 0)
        group->bounds.field = (uint32_t)group->header_buffer_size;
    if (group->response_header_size > 0)
        group->bounds.head = (uint32_t)group->response_header_size;
    else if (group->bounds.head < group->bounds.field)
        group->bounds.head = group->bounds.field;
    group->bounds.fields = (uint32_t)group->response_header_count;
    if (group->display_name != NULL && strcmp(group->display_name, "%{GROUP}") == 0)
        group->display_name = apr_pstrcat(pool, "(wsgi:", group->name, ")", NULL);
}

static int leads_up(const char *path) {
    for (const char *at = strstr(path, ".."); at != NULL; at = strstr(at + 2, ".."))
        if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0'))
            return 1;
    return 0;
}

/* What the type of an option does not show. NULL: all is well. */
static const char *check_options(const glue_group_t *group, const char *subject, apr_pool_t *pool) {
    if (group->chroot != NULL && geteuid() != 0)
        return glue_value_complaint(apr_pstrcat(pool, subject, " chroot=", NULL), group->chroot,
                                    "needs an httpd that root starts, and that root tests", pool);
    if (group->cgroup != NULL && leads_up(group->cgroup))
        return glue_value_complaint(apr_pstrcat(pool, subject, " cgroup=", NULL), group->cgroup,
                                    "leads out of where it begins, by '..'", pool);
    return group->preload == 1 && group->interpreters > 1
               ? "WSGIDaemonProcess: preload=on and interpreters= exclude each other: a fork takes "
                 "the main interpreter alone along"
               : NULL;
}

const char *glue_group_directive(cmd_parms *cmd, void *unused, const char *line) {
    const char *name = ap_getword_conf(cmd->pool, &line);
    const char *where = glue_value_where(cmd);
    glue_definition_t *definition = definition_make(name, where, cmd->server, cmd->pool);
    const glue_group_t *other = glue_group_find(cmd->server, name);
    const char *complaint;

    (void)unused;
    if (*name == '\0')
        return "WSGIDaemonProcess: the name of the process group is missing";
    complaint = glue_options_parse(definition, cmd->cmd->name, line, cmd->pool);
    if (complaint == NULL)
        complaint = glue_identity_check(definition, cmd->cmd->name, cmd->pool);
    if (complaint == NULL)
        complaint = check_options(&definition->group, cmd->cmd->name, cmd->pool);
    if (complaint == NULL && other != NULL)
        complaint = glue_value_complaint(
            cmd->cmd->name, name,
            apr_pstrcat(cmd->pool, "is defined already at ", other->where, NULL), cmd->pool);
    if (complaint != NULL)
        return complaint;
    definition_finish(definition, cmd->pool);
    definition->group.position = glue_groups(cmd->server)->nelts;
    APR_ARRAY_PUSH(glue_config_site(cmd->server)->groups, glue_group_t *) = &definition->group;
    return NULL;
}

/* Scripts to load when processes start. */

const char *glue_group_add_script(cmd_parms *cmd, const glue_script_t *script) {
    glue_script_t *added;

    if (*script->process_group != '\0') {
        const glue_group_t *group = glue_group_find(cmd->server, script->process_group);

        if (group == NULL)
            return glue_value_complaint(
                apr_pstrcat(cmd->pool, cmd->cmd->name, " process-group=", NULL),
                script->process_group, "is not defined by a WSGIDaemonProcess above", cmd->pool);
        if (!glue_group_is_open_to(group, cmd->server))
            return glue_value_complaint(
                apr_pstrcat(cmd->pool, cmd->cmd->name, " process-group=", NULL),
                script->process_group, "belongs to a virtual host of another ServerName",
                cmd->pool);
    }
    added = apr_array_push(glue_config_site(cmd->server)->scripts);
    *added = *script;
    added->path = ap_server_root_relative(cmd->pool, script->path);
    return added->path != NULL
               ? NULL
               : glue_value_complaint(cmd->cmd->name, script->path, "is not a path", cmd->pool);
}

const char *glue_group_import_directive(cmd_parms *cmd, void *unused, const char *line) {
    glue_script_t script = {.path = ap_getword_conf(cmd->pool, &line), .server = cmd->server};
    const char *name, *value;
    int more;

    (void)unused;
    if (*script.path == '\0')
        return "WSGIImportScript: the path of the script is missing";
    while ((more = glue_value_option(&name, &value, &line, cmd->pool)) > 0) {
        const char **field = strcmp(name, "process-group") == 0       ? &script.process_group
                             : strcmp(name, "application-group") == 0 ? &script.application_group
                                                                      : NULL;

        if (field == NULL || *value == '\0')
            return glue_value_complaint(
                cmd->cmd->name, name,
                field ? "is empty"
                      : "is not an option; these are: process-group, application-group",
                cmd->pool);
        *field = strcmp(value, "%{GLOBAL}") == 0 ? "" : value;
    }
    if (more < 0)
        return glue_value_complaint(cmd->cmd->name, name, "is not of the form name=value",
                                    cmd->pool);
    if (script.process_group == NULL || script.application_group == NULL)
        return "WSGIImportScript: process-group= and application-group= are both needed";
    return glue_group_add_script(cmd, &script);
}

/* Once the whole configuration is known. */

static void resolve_gils(glue_group_t *group, const glue_site_t *site) {
    group->own_gil = site->own_gil > 0;
    group->free_threading = glue_interpreter_is_free(site, group->name);
}

/* The tables of placement are bounded. NULL: all groups fit. */
static const char *check_totals(const apr_array_header_t *groups, apr_pool_t *pool) {
    int processes = 0;

    for (int i = 0; i < groups->nelts; i++)
        processes += APR_ARRAY_IDX(groups, i, glue_group_t *)->processes.most;
    if (groups->nelts <= PYGLUE_GROUP_SLOTS && processes <= PYGLUE_WORKER_SLOTS)
        return NULL;
    return apr_psprintf(pool,
                        "WSGIDaemonProcess: %d process groups with %d processes together; at most "
                        "%d and %d are possible",
                        groups->nelts, processes, PYGLUE_GROUP_SLOTS, PYGLUE_WORKER_SLOTS);
}

const char *glue_group_resolve(server_rec *main_server, apr_pool_t *pconf) {
    const apr_array_header_t *groups = glue_groups(main_server);
    const char *complaint = check_totals(groups, pconf);
    int is_clean;

    for (int i = 0; i < groups->nelts; i++) {
        glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);

        glue_identity_resolve((glue_definition_t *)group, pconf);
        resolve_gils(group, glue_config_site(main_server));
        if (group->response_socket_timeout == 0)
            group->response_socket_timeout = group->socket_timeout;
        if (group->socket_timeout == 0)
            group->socket_timeout = group->server->timeout;
        if ((group->uid == 0 || group->gid == 0) && geteuid() == 0)
            complaint =
                apr_psprintf(pconf,
                             "WSGIDaemonProcess: '%s' (%s) would run as root or in root's group: "
                             "give it user= and group=, or httpd another User and Group",
                             group->name, group->where);
    }
    is_clean = glue_identity_has_several(groups);
    for (int i = 0; i < groups->nelts; i++) {
        glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);

        if (is_clean && group->environ_mode == GLUE_ENVIRON_DEFAULT)
            group->environ_mode = GLUE_ENVIRON_CLEAN;
    }
    return complaint;
}

glue_group_t *glue_group_of_children(server_rec *main_server, apr_pool_t *pool) {
    glue_definition_t *definition = definition_make("", "httpd's children", main_server, pool);
    glue_group_t *group = &definition->group;

    definition_finish(definition, pool);
    glue_identity_resolve(definition, pool);
    resolve_gils(group, glue_config_site(main_server));
    group->python_path = glue_config_site(main_server)->python_path;
    group->environ_mode = GLUE_ENVIRON_INHERIT;
    return group;
}
