/* SPDX-License-Identifier: Apache-2.0 */
/* Freezes a request: CGI variables, flags and texts, once, into one block.
 * The variables are those of httpd's ap_add_common_vars and ap_add_cgi_vars as mod_wsgi passes
 * them, made without their formatted copies of the environment and without a subrequest. Later
 * pairs win over earlier ones of the same key: what SetEnv and others put into subprocess_env comes
 * first, then headers, then the variables that only httpd may set. */
#include "glue_snapshot.h"

#include <ap_mpm.h>
#include <apr_lib.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <unistd.h>
#include <util_script.h>

#include "glue_compat.h"

/* The same for all requests of this child; written in child_init. */
static struct child {
    apr_uint64_t number; /* of the last request; atomic */
    uint32_t mode;       /* PYGLUE_REQ_MULTI* of embedded mode */
    int32_t version[3];  /* of httpd */
    pyglue_str_t pid;
} child;

void glue_snapshot_child_init(apr_pool_t *pchild, server_rec *s) {
    ap_version_t version;
    int threaded = 0, forked = 0, daemons = 0;

    (void)s;
    ap_get_server_revision(&version);
    child.version[0] = version.major;
    child.version[1] = version.minor;
    child.version[2] = version.patch;
    child.pid = pyglue_str(apr_psprintf(pchild, "%" APR_PID_T_FMT, getpid()));
    ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded);
    ap_mpm_query(AP_MPMQ_IS_FORKED, &forked);
    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &daemons);
    child.mode = (threaded != AP_MPMQ_NOT_SUPPORTED ? PYGLUE_REQ_MULTITHREAD : 0) |
                 (forked != AP_MPMQ_NOT_SUPPORTED && daemons > 1 ? PYGLUE_REQ_MULTIPROCESS : 0);
    /* Unique among all children: 22 bits of pid (the kernel's most) and, because pids come back, a
     * counter that starts with the milliseconds of the child's birth. */
    child.number = ((apr_uint64_t)getpid() << 42) |
                   ((apr_uint64_t)apr_time_as_msec(apr_time_now()) & ((1ull << 42) - 1));
}

/* Pairs. */

typedef struct pairs {
    request_rec *r;
    pyglue_str_t *keys, *values;
    uint32_t count, room;
} pairs_t;

static pyglue_str_t *grow(pyglue_str_t *old, uint32_t count, uint32_t room, apr_pool_t *pool) {
    pyglue_str_t *list = apr_palloc(pool, room * sizeof *list);

    if (count > 0)
        memcpy(list, old, count * sizeof *list);
    return list;
}

static void add_str(pairs_t *p, pyglue_str_t key, pyglue_str_t value) {
    if (p->count == p->room) {
        p->room = p->room ? 2 * p->room : 128;
        p->keys = grow(p->keys, p->count, p->room, p->r->pool);
        p->values = grow(p->values, p->count, p->room, p->r->pool);
    }
    p->keys[p->count] = key;
    p->values[p->count++] = value;
}

/* NULL values are left out. Both texts are borrowed. */
static void add(pairs_t *p, const char *key, const char *value) {
    if (value != NULL)
        add_str(p, pyglue_str(key), pyglue_str(value));
}

/* Decimal, without the machinery of apr_psprintf: two ports a request. */
static const char *decimal(unsigned number, apr_pool_t *pool) {
    char *end = (char *)apr_palloc(pool, 12) + 11;

    for (*end = '\0'; number > 0 || *end == '\0'; number /= 10) {
        *--end = (char)('0' + number % 10);
        if (number < 10)
            break;
    }
    return end;
}

/* Headers. */

/* HTTP_NAME, or an empty string for a name that may not become a variable: with anything but
 * letters, digits and '-' it could be mistaken for another header (X_User, X.User for X-User). */
