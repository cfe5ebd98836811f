/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as JSON. Texts are bytes written as latin-1 characters, so that any path
 * survives (docs/plan.md 3). A field of a group is a row of the table. */
#include "glue_plan.h"

#include <limits.h>
#include <stdarg.h>
#include <unistd.h>
#include <unixd.h>

#include "glue_config.h"
#include "glue_group.h"

extern char **environ;

/* A text that grows in a pool. */
typedef struct writer {
    char *text;
    apr_size_t length, room;
    apr_pool_t *pool;
} writer_t;

static void put(writer_t *w, const char *bytes, apr_size_t len) {
    if (w->length + len > w->room) {
        char *before = w->text;

        w->room = 2 * (w->length + len) + 4096;
        w->text = apr_palloc(w->pool, w->room);
        if (w->length > 0)
            memcpy(w->text, before, w->length);
    }
    memcpy(w->text + w->length, bytes, len);
    w->length += len;
}

static void put_plain(writer_t *w, const char *text) {
    put(w, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void put_format(writer_t *w, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    put_plain(w, apr_pvsprintf(w->pool, format, arguments));
    va_end(arguments);
}

static void put_escaped(writer_t *w, const char *text, apr_size_t len) {
    char escape[8];

    put(w, "\"", 1);
    for (apr_size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 32 && c < 127 && c != '"' && c != '\\') {
            put(w, text + i, 1);
            continue;
        }
        apr_snprintf(escape, sizeof escape, "\\u%04x", c);
        put(w, escape, 6);
    }
    put(w, "\"", 1);
}

static void put_text(writer_t *w, const char *text) {
    if (text == NULL)
        put_plain(w, "null");
    else
        put_escaped(w, text, strlen(text));
}

static void put_seconds(writer_t *w, apr_interval_time_t time) {
    put_format(w, "%ld.%06ld", (long)apr_time_sec(time), (long)apr_time_usec(time));
}

/* --- The fields of a group ----------------------------------------------------------------------
 */

enum kind { TEXT, PRESENT, BOOLEAN, INTEGER, NATURAL, WIDE, ID, DURATION };

/* PRESENT: as TEXT, but "" in place of null. NATURAL, WIDE: null when negative. */
#define FIELD(kind, member)                                                                        \
    { #member, kind, APR_OFFSETOF(glue_group_t, member) }
static const struct field {
    const char *name;
    enum kind kind;
    apr_size_t offset;
} fields[] = {
    FIELD(TEXT, name),
    FIELD(PRESENT, user),
    FIELD(ID, uid),
    FIELD(ID, gid),
    FIELD(PRESENT, user_home),
    FIELD(INTEGER, processes),
    {"multiprocess", BOOLEAN, APR_OFFSETOF(glue_group_t, has_processes)},
    FIELD(INTEGER, threads),
    FIELD(NATURAL, umask),
    FIELD(TEXT, home),
    FIELD(TEXT, chroot),
    FIELD(TEXT, python_home),
    FIELD(TEXT, python),
    FIELD(TEXT, lang),
    FIELD(TEXT, locale),
    FIELD(TEXT, display_name),
    FIELD(INTEGER, send_buffer_size),
    FIELD(INTEGER, receive_buffer_size),
    FIELD(INTEGER, listen_backlog),
    FIELD(WIDE, script_uid),
    FIELD(WIDE, script_gid),
    FIELD(BOOLEAN, pass_descriptors),
    FIELD(BOOLEAN, no_new_privs),
    FIELD(BOOLEAN, dumpable),
    FIELD(INTEGER, maximum_requests),
    FIELD(DURATION, startup_timeout),
    FIELD(DURATION, launch_timeout),
    FIELD(DURATION, shutdown_timeout),
};

static void put_natural(writer_t *w, apr_int64_t value) {
    if (value < 0)
        put_plain(w, "null");
    else
        put_format(w, "%" APR_INT64_T_FMT, value);
}

static void put_field(writer_t *w, const struct field *field, const glue_group_t *group) {
    const char *at = (const char *)group + field->offset;
    const char *text = field->kind <= PRESENT ? *(const char *const *)(const void *)at : NULL;
    int number = field->kind == BOOLEAN || field->kind == INTEGER || field->kind == NATURAL
                     ? *(const int *)(const void *)at
                     : 0;

    put_format(w, ",\n   \"%s\": ", field->name);
    switch (field->kind) {
    case TEXT:
        put_text(w, text);
        break;
    case PRESENT:
        put_text(w, text != NULL ? text : "");
        break;
    case BOOLEAN:
        put_plain(w, number ? "true" : "false");
        break;
    case INTEGER:
        put_natural(w, number < 0 ? 0 : number);
        break;
    case NATURAL:
        put_natural(w, number);
        break;
    case WIDE:
        put_natural(w, *(const apr_int64_t *)(const void *)at);
        break;
    case ID:
        put_natural(w, *(const uid_t *)(const void *)at);
        break;
    case DURATION:
        put_seconds(w, *(const apr_interval_time_t *)(const void *)at);
        break;
    }
}

static void put_digest(writer_t *w, const uint8_t *digest) {
    for (int i = 0; i < PYGLUE_DIGEST_SIZE; i++)
        put_format(w, "%02x", digest[i]);
}

static void put_ids(writer_t *w, const apr_array_header_t *ids) {
    for (int i = 0; ids != NULL && i < ids->nelts; i++)
        put_format(w, "%s%lu", i ? ", " : "", (unsigned long)APR_ARRAY_IDX(ids, i, gid_t));
}

/* As in PATH: folders apart by colons. */
static void put_path(writer_t *w, const char *path) {
    const char *separator = "";

    while (path != NULL && *path != '\0') {
        apr_size_t len = strcspn(path, ":");

        if (len > 0) {
            put_plain(w, separator);
            put_escaped(w, path, len);
            separator = ", ";
        }
        path += path[len] == ':' ? len + 1 : len;
    }
}

static void put_scripts(writer_t *w, const glue_group_t *group, const server_rec *s) {
    const apr_array_header_t *scripts = glue_scripts(s);
    const char *separator = "";

    for (int i = 0; i < scripts->nelts; i++) {
        const glue_script_t *script = &APR_ARRAY_IDX(scripts, i, glue_script_t);

        if (strcmp(script->process_group, group->name) != 0)
            continue;
        put_format(w, "%s{\"script\": ", separator);
        put_text(w, script->path);
        put_plain(w, ", \"application_group\": ");
        put_text(w, script->application_group);
        put_plain(w, ", \"callable\": ");
        put_text(w, script->callable);
        put_plain(w, "}");
        separator = ", ";
    }
}

static void put_group(writer_t *w, const glue_group_t *group, int log) {
    static const char *const environs[] = {NULL, "clean", "inherit"};
    const server_rec *s = group->server;

    put_format(w, "{\"log\": %d, \"log_level\": %d, \"digest\": \"", log,
               s->log.level < 0    ? APLOG_WARNING
               : s->log.level > 15 ? 15
                                   : s->log.level);
    put_digest(w, group->digest);
    put_plain(w, "\", \"server\": ");
    put_text(w, s->server_hostname != NULL ? s->server_hostname : "");
    put_plain(w, ", \"groups\": [");
    put_ids(w, group->groups);
    put_plain(w, "], \"python_path\": [");
    put_path(w, group->python_path);
    put_plain(w, "], \"environ\": ");
    put_text(w, environs[group->environ_mode]);
    put_plain(w, ", \"socket_timeout\": ");
    put_seconds(w, group->socket_timeout > 0 ? group->socket_timeout : s->timeout);
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++)
        put_field(w, &fields[i], group);
    put_plain(w, ",\n   \"scripts\": [");
    put_scripts(w, group, s);
    put_plain(w, "]}");
}

/* --- The whole ----------------------------------------------------------------------------------
 */

static int log_of(const server_rec *s) {
    apr_os_file_t fd;

    if (s->error_log != NULL && apr_os_file_get(&fd, s->error_log) == APR_SUCCESS)
        return fd;
    return STDERR_FILENO;
}

/* The position of this server's log among the plan's. */
static int list_log(apr_array_header_t *logs, const server_rec *s) {
    int fd = log_of(s);

    for (int i = 0; i < logs->nelts; i++)
        if (APR_ARRAY_IDX(logs, i, int) == fd)
            return i;
    APR_ARRAY_PUSH(logs, int) = fd;
    return logs->nelts - 1;
}

static void put_environ(writer_t *w) {
    for (char **at = environ; *at != NULL; at++) {
        if (at != environ)
            put_plain(w, ", ");
        put_text(w, *at);
    }
}

static void put_httpd(writer_t *w, server_rec *s) {
    int is_privileged = geteuid() == 0;
    const char *prefix = glue_config_site(s)->socket_prefix;

    put_format(
        w,
        "\"httpd\": {\"pid\": %ld, \"uid\": %lu, \"gid\": %lu, \"privileged\": %s, \"timeout\": ",
        (long)getpid(), (unsigned long)(is_privileged ? ap_unixd_config.user_id : geteuid()),
        (unsigned long)(is_privileged ? ap_unixd_config.group_id : getegid()),
        is_privileged ? "true" : "false");
    put_seconds(w, s->timeout);
    put_plain(w, ", \"socket_prefix\": ");
    put_text(w, prefix != NULL ? prefix : ap_runtime_dir_relative(w->pool, "wsgi"));
    put_format(w, ", \"request_max\": %u}", pyglue_bounds_default.request);
}

void glue_plan_make(glue_plan_t *plan, apr_uint64_t number, server_rec *s, apr_pool_t *pool) {
    const apr_array_header_t *groups = glue_groups(s);
    writer_t w = {.pool = pool};

    plan->logs = apr_array_make(pool, 4, sizeof(int));
    list_log(plan->logs, s);
    put_format(&w, "{\"version\": 1, \"plan\": %" APR_UINT64_T_FMT ", \"module\": \"%s\",\n ",
               number, GLUE_VERSION);
    put_httpd(&w, s);
    put_plain(&w, ",\n \"environ\": [");
    put_environ(&w);
    put_plain(&w, "],\n \"python_home\": ");
    put_text(&w, glue_config_site(s)->python_home);
    put_plain(&w, ",\n \"groups\": [");
    for (int i = 0; i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);

        put_plain(&w, i ? ",\n  " : "");
        put_group(&w, group, list_log(plan->logs, group->server));
    }
    put_format(&w, "],\n \"logs\": %d}\n", plan->logs->nelts);
    plan->text = w.text;
    plan->length = w.length;
}
