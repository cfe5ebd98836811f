/* SPDX-License-Identifier: Apache-2.0 */
/* One row for each option of WSGIDaemonProcess; docs/reference/daemon-options.md has the prose.
 * What is accepted here pyglue/supervisor/plan.py accepts too.
 * Knows the types of glue_value.c; what a group is made of its words is glue_group.c's. */
#include "glue_options.h"

#include <limits.h>

#include "record.h"
#include "snapshot.h"

#define GLUE_INTERPRETERS_MAX 256

#define SECONDS(n) ((apr_int64_t)(n)*APR_USEC_PER_SEC)
#define DAYS(n) (SECONDS(86400) * (n))
#define TERABYTE ((apr_int64_t)1 << 40)

static const char *const reload_words[] = {"rolling", "strict", NULL};
static const char *const environ_words[] = {"default", "clean", "inherit", NULL};

#define OPTION(name_, field_, ...)                                                                 \
    {                                                                                              \
        (name_), {                                                                                 \
            .home = GLUE_OPTION, .offset = offsetof(glue_definition_t, field_), .also = -1,        \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define FLAG(name, field, on) OPTION(name, field, .type = GLUE_FLAG, .standard = (on))
#define INTEGER(name, field, default_, from, to)                                                   \
    OPTION(name, field, .type = GLUE_INTEGER, .standard = (default_), .least = (from), .most = (to))
#define DURATION(name, field, default_)                                                            \
    OPTION(name, field, .type = GLUE_DURATION, .standard = (default_), .most = DAYS(366))
/* A size of 0 leaves it to the system, or to us. */
#define BUFFER(name, field, from)                                                                  \
    {                                                                                              \
        (name), {                                                                                  \
            .home = GLUE_OPTION, .offset = offsetof(glue_definition_t, field), .type = GLUE_SIZE,  \
            .least = (from), .most = INT_MAX                                                       \
        }                                                                                          \
    }

#define SIZE(name, field, default_, to)                                                            \
    OPTION(name, field, .type = GLUE_SIZE, .standard = (default_), .most = (to))

static const struct option {
    const char *name;
    glue_row_t row;
} options[] = {
    OPTION("user", user, .type = GLUE_NAME),
    OPTION("group", group_name, .type = GLUE_NAME),
    OPTION("processes", group.processes, .type = GLUE_RANGE, .standard = 1, .least = 0,
           .most = PYGLUE_WORKER_SLOTS / 2),
    INTEGER("threads", group.threads, 15, 1, PYGLUE_RECORD_SLOTS - 1),
    INTEGER("interpreters", group.interpreters, 1, 1, GLUE_INTERPRETERS_MAX),
    OPTION("supplementary-groups", supplementary_groups, .type = GLUE_TEXT),
    OPTION("umask", group.umask, .type = GLUE_OCTAL, .standard = -1, .most = 0777),
    OPTION("chroot", group.chroot, .type = GLUE_PATH),
    OPTION("home", group.home, .type = GLUE_PATH),
    OPTION("python-home", group.python_home, .type = GLUE_PATH),
    OPTION("python", group.python, .type = GLUE_PATH),
    OPTION("python-path", group.python_path, .type = GLUE_TEXT),
    OPTION("display-name", group.display_name, .type = GLUE_TEXT),
    OPTION("lang", group.lang, .type = GLUE_TEXT),
    OPTION("locale", group.locale, .type = GLUE_TEXT),
    OPTION("environ", group.environ_mode, .type = GLUE_CHOICE, .standard = GLUE_ENVIRON_DEFAULT,
           .allowed = environ_words),
    BUFFER("send-buffer-size", group.send_buffer_size, 512),
    BUFFER("receive-buffer-size", group.receive_buffer_size, 512),
    BUFFER("header-buffer-size", group.header_buffer_size, 8192),
    SIZE("response-spool", group.response_spool, 16 << 20, 1 << 30),
    SIZE("request-buffering", group.request_buffering, GLUE_REQUEST_BUFFERING, 1 << 30),
    INTEGER("listen-backlog", group.listen_backlog, 100, 0, 65535),
    OPTION("socket-user", socket_user, .type = GLUE_NAME),
    OPTION("script-user", script_user, .type = GLUE_NAME),
    OPTION("script-group", script_group, .type = GLUE_NAME),
    FLAG("pass-descriptors", group.pass_descriptors, 0),
    FLAG("no-new-privs", group.no_new_privs, 1),
    FLAG("dumpable", group.dumpable, 1),
    FLAG("preload", group.preload, 0),
    OPTION("python-eggs", group.python_eggs, .type = GLUE_TEXT),
    DURATION("cpu-time-limit", group.cpu_time_limit, 0),
    INTEGER("cpu-priority", group.cpu_priority, 0, -20, 19),
    OPTION("memory-limit", group.memory_limit, .type = GLUE_LONG, .most = TERABYTE),
    OPTION("virtual-memory-limit", group.virtual_memory_limit, .type = GLUE_LONG, .most = TERABYTE),
    INTEGER("process-limit", group.process_limit, 0, 0, INT_MAX),
    OPTION("cgroup", group.cgroup, .type = GLUE_NAME),
    OPTION("memory-max", group.memory_max, .type = GLUE_LONG, .most = TERABYTE),
    OPTION("cpu-max", group.cpu_max, .type = GLUE_PERCENT, .most = 100000),
    INTEGER("pids-max", group.pids_max, 0, 0, INT_MAX),
    BUFFER("stack-size", group.stack_size, 131072),
    INTEGER("maximum-requests", group.maximum_requests, 0, 0, INT_MAX),
    DURATION("startup-timeout", group.startup_timeout, 0),
    DURATION("request-timeout", group.request_timeout, 0),
    DURATION("interrupt-timeout", group.interrupt_timeout, 0),
    DURATION("deadlock-timeout", group.deadlock_timeout, SECONDS(300)),
    DURATION("restart-interval", group.restart_interval, 0),
    OPTION("rss-limit", group.rss_limit, .type = GLUE_LONG, .most = TERABYTE),
    DURATION("launch-timeout", group.launch_timeout, SECONDS(30)),
    DURATION("shutdown-timeout", group.shutdown_timeout, SECONDS(5)),
    OPTION("reload", group.strict_reload, .type = GLUE_CHOICE, .allowed = reload_words),
    DURATION("inactivity-timeout", group.inactivity_timeout, GLUE_UNSET),
    DURATION("drain-timeout", group.drain_timeout, GLUE_UNSET),
    DURATION("graceful-timeout", group.graceful_timeout, GLUE_UNSET),
    DURATION("eviction-timeout", group.eviction_timeout, GLUE_UNSET),
    DURATION("socket-timeout", group.socket_timeout, 0),
    INTEGER("child-threads", group.child_threads, 75, 1, 100),
    DURATION("queue-timeout", group.queue_timeout, 0),
    DURATION("connect-timeout", group.connect_timeout, SECONDS(15)),
    DURATION("response-timeout", group.response_timeout, 0),
    DURATION("response-socket-timeout", group.response_socket_timeout, 0),
    OPTION("response-flush-delay", group.response_flush_delay, .type = GLUE_DELAY, .standard = 5000,
           .most = SECONDS(60)),
    BUFFER("response-buffer-size", group.response_buffer_size, 65536),
    BUFFER("response-header-size", group.response_header_size, 8192),
    INTEGER("response-header-count", group.response_header_count, 500, 1, 10000),
    INTEGER("interim-responses", group.interim_responses, 0, 0, PYGLUE_INTERIMS_MAX),
    INTEGER("log-rate", group.log_rate, 200, 1, 100000),
    INTEGER("log-burst", group.log_burst, 2000, 1, 1000000),
    OPTION("log-request-size", group.log_request_size, .type = GLUE_SIZE, .standard = 1 << 20,
           .least = 1024, .most = INT_MAX),
};

#define OPTION_COUNT (sizeof options / sizeof options[0])

static const struct option *find(const char *name) {
    for (unsigned i = 0; i < OPTION_COUNT; i++)
        if (strcmp(name, options[i].name) == 0)
            return &options[i];
    return NULL;
}

void glue_options_unset(glue_definition_t *definition) {
    for (unsigned i = 0; i < OPTION_COUNT; i++)
        glue_value_unset(definition, &options[i].row);
}

void glue_options_default(glue_definition_t *definition) {
    for (unsigned i = 0; i < OPTION_COUNT; i++)
        glue_value_default(definition, &options[i].row);
}

/* What is allowed, as the end of a sentence. */
static const char *list_names(apr_pool_t *pool) {
    const char *list = "is no option of a process group; these are: ";

    for (unsigned i = 0; i < OPTION_COUNT; i++)
        list = apr_pstrcat(pool, list, i > 0 ? ", " : "", options[i].name, NULL);
    return list;
}

const char *glue_options_parse(glue_definition_t *definition, const char *subject, const char *line,
                               apr_pool_t *pool) {
    const char *name, *value, *problem;
    const struct option *option;
    int more;

    while ((more = glue_value_option(&name, &value, &line, pool)) > 0) {
        option = find(name);
        if (option == NULL)
            return glue_value_complaint(subject, name, list_names(pool), pool);
        problem = glue_value_parse(definition, &option->row, value, pool);
        if (problem != NULL)
            return glue_value_complaint(apr_pstrcat(pool, subject, " ", name, "=", NULL), value,
                                        problem, pool);
    }
    return more == 0 ? NULL
                     : glue_value_complaint(subject, name, "is not of the form name=value", pool);
}
