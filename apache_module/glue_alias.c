/* SPDX-License-Identifier: Apache-2.0 */
/* From a URL to a script: the two directives, and the hook that maps a request by them.
 * Matching is mod_alias's. An alias to a file leaves the request as httpd's directory walk would
 * have left it, file and PATH_INFO apart and the file looked at once: the walk still applies the
 * access control of the file's folders, but needs no further stat. */
#include "glue_alias.h"

#include <apr_fnmatch.h>
#include <http_request.h>

#include "glue_advice.h"
#include "glue_group.h"
#include "glue_log.h"

/* Directives. */

/* NULL, or a whole complaint. */
static const char *set_option(glue_alias_t *alias, cmd_parms *cmd, const char *name,
                              const char *value) {
    static const glue_row_t flag = {.type = GLUE_FLAG,
                                    .offset = offsetof(glue_alias_t, pass_authorization)};
    const struct {
        const char *name;
        const char **field; /* NULL: the flag */
    } options[] = {
        {"process-group", &alias->process_group},
        {"application-group", &alias->application_group},
        {"callable-object", &alias->callable},
        {"pass-authorization", NULL},
    };
    const char *list = "is not an option; these are: ", *problem = NULL;

    for (unsigned i = 0; i < sizeof options / sizeof options[0]; i++) {
        list = apr_pstrcat(cmd->pool, list, i > 0 ? ", " : "", options[i].name, NULL);
        if (strcmp(name, options[i].name) != 0)
            continue;
        if (options[i].field == NULL)
            problem = glue_value_parse(alias, &flag, value, cmd->pool);
        else if (*value == '\0')
            problem = "is empty";
        else
            *options[i].field = strcmp(value, "%{GLOBAL}") == 0 && i < 2 ? "" : value;
        return problem == NULL
                   ? NULL
                   : glue_value_complaint(apr_pstrcat(cmd->pool, cmd->cmd->name, " ", name, NULL),
                                          value, problem, cmd->pool);
    }
    return glue_value_complaint(cmd->cmd->name, name, list, cmd->pool);
}

static const char *read_options(glue_alias_t *alias, cmd_parms *cmd, const char *line) {
    const char *name, *value, *complaint;
    int more;

    while ((more = glue_value_option(&name, &value, &line, cmd->pool)) > 0)
        if ((complaint = set_option(alias, cmd, name, value)) != NULL)
            return complaint;
    return more == 0 ? NULL
                     : glue_value_complaint(cmd->cmd->name, name, "is not of the form name=value",
                                            cmd->pool);
}

int glue_alias_is_pattern(const glue_alias_t *alias) {
    return alias->expression != NULL && strchr(alias->target, '$') != NULL;
}

/* mod_wsgi's rule: an alias that names both groups literally is loaded when processes start. */
static int is_preloaded(const glue_alias_t *alias) {
    return alias->process_group != NULL && alias->application_group != NULL &&
           strstr(alias->process_group, "%{") == NULL &&
           strstr(alias->application_group, "%{") == NULL && !glue_alias_is_pattern(alias);
}

/* As httpd's walk writes it: absolute, no ".." and no "//" in it. NULL, or a whole complaint. */
static const char *settle_target(cmd_parms *cmd, glue_alias_t *alias) {
    const char *written = alias->target;
    apr_hash_t *targets = glue_config_site(cmd->server)->targets;

    if (glue_alias_is_pattern(alias))
        return NULL;
    alias->target = ap_server_root_relative(cmd->pool, written);
    if (alias->target == NULL)
        return glue_value_complaint(cmd->cmd->name, written, "is not a path", cmd->pool);
    if (apr_hash_get(targets, alias->target, APR_HASH_KEY_STRING) == NULL)
        apr_hash_set(targets, alias->target, APR_HASH_KEY_STRING, alias);
    return NULL;
}

static const char *add_alias(cmd_parms *cmd, const char *line, int is_match) {
    glue_alias_t *alias = apr_pcalloc(cmd->pool, sizeof *alias);
    const char *complaint;

    alias->url = ap_getword_conf(cmd->pool, &line);
    alias->target = ap_getword_conf(cmd->pool, &line);
    alias->pass_authorization = GLUE_UNSET;
    alias->server = cmd->server;
    alias->where = glue_value_where(cmd);
    if (*alias->target == '\0')
        return apr_pstrcat(cmd->pool, cmd->cmd->name, ": a URL and a file or folder are needed",
                           NULL);
    complaint = read_options(alias, cmd, line);
    if (complaint != NULL)
        return complaint;
    if (is_match &&
        (alias->expression = ap_pregcomp(cmd->pool, alias->url, AP_REG_EXTENDED)) == NULL)
        return glue_value_complaint(cmd->cmd->name, alias->url, "is not a regular expression",
                                    cmd->pool);
    complaint = settle_target(cmd, alias);
    if (complaint != NULL)
        return complaint;
    APR_ARRAY_PUSH(glue_config_server(cmd->server)->aliases, glue_alias_t *) = alias;
    if (!is_preloaded(alias))
        return NULL;
    return glue_group_add_script(
        cmd, &(glue_script_t){.path = alias->target,
                              .process_group = alias->process_group,
                              .application_group = alias->application_group,
                              .callable = alias->callable ? alias->callable : "application",
                              .server = cmd->server});
}

