/* SPDX-License-Identifier: Apache-2.0 */
/* Process groups: from WSGIDaemonProcess to frozen numbers, and who may use which group.
 * Names of users become numbers here, in httpd's parent, because name services can block and must
 * not be loaded into the supervisor. Nothing below a tenant's folder is looked at. */
#include "glue_options.h"

#include <apr_sha1.h>
#include <apr_user.h>
#include <grp.h>
#include <http_core.h>
#include <mpm_common.h>
#include <unistd.h>
#include <unixd.h>

#include "glue_config.h"
#include "glue_interpreter.h"
#include "glue_log.h"
#include "glue_route.h"

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

/* Users and groups: "name" or "#number". */

static int is_numeric(apr_int64_t *number, const char *word) {
    char *end;

    if (word[0] != '#' || word[1] < '0' || word[1] > '9')
        return 0;
    *number = apr_strtoi64(word + 1, &end, 10);
    return *end == '\0' && *number >= 0 && *number < UINT32_MAX;
}

static const char *find_user(apr_int64_t *uid, const char *word, apr_pool_t *pool) {
    apr_uid_t found;
    apr_gid_t unused;

    if (is_numeric(uid, word))
        return NULL;
    if (word[0] == '#' || apr_uid_get(&found, &unused, word, pool) != APR_SUCCESS)
        return "is no user of this machine";
    *uid = found;
    return NULL;
}

static const char *find_group(apr_int64_t *gid, const char *word, apr_pool_t *pool) {
    apr_gid_t found;

    if (is_numeric(gid, word))
        return NULL;
    if (word[0] == '#' || apr_gid_get(&found, word, pool) != APR_SUCCESS)
        return "is no group of this machine";
    *gid = found;
    return NULL;
}

/* The groups of a comma list: exactly these, the primary one apart. An empty list is none. */
static const char *find_listed(glue_definition_t *definition, const char *subject,
                               apr_pool_t *pool) {
    const char *rest = definition->supplementary_groups, *problem = NULL, *word = rest;

    subject = apr_pstrcat(pool, subject, " supplementary-groups=", NULL);
    definition->listed = apr_array_make(pool, 8, sizeof(gid_t));
    while (problem == NULL && *rest != '\0') {
        apr_size_t length = strcspn(rest, ",");
        apr_int64_t gid = -1;

        word = apr_pstrmemdup(pool, rest, length);
        problem = find_group(&gid, word, pool);
        if (problem == NULL && gid == 0)
            problem = "is root's group, and applications do not run in it";
        APR_ARRAY_PUSH(definition->listed, gid_t) = (gid_t)gid;
        rest += length;
        if (*rest == ',' && *++rest == '\0' && problem == NULL)
            problem = find_group(&gid, word = "", pool);
    }
    if (problem != NULL)
        return glue_value_complaint(subject, word, problem, pool);
    if (definition->listed->nelts < NGROUPS_MAX) /* less the primary one */
        return NULL;
    return apr_psprintf(pool,
                        "%s: %d groups and the primary one are more than the %d that this "
                        "system allows a process",
                        subject, definition->listed->nelts, NGROUPS_MAX);
}

static int leads_up(const char *path) {
    for (const char *at = strstr(path, ".."); at != NULL; at = strstr(at + 2, ".."))
        if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0'))
            return 1;
    return 0;
}

/* The names that were written, checked while the line is known. */
static const char *check_names(glue_definition_t *definition, const char *subject,
                               apr_pool_t *pool) {
    apr_int64_t uid = -1, gid = -1;
    glue_group_t *group = &definition->group;
    const struct {
        const char *option, *word;
        apr_int64_t *number;
        const char *(*look_up)(apr_int64_t *, const char *, apr_pool_t *);
    } names[] = {
        {"user", definition->user, &uid, find_user},
        {"group", definition->group_name, &gid, find_group},
        {"socket-user", definition->socket_user, &group->socket_uid, find_user},
        {"script-user", definition->script_user, &group->script_uid, find_user},
        {"script-group", definition->script_group, &group->script_gid, find_group},
    };

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *problem =
            names[i].word ? names[i].look_up(names[i].number, names[i].word, pool) : NULL;

        if (problem == NULL && names[i].number == &uid && uid == 0)
            problem = "is root, and applications do not run as root";
        if (problem == NULL && names[i].number == &gid && gid == 0)
            problem = "is root's group, and applications do not run in it";
        if (problem != NULL)
            return glue_value_complaint(apr_pstrcat(pool, subject, " ", names[i].option, "=", NULL),
                                        names[i].word, problem, pool);
    }
    if (definition->script_user != NULL && definition->script_group != NULL)
        return glue_value_complaint(subject, "script-group", "excludes script-user", pool);
    if (group->chroot != NULL && geteuid() != 0)
        return glue_value_complaint(apr_pstrcat(pool, subject, " chroot=", NULL), group->chroot,
                                    "needs an httpd that root starts, and that root tests", pool);
    if (group->cgroup != NULL && leads_up(group->cgroup))
        return glue_value_complaint(apr_pstrcat(pool, subject, " cgroup=", NULL), group->cgroup,
                                    "leads out of where it begins, by '..'", pool);
    return definition->supplementary_groups != NULL ? find_listed(definition, subject, pool) : NULL;
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

