/* SPDX-License-Identifier: Apache-2.0 */
/* Decides by configuration alone who serves a request; expands %{...} values.
 * Neighbours: glue_alias.c mapped the URL, glue_handler.c asks, glue_group.c knows the groups. */
#include "glue_route.h"

#include <http_core.h>
#include <http_protocol.h>
#include <stdlib.h>
#include <util_script.h>

#include "glue_alias.h"
#include "glue_log.h"

/* httpd's, which believes the Host header unless UseCanonicalName is On. A port that the header
 * alone names is not ours: each would make an application group, and so an interpreter. */
static apr_port_t port_of(const request_rec *r) {
    apr_port_t asked = ap_get_server_port(r), local = r->connection->local_addr->port;

    if (asked == 80 || asked == 443 || asked == local || asked == r->server->port)
        return asked;
    return r->server->port != 0 ? r->server->port : local;
}

/* The port is left out where it is the usual one of either scheme, as mod_wsgi does. */
static const char *with_port(const request_rec *r, const char *host) {
    apr_port_t port = port_of(r);

    return port == 80 || port == 443 ? host : apr_psprintf(r->pool, "%s:%u", host, port);
}

static const char *expand_global(request_rec *r) {
    (void)r;
    return "";
}

static const char *expand_server(request_rec *r) {
    return with_port(r, r->server->server_hostname ? r->server->server_hostname : "");
}

static const char *expand_host(request_rec *r) {
    if (r->hostname == NULL || *r->hostname == '\0')
        return expand_server(r);
    return with_port(r, r->hostname);
}

static const char *expand_resource(request_rec *r) {
    const char *uri = r->uri;
    char *script = apr_pstrmemdup(r->pool, uri,
                                  r->path_info ? (apr_size_t)ap_find_path_info(uri, r->path_info)
                                               : strlen(uri));

    ap_no2slash(script);
    return apr_pstrcat(r->pool, expand_server(r), "|", script, NULL);
}

static const struct {
    const char *token;
    const char *(*expand)(request_rec *r);
} tokens[] = {
    {"%{GLOBAL}", expand_global},
    {"%{SERVER}", expand_server},
    {"%{HOST}", expand_host},
    {"%{RESOURCE}", expand_resource},
};

static const char *expand_plain(const char *value, request_rec *r) {
    if (*value == '%')
        for (unsigned i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
            if (strcmp(value, tokens[i].token) == 0)
                return tokens[i].expand(r);
    return value;
}

static const char env_start[] = "%{ENV:";

static int is_env(const char *value) {
    return strncmp(value, env_start, sizeof env_start - 1) == 0 && value[strlen(value) - 1] == '}';
}

int glue_route_is_token(const char *value) {
    for (unsigned i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
        if (strcmp(value, tokens[i].token) == 0)
            return 1;
    return is_env(value);
}

/* NULL: value is no %{ENV:NAME}, or nothing of that name is set. */
static const char *look_up_env(const char *value, request_rec *r) {
    const char *name, *found;

    if (!is_env(value))
        return NULL;
    name = apr_pstrmemdup(r->pool, value + sizeof env_start - 1, strlen(value) - sizeof env_start);
    if ((found = apr_table_get(r->notes, name)) != NULL ||
        (found = apr_table_get(r->subprocess_env, name)) != NULL)
        return found;
    return getenv(name);
}

/* A group's value: a token, or a variable that may itself hold a token, but no variable. */
static const char *expand_group(const char *value, request_rec *r) {
    const char *found = look_up_env(value, r);

    return expand_plain(found ? found : value, r);
}

/* A callable's value: only %{ENV:NAME} is a token; what else starts with % is the default. */
static const char *expand_callable(const char *value, request_rec *r) {
    const char *found;

    if (value == NULL)
        return "application";
    if (*value != '%')
        return value;
    found = look_up_env(value, r);
    return found ? found : "application";
}

static const char *application_group_of(const glue_route_t *route, const glue_alias_t *alias,
                                        request_rec *r) {
    if (alias != NULL && alias->application_group != NULL)
        return expand_group(alias->application_group, r);
    if (route->config.application_group != NULL)
        return expand_group(route->config.application_group, r);
    /* DESIGN 9: alone in its process group, so that C extensions work that know one interpreter. */
    if (alias != NULL && alias->is_alone && route->group != NULL &&
        strcmp(r->filename, alias->target) == 0)
        return "";
    return expand_resource(r);
}

static int is_permitted(const glue_route_t *route) {
    const apr_array_header_t *names = route->config.restrict_process;

    if (names == NULL)
        return 1;
    for (int i = 0; i < names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(names, i, const char *);

        if (strcmp(strcmp(name, "%{GLOBAL}") == 0 ? "" : name, route->process_group) == 0)
            return 1;
    }
    return 0;
}

static int find_group(glue_route_t *route, request_rec *r) {
    if (!is_permitted(route)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      GLUE_ID(0201) "WSGIRestrictProcess: process group '%s' may not serve %s",
                      route->process_group, r->uri);
        return PYGLUE_E_STATE;
    }
    if (*route->process_group == '\0')
        return 0;
    route->group = glue_group_find(r->server, route->process_group);
    if (route->group == NULL) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      GLUE_ID(0202) "WSGIProcessGroup: no process group '%s' is defined by a "
                                    "WSGIDaemonProcess",
                      route->process_group);
        return PYGLUE_E_STATE;
    }
    if (!glue_group_is_open_to(route->group, r->server)) {
        ap_log_rerror(
            APLOG_MARK, APLOG_ERR, 0, r,
            GLUE_ID(0203) "WSGIProcessGroup: process group '%s' (%s) belongs to a virtual "
                          "host of another ServerName",
            route->process_group, route->group->where);
        return PYGLUE_E_STATE;
    }
    return 0;
}

int glue_route_find(glue_route_t *route, request_rec *r) {
    const glue_alias_t *alias = glue_alias_of(r);
    const char *process_group;
    int error;

    memset(route, 0, sizeof *route);
    glue_config_request(&route->config, r);
    process_group =
        alias && alias->process_group ? alias->process_group : route->config.process_group;
    route->process_group = process_group ? expand_group(process_group, r) : "";
    if ((error = find_group(route, r)) != 0)
        return error;
    route->application_group = application_group_of(route, alias, r);
    route->callable =
        alias && alias->callable ? alias->callable : expand_callable(route->config.callable, r);
    route->pass_authorization = alias && alias->pass_authorization != GLUE_UNSET
                                    ? alias->pass_authorization
                                    : route->config.pass_authorization;
    return 0;
}