static pyglue_str_t variable_of(const char *name, apr_pool_t *pool) {
    apr_size_t length = strlen(name);
    char *key = apr_palloc(pool, length + 6), *at = key + 5;

    memcpy(key, "HTTP_", 5);
    for (const char *c = name; *c != '\0'; c++) {
        if (!apr_isalnum(*c) && *c != '-')
            return (pyglue_str_t){NULL, 0};
        *at++ = *c == '-' ? '_' : (char)apr_toupper(*c);
    }
    *at = '\0';
    return (pyglue_str_t){key, length + 5};
}

enum header_rule { PASS, DROP, CREDENTIALS, CONTENT_TYPE, CONTENT_LENGTH };

static enum header_rule rule_of(const char *name) {
    static const struct {
        const char *name;
        enum header_rule rule;
    } rules[] = {
        {"Content-Type", CONTENT_TYPE},
        {"Content-Length", CONTENT_LENGTH},
        {"Authorization", CREDENTIALS},
        {"Proxy-Authorization", CREDENTIALS},
        {"Proxy", DROP}, /* CVE-2016-5387: HTTP_PROXY is a setting of programs */
    };

    for (unsigned i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcasecmp(name, rules[i].name) == 0)
            return rules[i].rule;
    return PASS;
}

/* WSGIPassAuthorization passes one header, httpd's own CGIPassAuth both. */
static int are_credentials_passed(const pairs_t *p, const glue_route_t *route, const char *name) {
    const core_dir_config *core = ap_get_core_module_config(p->r->per_dir_config);

    return core->cgi_pass_auth == AP_CGI_PASS_AUTH_ON ||
           (route->pass_authorization && (*name | 32) == 'a');
}

/* Of a body that is not this request's (glue_handler.c) nothing is told either. */
static void add_headers(pairs_t *p, const glue_route_t *route, int has_body) {
    const apr_array_header_t *headers = apr_table_elts(p->r->headers_in);
    const apr_table_entry_t *entries = (const apr_table_entry_t *)headers->elts;

    for (int i = 0; i < headers->nelts; i++) {
        const char *name = entries[i].key;
        enum header_rule rule = rule_of(name);
        pyglue_str_t key;

        if (rule == CONTENT_LENGTH && !has_body && strcmp(entries[i].val, "0") != 0)
            continue;
        if (rule == DROP || (rule == CREDENTIALS && !are_credentials_passed(p, route, name)))
            continue;
        key = variable_of(name, p->r->pool);
        if (rule == CONTENT_TYPE || rule == CONTENT_LENGTH)
            key = (pyglue_str_t){key.ptr + 5, key.len - 5}; /* CGI has no HTTP_ before these two */
        if (key.len > 0)
            add_str(p, key, pyglue_str(entries[i].val));
    }
}

/* Variables of httpd. */

/* subprocess_env, less HTTPS: url_scheme tells it, as in mod_wsgi. */
static int add_environment(pairs_t *p) {
    const apr_array_header_t *variables = apr_table_elts(p->r->subprocess_env);
    const apr_table_entry_t *entries = (const apr_table_entry_t *)variables->elts;
    int is_https = glue_compat_is_tls(p->r->connection);

    for (int i = 0; i < variables->nelts; i++) {
        const char *key = entries[i].key, *value = entries[i].val;

        if (strcmp(key, "HTTPS") == 0)
            is_https = is_https || strcasecmp(value, "on") == 0 || strcmp(value, "1") == 0;
        else if (*key != '\0')
            add(p, key, value);
    }
    return is_https;
}

/* The request target as the client wrote it. */
static const char *target_of(const request_rec *r) {
    const char *start = r->the_request, *end;

    if (start == NULL)
        return r->unparsed_uri;
    while (*start != '\0' && !apr_isspace(*start))
        start++;
    while (apr_isspace(*start))
        start++;
    for (end = start; *end != '\0' && !apr_isspace(*end);)
        end++;
    return apr_pstrmemdup(r->pool, start, (apr_size_t)(end - start));
}

/* The same without scheme and host. */
static const char *without_host(const char *target) {
    const char *after = strstr(target, "://");

    if (*target == '/' || after == NULL || after > strpbrk(target, "/?#"))
        return target;
    after = strchr(after + 3, '/');
    return after != NULL ? after : "/";
}