/* What no option shows alone. NULL: they fit together. */
static const char *check_together(const glue_group_t *group) {
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
        complaint = check_names(definition, cmd->cmd->name, cmd->pool);
    if (complaint == NULL)
        complaint = check_together(&definition->group);
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

/* The groups of a user as initgroups would have them, the primary one first. */
static apr_array_header_t *groups_of(const char *user, gid_t gid, apr_pool_t *pool) {
    gid_t list[NGROUPS_MAX];
    int count = NGROUPS_MAX;
    apr_array_header_t *groups = apr_array_make(pool, 8, sizeof(gid_t));

    if (user == NULL || getgrouplist(user, gid, list, &count) < 0) {
        APR_ARRAY_PUSH(groups, gid_t) = gid;
        return groups;
    }
    for (int i = 0; i < count; i++)
        APR_ARRAY_PUSH(groups, gid_t) = list[i];
    return groups;
}

/* The primary group, and those that were listed. */
static apr_array_header_t *exactly(gid_t gid, const apr_array_header_t *listed, apr_pool_t *pool) {
    apr_array_header_t *groups = apr_array_make(pool, 1 + listed->nelts, sizeof(gid_t));

    APR_ARRAY_PUSH(groups, gid_t) = gid;
    apr_array_cat(groups, listed);
    return groups;
}

static void resolve_identity(glue_definition_t *definition, apr_pool_t *pool) {
    glue_group_t *group = &definition->group;
    apr_int64_t uid = ap_unixd_config.user_id, gid = ap_unixd_config.group_id;
    char *name = NULL, *home = NULL;

    if (geteuid() != 0) {
        uid = geteuid();
        gid = getegid();
    } else {
        if (definition->user != NULL)
            find_user(&uid, definition->user, pool); /* was found when the line was read */
        if (definition->group_name != NULL)
            find_group(&gid, definition->group_name, pool);
    }
    group->uid = (uid_t)uid;
    group->gid = (gid_t)gid;
    if (apr_uid_name_get(&name, group->uid, pool) != APR_SUCCESS)
        name = NULL;
    if (name != NULL && apr_uid_homepath_get(&home, name, pool) == APR_SUCCESS)
        group->user_home = home;
    group->user = name;
    group->groups = definition->listed != NULL ? exactly(group->gid, definition->listed, pool)
                                               : groups_of(name, group->gid, pool);
}

static void resolve_gils(glue_group_t *group, const glue_site_t *site) {
    group->own_gil = site->own_gil > 0;
    group->free_threading = glue_interpreter_is_free(site, group->name);
}

static void digest_text(apr_sha1_ctx_t *context, const char *text) {
    apr_sha1_update_binary(context, (const unsigned char *)text, (unsigned)strlen(text) + 1);
}

/* docs/plan.md section 3. */
static void make_digest(glue_group_t *group, apr_pool_t *pool) {
    apr_sha1_ctx_t context;
    uid_t httpd = geteuid() == 0 ? ap_unixd_config.user_id : geteuid();

    apr_sha1_init(&context);
    digest_text(&context, group->name);
    digest_text(&context, apr_psprintf(pool, "%u", (unsigned)group->uid));
    digest_text(&context, apr_psprintf(pool, "%u", (unsigned)group->gid));
    for (int i = 0; i < group->groups->nelts; i++)
        digest_text(&context,
                    apr_psprintf(pool, "%u", (unsigned)APR_ARRAY_IDX(group->groups, i, gid_t)));
    digest_text(&context, group->chroot ? group->chroot : "");
    digest_text(&context, apr_psprintf(pool, "%u", (unsigned)httpd));
    apr_sha1_final(group->digest, &context);
}

static int has_two_users(const apr_array_header_t *groups) {
    for (int i = 1; i < groups->nelts; i++)
        if (APR_ARRAY_IDX(groups, i, glue_group_t *)->uid !=
            APR_ARRAY_IDX(groups, 0, glue_group_t *)->uid)
            return 1;
    return 0;
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

        resolve_identity((glue_definition_t *)group, pconf);
        resolve_gils(group, glue_config_site(main_server));
        make_digest(group, pconf);
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
    is_clean = has_two_users(groups);
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
    resolve_identity(definition, pool);
    make_digest(group, pool);
    resolve_gils(group, glue_config_site(main_server));
    group->python_path = glue_config_site(main_server)->python_path;
    group->environ_mode = GLUE_ENVIRON_INHERIT;
    return group;
}

void glue_group_advise_use(const server_rec *s, const char *subject, const char *where,
                           const char *name) {
    const glue_group_t *group = glue_group_find(s, name);

    if (*name == '\0' || glue_route_is_token(name))
        return;
    if (group == NULL)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     GLUE_ID(0102) "%s (%s): no WSGIDaemonProcess defines '%s'; requests for it "
                                   "will be answered with 500: define it, or correct the name",
                     subject, where, name);
    else if (s->is_virtual && !glue_group_is_open_to(group, s))
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     GLUE_ID(0107) "%s (%s): '%s' is defined in a virtual host of another "
                                   "ServerName (%s); requests for it will be answered with 500: "
                                   "define it in the main server, or one for each",
                     subject, where, name, group->where);
}

