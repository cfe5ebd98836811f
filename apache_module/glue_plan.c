/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as JSON. A field of a group is a row of the table. */
#include "glue_plan.h"

#include <http_core.h>
#include <limits.h>
#include <unistd.h>
#include <unixd.h>

#include "glue_config.h"
#include "glue_group.h"
#include "glue_interpreter.h"
#include "glue_json.h"

#define GLUE_PLAN_MAX (16 << 20)                        /* MAX_BYTES of pyglue/supervisor/plan.py */
#define GLUE_PLAN_LONGEST apr_time_from_sec(1000000000) /* the most that checks.py takes */

extern char **environ;

/* httpd takes any Timeout, and waits for ever where it is negative: 31 years for the supervisor. */
static void put_seconds(glue_json_t *w, apr_interval_time_t time) {
    if (time < 0 || time > GLUE_PLAN_LONGEST)
        time = GLUE_PLAN_LONGEST;
    glue_json_format(w, "%ld.%06ld", (long)apr_time_sec(time), (long)apr_time_usec(time));
}

/* The fields of a group. */

enum kind { TEXT, PRESENT, BOOLEAN, INTEGER, NATURAL, SIGNED, WIDE, ID, DURATION, PERIOD };

/* PRESENT: as TEXT, but "" in place of null. NATURAL, WIDE, PERIOD: null when negative. */
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
    {"processes", INTEGER, APR_OFFSETOF(glue_group_t, processes.most)},
    {"processes_min", INTEGER, APR_OFFSETOF(glue_group_t, processes.least)},
    {"multiprocess", BOOLEAN, APR_OFFSETOF(glue_group_t, has_processes)},
    FIELD(INTEGER, threads),
    FIELD(INTEGER, interpreters),
    FIELD(BOOLEAN, own_gil),
    FIELD(BOOLEAN, free_threading),
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
    FIELD(WIDE, socket_uid),
    FIELD(WIDE, script_uid),
    FIELD(WIDE, script_gid),
    FIELD(BOOLEAN, pass_descriptors),
    FIELD(BOOLEAN, no_new_privs),
    FIELD(BOOLEAN, dumpable),
    FIELD(BOOLEAN, preload),
    FIELD(INTEGER, maximum_requests),
    FIELD(TEXT, python_eggs),
    FIELD(DURATION, cpu_time_limit),
    FIELD(SIGNED, cpu_priority),
    FIELD(WIDE, memory_limit),
    FIELD(WIDE, virtual_memory_limit),
    FIELD(INTEGER, process_limit),
    FIELD(INTEGER, stack_size),
    FIELD(TEXT, cgroup),
    FIELD(WIDE, memory_max),
    FIELD(INTEGER, cpu_max),
    FIELD(INTEGER, pids_max),
    FIELD(DURATION, startup_timeout),
    FIELD(DURATION, request_timeout),
    FIELD(DURATION, interrupt_timeout),
    FIELD(DURATION, deadlock_timeout),
    FIELD(DURATION, restart_interval),
    FIELD(WIDE, rss_limit),
    FIELD(DURATION, queue_timeout),
    FIELD(DURATION, launch_timeout),
    FIELD(DURATION, shutdown_timeout),
    FIELD(INTEGER, log_rate),
    FIELD(INTEGER, log_burst),
    FIELD(DURATION, inactivity_timeout),
    FIELD(BOOLEAN, strict_reload),
    FIELD(PERIOD, drain_timeout),
    FIELD(PERIOD, graceful_timeout),
    FIELD(PERIOD, eviction_timeout),
};

static void put_natural(glue_json_t *w, apr_int64_t value) {
    if (value < 0)
        glue_json_plain(w, "null");
    else
        glue_json_format(w, "%" APR_INT64_T_FMT, value);
}

static void put_period(glue_json_t *w, apr_interval_time_t time) {
    if (time < 0)
        glue_json_plain(w, "null");
    else
        put_seconds(w, time);
}

static void put_field(glue_json_t *w, const struct field *field, const glue_group_t *group) {
    const char *at = (const char *)group + field->offset;
    const char *text = field->kind <= PRESENT ? *(const char *const *)(const void *)at : NULL;
    int number =
        field->kind >= BOOLEAN && field->kind <= SIGNED ? *(const int *)(const void *)at : 0;

    glue_json_format(w, ",\n   \"%s\": ", field->name);
    switch (field->kind) {
    case TEXT:
        glue_json_text(w, text);
        break;
    case PRESENT:
        glue_json_text(w, text != NULL ? text : "");
        break;
    case BOOLEAN:
        glue_json_plain(w, number ? "true" : "false");
        break;
    case INTEGER:
        put_natural(w, number < 0 ? 0 : number);
        break;
    case NATURAL:
        put_natural(w, number);
        break;
    case SIGNED:
        glue_json_format(w, "%d", number);
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
    case PERIOD:
        put_period(w, *(const apr_interval_time_t *)(const void *)at);
        break;
    }
}

