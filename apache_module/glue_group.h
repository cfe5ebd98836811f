/* SPDX-License-Identifier: Apache-2.0 */
/* Process groups: WSGIDaemonProcess and its options. Written while httpd reads its configuration,
 * frozen from the end of post_config on. */
#ifndef GLUE_GROUP_H
#define GLUE_GROUP_H

#include "glue.h"
#include "glue_value.h"
#include "placement.h"

/* A script known from the configuration: what a worker loads before it is ready. */
typedef struct glue_script {
    const char *path;
    const char *process_group;     /* "" : embedded */
    const char *application_group; /* "" : main interpreter */
    const char *callable;          /* NULL: executed only (WSGIImportScript) */
    server_rec *server;            /* where it was configured */
} glue_script_t;

#define GLUE_REQUEST_BUFFERING 65536 /* default of request-buffering */

struct glue_group {
    const char *name;
    server_rec *server;                 /* where it is defined: who may use it, and its error log */
    const char *where;                  /* "file:line" of the definition, for messages */
    int position;                       /* in glue_groups() */
    uint8_t digest[PYGLUE_DIGEST_SIZE]; /* identity, docs/plan.md; set in check_config */
    /* identity; NULL or -1: httpd's own */
    const char *user;
    uid_t uid;
    gid_t gid;
    apr_array_header_t *groups; /* of gid_t, resolved */
    const char *user_home;      /* of the user, from passwd; NULL: unknown */
    const char *home, *chroot;
    const char *python_home, *python, *python_path;
    const char *display_name, *lang, *locale, *python_eggs;
    int environ_mode; /* GLUE_ENVIRON_* */
    glue_range_t processes;
    int has_processes; /* `processes=` was written */
    int threads;
    int interpreters;            /* that each application group is spread over, in each process */
    int own_gil, free_threading; /* the site's; set in check_config */
    int umask;                   /* -1: inherited */
    int listen_backlog;
    int send_buffer_size, receive_buffer_size, header_buffer_size; /* bytes, 0: default */
    int response_spool;    /* bytes of a response that are read ahead of its client */
    int request_buffering; /* bytes of an upload that are read before a worker is asked */
    int pass_descriptors, no_new_privs, dumpable, preload;
    int strict_reload; /* `reload=strict` */
    int maximum_requests;
    int response_buffer_size;                        /* bytes, 0: default */
    int child_threads;                               /* percent of a child's */
    int interim_responses;                           /* of a request */
    int response_header_size, response_header_count; /* 0: by header-buffer-size too; fields */
    int log_rate, log_burst, log_request_size;       /* lines a second, lines, bytes */
    apr_int64_t socket_uid;             /* owner of the sockets; -1: httpd's children */
    apr_int64_t script_uid, script_gid; /* -1: not asked for */
    apr_interval_time_t drain_timeout, graceful_timeout, eviction_timeout; /* -1: not written */
    apr_interval_time_t inactivity_timeout;                                /* 0: off */
    int cpu_priority;                                                      /* nice, 0: as httpd */
    int process_limit; /* of the user; 0: none */
    int stack_size;    /* of a thread that runs requests; bytes, 0: the system's */
    apr_int64_t memory_limit, virtual_memory_limit, rss_limit; /* bytes; 0: none */
    apr_interval_time_t cpu_time_limit;                        /* µs of CPU time; 0: none */
    apr_interval_time_t request_timeout, interrupt_timeout, deadlock_timeout, restart_interval;
    const char *cgroup;     /* NULL: none, or httpd's own if there are bounds */
    int cpu_max, pids_max;  /* of the group; percent, tasks; 0: none */
    apr_int64_t memory_max; /* of the group; bytes, 0: none */
    apr_interval_time_t startup_timeout, launch_timeout, shutdown_timeout, socket_timeout,
        queue_timeout, connect_timeout, response_socket_timeout, response_flush_delay,
        response_timeout;   /* µs; 0: off, or httpd's Timeout where the manual says so */
    pyglue_bounds_t bounds; /* on what its workers send */
};

enum glue_environ { GLUE_ENVIRON_DEFAULT, GLUE_ENVIRON_CLEAN, GLUE_ENVIRON_INHERIT };

/* Setters of WSGIDaemonProcess and WSGIImportScript. */
const char *glue_group_directive(cmd_parms *cmd, void *unused, const char *line);
const char *glue_group_import_directive(cmd_parms *cmd, void *unused, const char *line);

/* Adds a script to load when processes start. NULL, or why its process group cannot be used from
 * this server. Configuration time. */
const char *glue_group_add_script(cmd_parms *cmd, const glue_script_t *script);

/* Hook check_config's part: users, groups and defaults become numbers. Nothing here looks below a
 * tenant's folder. NULL, or what makes the whole configuration unusable. */
const char *glue_group_resolve(server_rec *main_server, apr_pool_t *pconf);

/* What the children of httpd are in embedded mode, as a group without a name and options. */
glue_group_t *glue_group_of_children(server_rec *main_server, apr_pool_t *pool);

/* May a request to this server be served by the group? (Defined in the main server, in this one,
 * or in one of the same ServerName.) */
int glue_group_is_open_to(const glue_group_t *group, const server_rec *s);

/* The path by which the workers of a group know a file: within its chroot, if it lies there. What
 * does not must have the same path on both sides. group may be NULL. */
const char *glue_group_path(const glue_group_t *group, const char *path);

/* All groups of the server, in the order of the file; never NULL. s may be any server. */
const apr_array_header_t *glue_groups(const server_rec *s); /* of glue_group_t * */
/* Import scripts and preloading aliases, in order: of glue_script_t. */
const apr_array_header_t *glue_scripts(const server_rec *s);
/* NULL: no group of that name. */
const glue_group_t *glue_group_find(const server_rec *s, const char *name);

#endif