const char *glue_alias_prefix_directive(cmd_parms *cmd, void *unused, const char *line) {
    (void)unused;
    return add_alias(cmd, line, 0);
}

const char *glue_alias_match_directive(cmd_parms *cmd, void *unused, const char *line) {
    (void)unused;
    return add_alias(cmd, line, 1);
}

/* Matching. */

/* How much of the URI the prefix covers, 0: it does not match. A run of slashes in either matches
 * any run, and the match ends where a path segment ends. */
static apr_size_t match_prefix(const char *uri, const char *prefix) {
    const char *u = uri, *p = prefix;

    while (*p != '\0') {
        if (*p == '/') {
            if (*u != '/')
                return 0;
            while (*p == '/')
                p++;
            while (*u == '/')
                u++;
        } else if (*u++ != *p++) {
            return 0;
        }
    }
    if (p == prefix || (p[-1] != '/' && *u != '\0' && *u != '/'))
        return 0;
    return (apr_size_t)(u - uri);
}

/* *target: the file or folder. Returns how much of the URI was matched; 0: no match. */
static apr_size_t match(const char **target, const glue_alias_t *alias, request_rec *r) {
    ap_regmatch_t groups[AP_MAX_REG_MATCH];

    *target = alias->target;
    if (alias->expression == NULL)
        return match_prefix(r->uri, alias->url);
    if (ap_regexec(alias->expression, r->uri, AP_MAX_REG_MATCH, groups, 0) != 0 ||
        groups[0].rm_eo <= 0)
        return 0;
    *target = ap_pregsub(r->pool, alias->target, r->uri, AP_MAX_REG_MATCH, groups);
    return *target != NULL ? (apr_size_t)groups[0].rm_eo : 0;
}

/* What follows the mount point. At "/" it is the whole URI, with its slash. */
static const char *rest_of(const char *uri, apr_size_t matched) {
    return uri + (matched > 0 && uri[matched - 1] == '/' ? matched - 1 : matched);
}

/* Puts file, PATH_INFO and what stat says where the directory walk expects them. If the target is
 * no file, or an expression ended within a word, the walk finds out by itself what lies at
 * target + rest. */
static void place(request_rec *r, const char *target, const char *rest) {
    int is_path = *rest == '/' || *rest == '\0';

    if (*target == '/' && is_path &&
        apr_stat(&r->finfo, target, APR_FINFO_MIN, r->pool) == APR_SUCCESS &&
        r->finfo.filetype == APR_REG) {
        r->filename = apr_pstrdup(r->pool, target);
        r->path_info = apr_pstrdup(r->pool, rest);
    } else {
        memset(&r->finfo, 0, sizeof r->finfo);
        r->filename = ap_server_root_relative(r->pool, apr_pstrcat(r->pool, target, rest, NULL));
    }
}

int glue_alias_translate(request_rec *r) {
    const apr_array_header_t *aliases = glue_config_server(r->server)->aliases;
    const char *target;

    if (*r->uri != '/')
        return DECLINED;
    for (int i = 0; i < aliases->nelts; i++) {
        glue_alias_t *alias = APR_ARRAY_IDX(aliases, i, glue_alias_t *);
        apr_size_t matched = match(&target, alias, r);

        if (matched == 0)
            continue;
        place(r, target, rest_of(r->uri, matched));
        r->handler = "wsgi-script";
        apr_table_setn(r->notes, "alias-forced-type", r->handler);
        ap_set_module_config(r->request_config, &wsgi_module, alias);
        return OK;
    }
    return DECLINED;
}

const glue_alias_t *glue_alias_of(const request_rec *r) {
    return ap_get_module_config(r->request_config, &wsgi_module);
}

const glue_alias_t *glue_alias_to(const request_rec *r, const char *file) {
    return apr_hash_get(glue_config_site(r->server)->targets, file, APR_HASH_KEY_STRING);
}

void glue_alias_advise(server_rec *main_server) {
    for (const server_rec *s = main_server; s != NULL; s = s->next) {
        const apr_array_header_t *aliases = glue_config_server(s)->aliases;

        for (int i = 0; i < aliases->nelts; i++) {
            const glue_alias_t *alias = APR_ARRAY_IDX(aliases, i, const glue_alias_t *);

            /* A virtual host has those of the main server as well. */
            if (alias->server != s)
                continue;
            if (alias->process_group != NULL)
                glue_advice_on_use(s, "WSGIScriptAlias process-group=", alias->where,
                                   alias->process_group);
            if (alias->expression == NULL && *alias->url != '/')
                ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                             GLUE_ID(0108) "WSGIScriptAlias (%s): '%s' does not begin with a "
                                           "slash, so no URL leads there",
                             alias->where, alias->url);
        }
    }
}