static void put_digest(glue_json_t *w, const uint8_t *digest) {
    for (int i = 0; i < PYGLUE_DIGEST_SIZE; i++)
        glue_json_format(w, "%02x", digest[i]);
}

static void put_ids(glue_json_t *w, const apr_array_header_t *ids) {
    for (int i = 0; ids != NULL && i < ids->nelts; i++)
        glue_json_format(w, "%s%lu", i ? ", " : "", (unsigned long)APR_ARRAY_IDX(ids, i, gid_t));
}

static void put_scripts(glue_json_t *w, const glue_group_t *group, const server_rec *s) {
    const apr_array_header_t *scripts = glue_scripts(s);
    const char *separator = "";

    for (int i = 0; i < scripts->nelts; i++) {
        const glue_script_t *script = &APR_ARRAY_IDX(scripts, i, glue_script_t);

        if (strcmp(script->process_group, group->name) != 0)
            continue;
        glue_json_format(w, "%s{\"script\": ", separator);
        glue_json_text(w, glue_group_path(group, script->path));
        glue_json_plain(w, ", \"application_group\": ");
        glue_json_text(w, script->application_group);
        glue_json_plain(w, ", \"callable\": ");
        glue_json_text(w, script->callable);
        glue_json_plain(w, ", \"reloading\": ");
        glue_json_plain(w, glue_config_is_reloading(script->server) ? "true" : "false");
        glue_json_plain(w, "}");
        separator = ", ";
    }
}

/* LogLevel of this module there; of the server where none is set for the module. */
static int log_level_of(const server_rec *s) {
    int level = ap_get_server_module_loglevel(s, APLOG_MODULE_INDEX);

    if (level < 0)
        return APLOG_WARNING;
    return level < APLOG_TRACE8 ? level : APLOG_TRACE8;
}

static void put_group(glue_json_t *w, const glue_group_t *group, int log) {
    static const char *const environs[] = {NULL, "clean", "inherit"};
    const server_rec *s = group->server;

    glue_json_format(w, "{\"log\": %d, \"log_level\": %d, \"digest\": \"", log, log_level_of(s));
    put_digest(w, group->digest);
    glue_json_plain(w, "\", \"server\": ");
    glue_json_text(w, s->server_hostname != NULL ? s->server_hostname : "");
    glue_json_plain(w, ", \"groups\": [");
    put_ids(w, group->groups);
    glue_json_plain(w, "], \"python_path\": ");
    glue_json_path(w, group->python_path);
    glue_json_plain(w, ", \"interpreter_options\": ");
    glue_interpreter_put(w, glue_config_site(s), group->name);
    glue_json_plain(w, ", \"environ\": ");
    glue_json_text(w, environs[group->environ_mode]);
    glue_json_plain(w, ", \"socket_timeout\": ");
    put_seconds(w, group->socket_timeout > 0 ? group->socket_timeout : s->timeout);
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++)
        put_field(w, &fields[i], group);
    glue_json_plain(w, ",\n   \"scripts\": [");
    put_scripts(w, group, s);
    glue_json_plain(w, "]}");
}

/* The whole. */

static int log_of(const server_rec *s) {
    apr_os_file_t fd;

    if (s->error_log != NULL && apr_os_file_get(&fd, s->error_log) == APR_SUCCESS)
        return fd;
    return STDERR_FILENO;
}

/* `ErrorLog syslog` has no descriptor: its name, or NULL. A virtual host may have the main one's.
 */
static const char *syslog_of(const server_rec *s, const server_rec *main_server) {
    const char *name = s->error_fname != NULL ? s->error_fname : main_server->error_fname;

    return s->error_log == NULL && name != NULL && strncasecmp(name, "syslog", 6) == 0 ? name
                                                                                       : NULL;
}