static const char *request_uri(const request_rec *r, const char *target) {
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    const char *rule = core->cgi_var_rules
                           ? apr_hash_get(core->cgi_var_rules, "REQUEST_URI", APR_HASH_KEY_STRING)
                           : NULL;

    return rule != NULL && strcmp(rule, "current-uri") == 0 ? r->uri : without_host(target);
}

static void add_connection(pairs_t *p) {
    request_rec *r = p->r;
    const conn_rec *c = r->connection;
    const char *port = decimal(c->local_addr->port, r->pool);

    add(p, "SERVER_SOFTWARE", ap_get_server_banner());
    add(p, "SERVER_NAME", ap_escape_html(r->pool, ap_get_server_name_for_url(r)));
    add(p, "SERVER_ADDR", c->local_ip);
    add(p, "SERVER_PORT", decimal(ap_get_server_port(r), r->pool));
    add(p, "SERVER_ADMIN", r->server->server_admin);
    add(p, "SERVER_PROTOCOL", r->protocol);
    add(p, "REMOTE_ADDR", r->useragent_ip);
    add(p, "REMOTE_PORT", decimal(c->client_addr->port, r->pool));
    add(p, "mod_wsgi.listener_host", c->local_ip);
    add(p, "mod_wsgi.listener_port", port);
    add_str(p, pyglue_str("mod_wsgi.server_pid"), child.pid);
}

/* Who the client is, as httpd has found out, now or before an internal redirect. */
static void add_user(pairs_t *p) {
    const request_rec *r = p->r;

    add(p, "REMOTE_USER", r->user);
    if (r->user != NULL)
        add(p, "AUTH_TYPE", r->ap_auth_type);
    else if (r->prev != NULL)
        add(p, "REDIRECT_REMOTE_USER", r->prev->user);
}

static void add_redirect(pairs_t *p) {
    request_rec *r = p->r;
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);

    if (r->prev == NULL)
        return;
    add(p, "REDIRECT_URL",
        core->qualify_redirect_url == AP_CORE_CONFIG_ON
            ? ap_construct_url(r->pool, r->prev->uri, r->prev)
            : r->prev->uri);
    add(p, "REDIRECT_QUERY_STRING", r->prev->args);
}

/* The length of SCRIPT_NAME in r->uri, and the path behind it. Where the path ends in PATH_INFO,
 * the two together are the path that access control saw, with repeated slashes too, which
 * MergeSlashes Off leaves and of which ap_find_path_info does not know. */
static apr_size_t split_path(const char **path_info, const request_rec *r) {
    apr_size_t length = strlen(r->uri), behind;

    *path_info = r->path_info ? r->path_info : "";
    behind = strlen(*path_info);
    if (behind == 0)
        return length;
    if (behind > length || strcmp(r->uri + length - behind, *path_info) != 0)
        return (apr_size_t)ap_find_path_info(r->uri, *path_info);
    for (length -= behind; length > 0 && r->uri[length - 1] == '/';)
        length--;
    *path_info = r->uri + length;
    return length;
}

static void add_request(pairs_t *p, const char *file) {
    request_rec *r = p->r;
    const char *target = target_of(r), *path_info;
    apr_size_t length = split_path(&path_info, r);
    pyglue_str_t script = {r->uri, length};

    add(p, "REQUEST_METHOD", r->method);
    add(p, "REQUEST_SCHEME", ap_http_scheme(r));
    add(p, "REQUEST_URI", request_uri(r, target));
    add(p, "RAW_URI", target);
    add(p, "QUERY_STRING", r->args ? r->args : "");
    add_str(p, pyglue_str("SCRIPT_NAME"), script);
    add(p, "PATH_INFO", path_info);
    add_str(p, pyglue_str("mod_wsgi.script_name"), script);
    add(p, "mod_wsgi.path_info", path_info);
    add(p, "SCRIPT_FILENAME", file);
    add(p, "DOCUMENT_ROOT", ap_document_root(r));
    add(p, "CONTEXT_PREFIX", ap_context_prefix(r));
    add(p, "CONTEXT_DOCUMENT_ROOT", ap_context_document_root(r));
}