/* TENANTS 4: what httpd's own user cannot read of its children else: the workers' keys. */
static void advise_core_dumps(server_rec *main_server, const apr_array_header_t *groups) {
    for (int i = 0; ap_coredumpdir_configured && i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);

        if (geteuid() != 0 || group->uid == ap_unixd_config.user_id)
            continue;
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     GLUE_ID(0109) "CoreDumpDirectory opens httpd's children to all processes of "
                                   "httpd's user (CGI, PHP), who can then speak to the workers of "
                                   "process group '%s', which runs as another user: leave it out "
                                   "where they must be apart",
                     group->name);
        return;
    }
}

/* The kernel counts by user: httpd's children have their threads in the same account. */
static void advise_shared_account(server_rec *main_server, const apr_array_header_t *groups) {
    uid_t httpd = geteuid() == 0 ? ap_unixd_config.user_id : geteuid();

    for (int i = 0; i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);

        if (group->process_limit > 0 && group->uid == httpd)
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, main_server,
                         GLUE_ID(0111) "process-limit=%d of process group '%s' counts the threads "
                                       "of httpd's children as well, because it runs as their "
                                       "user: allow for them, or give it its own by user=",
                         group->process_limit, group->name);
    }
}

/* Said at `httpd -t` alone: most sites mean it so. */
static void advise_shared_user(server_rec *main_server, const apr_array_header_t *groups) {
    for (int i = 1; i < groups->nelts; i++)
        for (int j = 0; j < i; j++) {
            const glue_group_t *one = APR_ARRAY_IDX(groups, j, glue_group_t *);
            const glue_group_t *other = APR_ARRAY_IDX(groups, i, glue_group_t *);

            if (one->uid != other->uid)
                continue;
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, main_server,
                         GLUE_ID(0110) "process groups of one user are not apart from each other, "
                                       "such as '%s' and '%s': each can read the other's files, "
                                       "memory and environment. user= gives a group its own",
                         one->name, other->name);
            return;
        }
}

void glue_group_advise(server_rec *main_server) {
    const apr_array_header_t *groups = glue_groups(main_server);
    const apr_array_header_t *mentions = glue_config_site(main_server)->mentions;

    for (int i = 0; i < mentions->nelts; i++) {
        const glue_mention_t *mention = &APR_ARRAY_IDX(mentions, i, glue_mention_t);

        glue_group_advise_use(mention->server, "WSGIProcessGroup", mention->where,
                              mention->process_group);
    }
    if (has_two_users(groups))
        ap_log_error(
            APLOG_MARK, APLOG_NOTICE, 0, main_server,
            GLUE_ID(0103) "process groups run as several users, so they start with a clean "
                          "environment (PATH, LANG, HOME, USER, LOGNAME); environ=inherit "
                          "gives a group httpd's");
    advise_core_dumps(main_server, groups);
    if (ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_CONFIG_TEST)
        return;
    advise_shared_user(main_server, groups);
    advise_shared_account(main_server, groups);
}