static int is_same(const char *one, const char *other) {
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

/* The position of this server's log among the plan's. */
static int list_log(glue_plan_t *plan, const server_rec *s, const server_rec *main_server) {
    const char *name = syslog_of(s, main_server);
    int fd = log_of(s);

    for (int i = 0; i < plan->logs->nelts; i++)
        if (APR_ARRAY_IDX(plan->logs, i, int) == fd &&
            is_same(APR_ARRAY_IDX(plan->syslogs, i, const char *), name))
            return i;
    APR_ARRAY_PUSH(plan->logs, int) = fd;
    APR_ARRAY_PUSH(plan->syslogs, const char *) = name;
    return plan->logs->nelts - 1;
}

static void put_logs(glue_json_t *w, const glue_plan_t *plan) {
    glue_json_format(w, ",\n \"logs\": %d, \"syslogs\": [", plan->logs->nelts);
    for (int i = 0; i < plan->syslogs->nelts; i++) {
        glue_json_plain(w, i ? ", " : "");
        glue_json_text(w, APR_ARRAY_IDX(plan->syslogs, i, const char *));
    }
    glue_json_plain(w, "]");
}

static void put_environ(glue_json_t *w) {
    for (char **at = environ; *at != NULL; at++) {
        if (at != environ)
            glue_json_plain(w, ", ");
        glue_json_text(w, *at);
    }
}

static void put_httpd(glue_json_t *w, server_rec *s) {
    int is_privileged = geteuid() == 0;
    const char *prefix = glue_config_site(s)->socket_prefix;

    glue_json_format(
        w,
        "\"httpd\": {\"pid\": %ld, \"uid\": %lu, \"gid\": %lu, \"privileged\": %s, \"timeout\": ",
        (long)getpid(), (unsigned long)(is_privileged ? ap_unixd_config.user_id : geteuid()),
        (unsigned long)(is_privileged ? ap_unixd_config.group_id : getegid()),
        is_privileged ? "true" : "false");
    put_seconds(w, s->timeout);
    glue_json_plain(w, ", \"socket_prefix\": ");
    glue_json_text(w, prefix != NULL ? prefix : ap_runtime_dir_relative(w->pool, "wsgi"));
    glue_json_format(w, ", \"request_max\": %u}", pyglue_bounds_default.request);
}

void glue_plan_make(glue_plan_t *plan, apr_uint64_t number, server_rec *s, apr_pool_t *pool) {
    const apr_array_header_t *groups = glue_groups(s);
    glue_json_t w = {.pool = pool};

    plan->logs = apr_array_make(pool, 4, sizeof(int));
    plan->syslogs = apr_array_make(pool, 4, sizeof(const char *));
    plan->longest = NULL;
    plan->longest_length = 0;
    list_log(plan, s, s);
    glue_json_format(&w, "{\"version\": 1, \"plan\": %" APR_UINT64_T_FMT ", \"module\": \"%s\",\n ",
                     number, GLUE_VERSION);
    put_httpd(&w, s);
    glue_json_plain(&w, ",\n \"environ\": [");
    put_environ(&w);
    glue_json_plain(&w, "],\n \"python_home\": ");
    glue_json_text(&w, glue_config_site(s)->python_home);
    glue_json_plain(&w, ",\n \"groups\": [");
    for (int i = 0; i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);
        apr_size_t before = w.length;

        glue_json_plain(&w, i ? ",\n  " : "");
        put_group(&w, group, list_log(plan, group->server, s));
        if (w.length - before > plan->longest_length) {
            plan->longest = group;
            plan->longest_length = w.length - before;
        }
    }
    glue_json_plain(&w, "]");
    put_logs(&w, plan);
    glue_json_plain(&w, "}\n");
    plan->text = w.text;
    plan->length = w.length;
}

const char *glue_plan_check_length(server_rec *s, apr_pool_t *pool) {
    glue_plan_t plan;

    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG ||
        glue_groups(s)->nelts == 0)
        return NULL;
    glue_plan_make(&plan, APR_UINT64_MAX, s, pool);
    if (plan.length <= GLUE_PLAN_MAX)
        return NULL;
    return apr_psprintf(pool,
                        "WSGIDaemonProcess: the plan of the process groups is %" APR_SIZE_T_FMT
                        " bytes long, and the supervisor takes at most %d. Longest is '%s' (%s) "
                        "with %" APR_SIZE_T_FMT " bytes: shorten its options, such as "
                        "python-path=, or give it fewer scripts by process-group= of "
                        "WSGIScriptAlias or WSGIImportScript; WSGIProcessGroup takes no room",
                        plan.length, GLUE_PLAN_MAX, plan.longest->name, plan.longest->where,
                        plan.longest_length);
}