/* The id by which httpd's logs know the request (%L), made here unless something was logged before:
 * an application keeps what belongs to one request under it. A sub-request has its parent's. */
static const char *request_id(request_rec *r) {
    request_rec *logged = r->main != NULL ? r->main : r;

    if (logged->log_id == NULL)
        ap_run_generate_log_id(r->connection, logged, &logged->log_id);
    return logged->log_id;
}

/* The block. */

static uint32_t mode_of(const glue_group_t *group) {
    if (group == NULL)
        return child.mode;
    /* To an application another interpreter is as another process: nothing is shared. While as many
     * requests as interpreters run, each has one (pyglue/engine/spread.c). */
    return (group->threads > group->interpreters ? PYGLUE_REQ_MULTITHREAD : 0) |
           (group->has_processes || group->interpreters > 1 ? PYGLUE_REQ_MULTIPROCESS : 0) |
           (group->threads == 1 && group->maximum_requests == 1 ? PYGLUE_REQ_RUN_ONCE : 0);
}

/* How many interim heads it may have. HTTP/1.0 knows none, a sub-request is part of a response that
 * may have begun, and before an ErrorDocument the client may have had all of them. */
static uint32_t interims_of(const request_rec *r, const glue_group_t *group) {
    int is_error = r->prev != NULL && r->prev->status != HTTP_OK;

    return group == NULL || r->main != NULL || is_error || r->proto_num < HTTP_VERSION(1, 1)
               ? 0
               : (uint32_t)group->interim_responses;
}

static uint32_t flags_of(const request_rec *r, const glue_route_t *route, int is_https,
                         apr_int64_t content_length) {
    return mode_of(route->group) | (is_https ? PYGLUE_REQ_HTTPS : 0) |
           (route->config.script_reloading ? PYGLUE_REQ_RELOADING : 0) |
           (route->config.enable_sendfile ? PYGLUE_REQ_SENDFILE : 0) |
           (content_length != 0 ? PYGLUE_REQ_HAS_BODY : 0) |
           (r->header_only ? PYGLUE_REQ_HEAD : 0) |
           interims_of(r, route->group) * PYGLUE_REQ_INTERIM;
}

const pyglue_snapshot_t *glue_snapshot_make(request_rec *r, const glue_route_t *route,
                                            apr_int64_t content_length) {
    const char *file = glue_group_path(route->group, r->filename);
    pairs_t pairs = {.r = r};
    int is_https = add_environment(&pairs);
    pyglue_snapshot_spec_t spec;
    size_t size;
    void *block;

    add_headers(&pairs, route, content_length != 0);
    add_connection(&pairs);
    add_user(&pairs);
    add_redirect(&pairs);
    add_request(&pairs, file);
    spec = (pyglue_snapshot_spec_t){
        .flags = flags_of(r, route, is_https, content_length),
        .number = __atomic_add_fetch(&child.number, 1, __ATOMIC_RELAXED),
        .content_length = content_length,
        .request_start = r->request_time,
        .queue_start = apr_time_now(),
        .httpd_version = {child.version[0], child.version[1], child.version[2]},
        .script = pyglue_str(file),
        .process_group = pyglue_str(route->process_group),
        .application_group = pyglue_str(route->application_group),
        .callable = pyglue_str(route->callable),
        .handler = pyglue_str(r->handler),
        .request_id = pyglue_str(request_id(r)),
        .connection_id = pyglue_str(r->connection->log_id),
        .keys = pairs.keys,
        .values = pairs.values,
        .pair_count = pairs.count,
    };
    size = pyglue_snapshot_size(&spec);
    if (size == 0)
        return NULL;
    block = apr_palloc(r->pool, size);
    pyglue_snapshot_build(block, size, &spec);
    return block;
}