/* Alone in a process group. */

int glue_alias_is_below(const char *path, const char *folder) {
    apr_size_t length = strlen(folder);

    while (length > 0 && folder[length - 1] == '/')
        length--;
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* Can a WSGIProcessGroup written there concern requests of this alias? Sections that cannot be
 * judged by comparing paths (Files, Match, If, patterns) are taken to concern all. */
static int can_concern(const glue_mention_t *mention, const glue_alias_t *alias) {
    if (mention->server->is_virtual && mention->server != alias->server &&
        alias->server->is_virtual)
        return 0;
    if (mention->section == NULL || alias->expression != NULL || apr_fnmatch_test(mention->path))
        return 1;
    if (strcasecmp(mention->section, "<Directory") == 0)
        return glue_alias_is_below(alias->target, mention->path);
    if (strcasecmp(mention->section, "<Location") == 0)
        return glue_alias_is_below(alias->url, mention->path) ||
               glue_alias_is_below(mention->path, alias->url);
    return 1;
}

/* 0: no; 1: requests of this alias may be served by the group. A token may stand for any group. */
static int can_reach(const glue_alias_t *alias, const char *group, const glue_site_t *site) {
    if (alias->process_group != NULL)
        return *alias->process_group == '%' || strcmp(alias->process_group, group) == 0;
    for (int i = 0; i < site->mentions->nelts; i++) {
        const glue_mention_t *mention = &APR_ARRAY_IDX(site->mentions, i, glue_mention_t);

        if ((*mention->process_group == '%' && strcmp(mention->process_group, "%{GLOBAL}") != 0) ||
            strcmp(mention->process_group, group) == 0)
            if (can_concern(mention, alias))
                return 1;
    }
    return 0;
}

static int is_embedded(const char *process_group) {
    return *process_group == '\0' || strcmp(process_group, "%{GLOBAL}") == 0;
}

int glue_alias_is_embedded(const glue_alias_t *alias) {
    const apr_array_header_t *mentions = glue_config_site(alias->server)->mentions;

    if (alias->process_group != NULL)
        return is_embedded(alias->process_group);
    for (int i = 0; i < mentions->nelts; i++) {
        const glue_mention_t *mention = &APR_ARRAY_IDX(mentions, i, glue_mention_t);

        if (!is_embedded(mention->process_group) && can_concern(mention, alias))
            return 0;
    }
    return 1;
}

static int is_same_application(const glue_alias_t *a, const glue_alias_t *b) {
    return a->expression == NULL && b->expression == NULL && strcmp(a->url, b->url) == 0 &&
           strcmp(a->target, b->target) == 0;
}

/* 1: one application reaches the group, and twins are its aliases: one in each virtual host, as the
 * same application on two ports is one. 0: none does, or several. */
static int find_only(apr_array_header_t *twins, const glue_group_t *group,
                     server_rec *main_server) {
    apr_array_clear(twins);
    for (server_rec *s = main_server; s != NULL; s = s->next) {
        const apr_array_header_t *aliases = glue_config_server(s)->aliases;

        for (int i = 0; i < aliases->nelts; i++) {
            glue_alias_t *alias = APR_ARRAY_IDX(aliases, i, glue_alias_t *);

            if (!can_reach(alias, group->name, glue_config_site(s)))
                continue;
            if (alias->expression != NULL ||
                (twins->nelts > 0 &&
                 !is_same_application(alias, APR_ARRAY_IDX(twins, 0, glue_alias_t *))))
                return 0;
            APR_ARRAY_PUSH(twins, glue_alias_t *) = alias;
        }
    }
    return twins->nelts > 0;
}

void glue_alias_find_alone(server_rec *main_server) {
    const apr_array_header_t *groups = glue_groups(main_server);
    const apr_array_header_t *scripts = glue_scripts(main_server);
    apr_array_header_t *twins =
        apr_array_make(main_server->process->pconf, 4, sizeof(glue_alias_t *));

    for (int i = 0; i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);
        int is_alone = find_only(twins, group, main_server);

        for (int k = 0; k < scripts->nelts; k++)
            if (strcmp(APR_ARRAY_IDX(scripts, k, glue_script_t).process_group, group->name) == 0)
                is_alone = 0;
        for (int k = 0; is_alone && k < twins->nelts; k++)
            APR_ARRAY_IDX(twins, k, glue_alias_t *)->is_alone = 1;
    }
}
