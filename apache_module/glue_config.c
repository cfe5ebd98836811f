/* SPDX-License-Identifier: Apache-2.0 */
/* The table of directives, and what creates, merges and reads the structs that it fills.
 * Each row names its field, type and default; a directive with a syntax of its own names the file
 * that knows it. Contexts are mod_wsgi's; docs/reference/directives.md says the rest. */
#include "glue_config.h"

#include "glue_alias.h"
#include "glue_group.h"
#include "glue_interpreter.h"
#include "glue_log.h"

#define SERVER_AND_SECTIONS (RSRC_CONF | ACCESS_CONF)

/* Where the row's field lies. NULL and *problem: not allowed here. */
static void *home_of(const char **problem, cmd_parms *cmd, void *request_config) {
    const glue_row_t *row = cmd->info;

    *problem = NULL;
    if (row->home == GLUE_REQUEST)
        return request_config;
    *problem = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    return glue_config_site(cmd->server);
}

static const char *set_word(cmd_parms *cmd, void *request_config, const char *word) {
    const char *problem;
    void *base = home_of(&problem, cmd, request_config);

    if (problem != NULL)
        return problem;
    problem = glue_value_parse(base, cmd->info, word, cmd->pool);
    return problem == NULL ? NULL : glue_value_complaint(cmd->cmd->name, word, problem, cmd->pool);
}

/* A list: each directive begins a new one, and one without words is an empty list. */
static const char *set_words(cmd_parms *cmd, void *request_config, const char *line) {
    apr_array_header_t *words = apr_array_make(cmd->pool, 4, sizeof(const char *));
    const glue_row_t *row = cmd->info;

    while (*line != '\0')
        APR_ARRAY_PUSH(words, const char *) = ap_getword_conf(cmd->pool, &line);
    *(const apr_array_header_t **)(void *)((char *)request_config + row->offset) = words;
    return NULL;
}

static const char *set_process_group(cmd_parms *cmd, void *request_config, const char *word) {
    const ap_directive_t *section = cmd->directive->parent;
    glue_mention_t *mention = apr_array_push(glue_config_site(cmd->server)->mentions);

    *mention = (glue_mention_t){.process_group = apr_pstrdup(cmd->pool, word),
                                .section = cmd->path ? (section ? section->directive : "") : NULL,
                                .path = cmd->path,
                                .where = glue_value_where(cmd),
                                .server = cmd->server};
    return set_word(cmd, request_config, word);
}

static const char *set_socket_prefix(cmd_parms *cmd, void *request_config, const char *word) {
    const char *path = ap_server_root_relative(cmd->pool, word);

    if (path == NULL)
        return glue_value_complaint(cmd->cmd->name, word, "is not a path", cmd->pool);
    return set_word(cmd, request_config, path);
}

static const char *ignore(cmd_parms *cmd, void *request_config, const char *line) {
    (void)request_config, (void)line;
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, cmd->server,
                 GLUE_ID(0101) "%s has no effect any more and can be removed (%s:%d): %s",
                 cmd->cmd->name, cmd->directive->filename, cmd->directive->line_num,
                 cmd->cmd->errmsg);
    return NULL;
}

#define ROW(type_, home_, struct_, field_, standard_)                                              \
    (void *)&(const glue_row_t) {                                                                  \
        .type = (type_), .home = (home_), .offset = offsetof(struct_, field_),                     \
        .standard = (standard_)                                                                    \
    }
#define FLAG(name, field, standard, where, help)                                                   \
    AP_INIT_TAKE1(name, set_word,                                                                  \
                  ROW(GLUE_FLAG, GLUE_REQUEST, glue_request_config_t, field, standard), where,     \
                  "On or Off: " help)
#define TEXT(name, field, setter, where, help)                                                     \
    AP_INIT_TAKE1(name, setter, ROW(GLUE_TEXT, GLUE_REQUEST, glue_request_config_t, field, 0),     \
                  where, help)
#define SITE(name, field, type, setter, help)                                                      \
    AP_INIT_TAKE1(name, setter, ROW(type, GLUE_SITE, glue_site_t, field, 0), RSRC_CONF, help)
#define OWN(name, setter, where, help) AP_INIT_RAW_ARGS(name, setter, NULL, where, help)
#define REMOVED(name, where, reason) AP_INIT_RAW_ARGS(name, ignore, NULL, where, reason)

const command_rec glue_config_directives[] = {
    OWN("WSGIScriptAlias", glue_alias_prefix_directive, RSRC_CONF,
        "Serve the URLs below a path by an application: URL-path file-or-folder [options]."),
    OWN("WSGIScriptAliasMatch", glue_alias_match_directive, RSRC_CONF,
        "The same with a regular expression, $1 replaced in the target."),
    OWN("WSGIDaemonProcess", glue_group_directive, RSRC_CONF,
        "Define a process group: name [options]."),
    OWN("WSGIImportScript", glue_group_import_directive, RSRC_CONF,
        "Load a script when a process starts: path process-group= application-group=."),
    TEXT("WSGIProcessGroup", process_group, set_process_group, SERVER_AND_SECTIONS,
         "Process group that serves requests here; %{GLOBAL}: httpd's own children."),
    TEXT("WSGIApplicationGroup", application_group, set_word, SERVER_AND_SECTIONS,
         "Application group (interpreter) that serves requests here; %{GLOBAL}: the main one."),
    TEXT("WSGICallableObject", callable, set_word, OR_FILEINFO,
         "Name of the application in its script."),
    AP_INIT_RAW_ARGS("WSGIRestrictProcess", set_words,
                     ROW(GLUE_LIST, GLUE_REQUEST, glue_request_config_t, restrict_process, 0),
                     SERVER_AND_SECTIONS, "Process groups that may serve requests here."),
    FLAG("WSGIScriptReloading", script_reloading, 1, OR_FILEINFO,
         "load a script again when it has changed."),
    FLAG("WSGIPassAuthorization", pass_authorization, 0, OR_FILEINFO,
         "pass the Authorization header to the application."),
    FLAG("WSGIChunkedRequest", chunked_request, 1, OR_FILEINFO,
         "accept requests with a chunked body."),
    FLAG("WSGIEnableSendfile", enable_sendfile, 0, OR_FILEINFO,
         "send files of wsgi.file_wrapper by sendfile."),
    SITE("WSGIPythonHome", python_home, GLUE_PATH, set_word,
         "Prefix or virtual environment of Python."),
    SITE("WSGIPythonPath", python_path, GLUE_TEXT, set_word,
         "Folders for sys.path in embedded mode, separated by colons."),
    SITE("WSGISocketPrefix", socket_prefix, GLUE_TEXT, set_socket_prefix,
         "Path before which the names of sockets are put together."),
    SITE("WSGIRestrictEmbedded", restrict_embedded, GLUE_FLAG, set_word,
         "On or Off: refuse to run applications in httpd's children."),
    SITE("WSGIPerInterpreterGIL", own_gil, GLUE_FLAG, set_word,
         "On or Off: each sub-interpreter has a GIL of its own (Python 3.12 and later)."),
    SITE("WSGIFreeThreading", free_threading, GLUE_FLAG, set_word,
         "On or Off: a free-threaded Python runs without its GIL."),
    OWN("<WSGIInterpreterOptions", glue_interpreter_directive, RSRC_CONF,
        "Settings of the interpreters of process-group= and application-group=."),
    REMOVED("WSGILazyInitialization", RSRC_CONF, "Python is never initialised in httpd's parent."),
    REMOVED("WSGISocketRotation", RSRC_CONF, "A socket belongs to one worker and is never reused."),
    REMOVED("WSGIAcceptMutex", RSRC_CONF, "Workers share no socket."),
    REMOVED("WSGIVerboseDebugging", RSRC_CONF, "Use LogLevel wsgi:debug."),
    REMOVED("WSGINewRelicConfigFile", RSRC_CONF, "Use New Relic's own start script."),
    REMOVED("WSGINewRelicEnvironment", RSRC_CONF, "Use New Relic's own start script."),
    REMOVED("WSGIUserAuthoritative", OR_AUTHCFG, "httpd's providers decide."),
    {.name = NULL},
};

/* The next row of the table that stands for a field of this struct; NULL at the end. */
static const glue_row_t *next_row(const command_rec **command, enum glue_value_home home) {
    for (; (*command)->name != NULL; ++*command) {
        const glue_row_t *row = (*command)->cmd_data;

        if (row != NULL && row->home == home) {
            ++*command;
            return row;
        }
    }
    return NULL;
}

void *glue_config_create_request(apr_pool_t *pool, char *dir) {
    glue_request_config_t *config = apr_pcalloc(pool, sizeof *config);
    const command_rec *command = glue_config_directives;

    (void)dir;
    for (const glue_row_t *row; (row = next_row(&command, GLUE_REQUEST)) != NULL;)
        glue_value_unset(config, row);
    return config;
}

void *glue_config_merge_request(apr_pool_t *pool, void *base, void *add) {
    glue_request_config_t *config = apr_pmemdup(pool, add, sizeof *config);
    const command_rec *command = glue_config_directives;

    for (const glue_row_t *row; (row = next_row(&command, GLUE_REQUEST)) != NULL;)
        if (glue_value_is_unset(add, row))
            glue_value_copy(config, base, row);
    return config;
}

void glue_config_request(glue_request_config_t *config, const request_rec *r) {
    const command_rec *command = glue_config_directives;

    *config = *(glue_request_config_t *)ap_get_module_config(r->per_dir_config, &wsgi_module);
    for (const glue_row_t *row; (row = next_row(&command, GLUE_REQUEST)) != NULL;)
        glue_value_default(config, row);
}

int glue_config_is_reloading(const server_rec *s) {
    const glue_request_config_t *config = ap_get_module_config(s->lookup_defaults, &wsgi_module);

    return config->script_reloading != 0;
}

/* The site is found by the configuration pool: while the file is read a virtual host has no way to
 * the main server's struct. */
static glue_site_t *site_of(apr_pool_t *pool) {
    static const char key[] = "mod_pyglue site";
    const command_rec *command = glue_config_directives;
    void *data = NULL;
    glue_site_t *site;

    apr_pool_userdata_get(&data, key, pool);
    if (data != NULL)
        return data;
    site = apr_pcalloc(pool, sizeof *site);
    for (const glue_row_t *row; (row = next_row(&command, GLUE_SITE)) != NULL;)
        glue_value_unset(site, row);
    site->blocks = apr_array_make(pool, 4, sizeof(void *));
    site->groups = apr_array_make(pool, 4, sizeof(glue_group_t *));
    site->scripts = apr_array_make(pool, 4, sizeof(glue_script_t));
    site->mentions = apr_array_make(pool, 4, sizeof(glue_mention_t));
    site->targets = apr_hash_make(pool);
    apr_pool_userdata_setn(site, key, NULL, pool);
    return site;
}

void *glue_config_create_server(apr_pool_t *pool, server_rec *s) {
    glue_server_config_t *config = apr_pcalloc(pool, sizeof *config);

    (void)s;
    config->site = site_of(pool);
    config->aliases = apr_array_make(pool, 4, sizeof(glue_alias_t *));
    return config;
}

void *glue_config_merge_server(apr_pool_t *pool, void *base, void *add) {
    glue_server_config_t *config = apr_pmemdup(pool, add, sizeof *config);
    const glue_server_config_t *outer = base, *inner = add;

    config->aliases = apr_array_append(pool, inner->aliases, outer->aliases);
    return config;
}

glue_server_config_t *glue_config_server(const server_rec *s) {
    return ap_get_module_config(s->module_config, &wsgi_module);
}

glue_site_t *glue_config_site(const server_rec *s) {
    return glue_config_server(s)->site;
}

void glue_config_finish(server_rec *s) {
    const command_rec *command = glue_config_directives;

    for (const glue_row_t *row; (row = next_row(&command, GLUE_SITE)) != NULL;)
        glue_value_default(glue_config_site(s), row);
}
