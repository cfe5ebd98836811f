/* SPDX-License-Identifier: Apache-2.0 */
/* httpd's parent and the supervisor: start, plans, children by plan, revival, end. Down:
 * glue_memories.c, which makes what they share, glue_launch.c and glue_channel.c.
 *
 * The module is unmapped and mapped again at each restart, so what lasts is plain data in httpd's
 * retained memory: numbers, descriptors, mappings; no pointer to a function or static of ours. */
#include "glue_supervisor.h"

#include <http_core.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "glue_channel.h"
#include "glue_clock.h"
#include "glue_group.h"
#include "glue_launch.h"
#include "glue_log.h"
#include "glue_memories.h"
#include "glue_placement.h"
#include "glue_plan.h"

#define KEY "mod_pyglue-supervisor-1"
#define HUNG_AFTER_MS 15000  /* without a heartbeat */
#define START_AFTER_MS 60000 /* without its first one: a machine may be slow at starts */
#define BACKOFF_MAX 60
/* Beyond the longest shutdown-timeout: at the most two seconds each for workers that cannot be
 * reaped, for the sweep and for cgroups, and one for the last lines of the log. */
#define STOP_MARGIN apr_time_from_sec(8)
#define KILL_WAIT                                                                                  \
    apr_time_from_sec(2) /* SIGKILL ends no system call that waits for a file system */

enum { VERSION_SIZE = 32 };

/* Retained: plain data only. Another version of this module, loaded at a graceful restart, finds
 * what this one left: nothing in here moves, and new members stand at the end. */
typedef struct state {
    uint32_t size;            /* of what its maker knew of it */
    glue_memories_t memories; /* none: no group was ever configured */
    uint64_t epoch, plan;
    uid_t owner;       /* of parent and supervisor */
    apr_proc_t proc;   /* pid 0: none runs */
    int is_registered; /* with httpd, as an other child: it must be there to be unregistered */
    int channel;       /* our end of the socket pair; -1 */
    uint64_t started_ms;
    unsigned failures;    /* starts in a row that did not last */
    uint64_t start_at_ms; /* back-off: not before */
    int plan_fd;          /* the latest plan, sealed; -1 */
    int sent_logs;        /* of it: -1: the plan itself was not sent yet */
    int has_heirs;        /* one died before its time: its workers, or their sockets, may be left */
    int is_restarting;    /* the end of pconf is a hard restart's or a stop's */
    apr_interval_time_t stop_wait; /* the longest shutdown-timeout of all plans since the start */
    char version[VERSION_SIZE];    /* of the module that started the supervisor */
    pid_t elder;   /* a supervisor that serves older children by memories of another layout; 0 */
    int is_killed; /* the one that runs, because it hung, and it has not ended yet */
} state_t;

static state_t *here;                  /* the retained one */
static const apr_array_header_t *logs; /* of the latest plan; pconf. NULL: there is none */
static server_rec *main_server;        /* pconf */

static void complain(int error, const char *what) {
    ap_log_error(APLOG_MARK, APLOG_CRIT, error, main_server, GLUE_ID(0601) "%s", what);
}

/* Starting. */

static void on_death(int reason, void *data, int status);

static void watch(void) {
    if (here->proc.pid == 0 || here->is_registered)
        return;
    apr_proc_other_child_register(&here->proc, on_death, here, NULL, main_server->process->pool);
    here->is_registered = 1;
}

/* httpd crashes when told to forget what it does not know (HTTPD 1). */
static void unwatch(void) {
    if (here->is_registered) {
        here->is_registered = 0;
        apr_proc_other_child_unregister(here);
    }
}

static int log_descriptor(void) {
    return logs != NULL && logs->nelts > 0 ? APR_ARRAY_IDX(logs, 0, int) : STDERR_FILENO;
}

static void back_off(void) {
    unsigned seconds = here->failures < 6 ? 1u << here->failures : BACKOFF_MAX;

    here->failures++;
    here->start_at_ms = glue_clock_now_ms() + 1000u * seconds;
}

/* It did not come to life: requests that would need it fail at once, and it is tried again. */
static void be_helpless(void) {
    pyglue_rows_put_parent(here->memories.rows, PYGLUE_PARENT_HELPLESS);
    back_off();
}

/* A failure is tried again by the monitor; it is never one of httpd. */
static void start(apr_pool_t *pool) {
    int pages = glue_memories_open_pages(&here->memories), error = PYGLUE_E_IO;

    here->epoch++;
    if (pages < 0)
        complain(errno, "the memory of pages could not be opened for the supervisor");
    else
        error = glue_launch(&here->proc.pid, &here->channel, main_server,
                            &(glue_launch_t){.epoch = here->epoch,
                                             .log = log_descriptor(),
                                             .pages = pages,
                                             .rows = here->memories.rows_fd},
                            pool);
    if (pages >= 0)
        close(pages);
    if (error != 0) {
        be_helpless();
        return;
    }
    apr_cpystrn(here->version, GLUE_VERSION, sizeof here->version);
    here->started_ms = glue_clock_now_ms();
    here->sent_logs = -1;
    here->is_killed = 0;
    watch();
}

/* Plans. */

/* What is not sent yet of the latest plan. When the socket is full the monitor tries again. */
static void send_plan(void) {
    int error;

    if (here->proc.pid == 0 || here->plan_fd < 0 || logs == NULL)
        return;
    error = glue_channel_send_plan(here->channel, &here->sent_logs,
                                   &(glue_outgoing_t){here->plan, here->plan_fd, logs});
    if (error != 0 && error != EAGAIN && error != EPIPE && error != ECONNRESET)
        complain(error, "the plan could not be sent to the supervisor; it is tried again");
}

static void make_plan(apr_pool_t *pconf) {
    glue_plan_t plan;

    here->plan++;
    glue_plan_make(&plan, here->plan, main_server, pconf);
    logs = plan.logs;
    if (here->plan_fd >= 0)
        close(here->plan_fd);
    here->sent_logs = -1;
    if (glue_channel_seal(&here->plan_fd, plan.text, plan.length) != 0)
        complain(errno, "the plan of the process groups could not be written");
}

/* The supervisor's end. */

static void forget(void) {
    here->proc.pid = 0;
    if (here->channel >= 0)
        close(here->channel);
    here->channel = -1;
}

/* Has the running one, or the one that just ended, ever worked? */
static int has_lived(void) {
    return pyglue_pages_heartbeat(here->memories.pages) > here->started_ms;
}

static void judge_death(int status) {
    /* httpd hands on a signal or a status, and does not say which. Signals 1 and 2 it ignores, and
     * Python ends with status 1 or 2 by itself; 126 and 127 are glue_launch.c's. */
    const char *how = status > 2 && status < NSIG ? "by signal" : "with status";

    if (glue_clock_now_ms() - here->started_ms > 60000)
        here->failures = 0;
    if (has_lived()) {
        here->has_heirs = 1;
        ap_log_error(
            APLOG_MARK, APLOG_ERR, 0, main_server,
            GLUE_ID(0603) "the supervisor of process groups (pid %ld) ended, %s %d; workers serve "
                          "on, and a new one is started",
            (long)here->proc.pid, how, status);
        back_off();
        return;
    }
    ap_log_error(APLOG_MARK, APLOG_CRIT, 0, main_server,
                 GLUE_ID(0604) "the supervisor of process groups (pid %ld) could not begin its "
                               "work, it ended %s %d; process groups without workers answer with "
                               "500 until it can. 126 and 127: its Python cannot be executed; "
                               "otherwise the reason stands above",
                 (long)here->proc.pid, how, status);
    be_helpless();
}

/* 1; 0: it has not ended within that time. */
static int is_reaped(pid_t pid, int *status, apr_interval_time_t within) {
    apr_time_t deadline = glue_clock_now() + within;

    while (waitpid(pid, status, WNOHANG) == 0) {
        if (glue_clock_now() > deadline)
            return 0;
        apr_sleep(10000);
    }
    return 1;
}

/* httpd does not wait for one that cannot end. */
static void kill_and_reap(pid_t pid) {
    int status;

    kill(pid, SIGKILL);
    if (!is_reaped(pid, &status, KILL_WAIT))
        complain(0, "the supervisor cannot be ended, the kernel keeps it in a system call: it is "
                    "left behind");
}

/* A stop or a hard restart: workers end beside httpd's children, whose requests end with them. */
static void tell_end(void) {
    /* One that is not taken is sent again by stop(). */
    if (!here->is_restarting && here->proc.pid != 0)
        glue_channel_send_stop(here->channel, GLUE_STOP_RESTART, here->plan);
    here->is_restarting = 1;
    pyglue_rows_put_parent(here->memories.rows, PYGLUE_PARENT_ENDING);
}

static void start_now(void) {
    apr_pool_t *scratch;

    if (apr_pool_create(&scratch, main_server->process->pool) != APR_SUCCESS)
        return;
    start(scratch);
    send_plan();
    apr_pool_destroy(scratch);
}

static int is_ending(void) {
    int state = AP_MPMQ_RUNNING;

    ap_mpm_query(AP_MPMQ_MPM_STATE, &state);
    return here->is_restarting || state == AP_MPMQ_STOPPING ||
           pyglue_rows_parent(here->memories.rows) == PYGLUE_PARENT_ENDING;
}

/* Runs in the parent, from httpd's own reaping. RESTART: also a stop; children are about to be
 * told, or were already (HTTPD 1). */
static void on_death(int reason, void *data, int status) {
    (void)data;
    if (reason == APR_OC_REASON_RESTART) {
        tell_end();
        return;
    }
    if (reason != APR_OC_REASON_DEATH && reason != APR_OC_REASON_LOST)
        return;
    unwatch();
    if (here->proc.pid == 0)
        return;
    /* Told so; or httpd ends or restarts, and whoever stops all it is made of came here first. What
     * follows, post_config or the end of the configuration, finds none and starts one if needed. */
    if (is_ending()) {
        here->has_heirs = status != 0;
        forget();
        return;
    }
    judge_death(status);
    forget();
    /* httpd comes by its monitor hook once in ten seconds; the first of a row does not wait. */
    if (here->failures == 1)
        start_now();
}

/* 1: it has ended in good order, within the bound; else it is killed. */
static int await_end(pid_t pid) {
    int status = 0;

    if (is_reaped(pid, &status, here->stop_wait + STOP_MARGIN))
        return status == 0;
    complain(0, "the supervisor did not end in time and is killed");
    kill_and_reap(pid);
    return 0;
}

/* Tells the one that runs to end all, and waits. One that has closed its end is about to end. */
static void end_supervisor(enum glue_stop how) {
    pid_t pid = here->proc.pid;
    int error;

    unwatch();
    if (pid == 0)
        return;
    error = glue_channel_send_stop(here->channel, how, here->plan);
    if (error != 0 && error != EPIPE && error != ECONNRESET)
        kill(pid, SIGTERM);
    here->has_heirs = !await_end(pid);
    forget();
}

/* Waits, with a bound: a service manager kills what is left when httpd has gone. What a supervisor
 * that died left behind, nobody but another one can end. */
static void stop(enum glue_stop how) {
    if (here->elder != 0)
        await_end(here->elder); /* httpd's older children have gone */
    here->elder = 0;
    end_supervisor(how);
    if (here->has_heirs) {
        start_now();
        end_supervisor(how);
    }
    here->stop_wait = 0;
}

/* At its end httpd has closed the logs of its hosts by now, and the numbers may be others'. */
static void use_standard_error(void) {
    for (int i = 0; i < logs->nelts; i++)
        APR_ARRAY_IDX(logs, i, int) = STDERR_FILENO;
}

static apr_status_t leave_configuration(void *unused) {
    (void)unused;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_EXITING) {
        use_standard_error();
        stop(GLUE_STOP_FINAL);
    } else if (here->is_restarting) {
        stop(GLUE_STOP_RESTART);
    }
    /* Graceful: it works on, and only our callback, which is about to be unmapped, is forgotten. */
    unwatch();
    here->is_restarting = 0;
    logs = NULL;
    return APR_SUCCESS;
}

/* Another version: what runs was started by the module that was here before the restart. */

/* Whoever runs serves httpd's older children by them and, left by us, ends with the last of those
 * (docs/plan.md 2). The socket may have other holders, so closing it would not tell. */
static void leave_memories(void) {
    if (here->proc.pid != 0) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     GLUE_ID(0606) "the shared memories are of another version of mod_pyglue (%s) "
                                   "than this one (" GLUE_VERSION "): process groups start anew, "
                                   "and requests wait until they have loaded their applications; "
                                   "httpd's older children keep their workers until they end",
                     here->version);
        here->elder = here->proc.pid;
        shutdown(here->channel, SHUT_RDWR);
        forget();
    }
    glue_memories_leave(&here->memories);
}

/* As if it had died (SUCCESSION 5): its workers serve until the next one's have loaded their
 * applications. */
static void replace_supervisor(void) {
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, main_server,
                 GLUE_ID(0605) "the supervisor of process groups (pid %ld) is of mod_pyglue %s and "
                               "is replaced by one of " GLUE_VERSION "; its workers serve until "
                               "the new ones are ready",
                 (long)here->proc.pid, here->version);
    kill_and_reap(here->proc.pid);
    here->has_heirs = 1;
    forget();
}

static void part_with_other_versions(void) {
    if (here->memories.pages != NULL && !glue_memories_are_known(&here->memories))
        leave_memories();
    if (here->proc.pid != 0 && strcmp(here->version, GLUE_VERSION) != 0)
        replace_supervisor();
}

/* Hooks. */

static state_t *retained(void) {
    state_t *found = ap_retained_data_get(KEY), *state;

    if (found != NULL && found->size >= sizeof *state)
        return found;
    state = ap_retained_data_create(KEY, sizeof *state);
    state->owner = geteuid();
    state->channel = state->plan_fd = -1;
    state->memories.pages_fd = state->memories.rows_fd = -1;
    if (found != NULL)
        memcpy(state, found, found->size);
    state->size = sizeof *state;
    return state;
}

static apr_interval_time_t longest_shutdown(const apr_array_header_t *groups) {
    apr_interval_time_t longest = 0;

    for (int i = 0; i < groups->nelts; i++)
        if (APR_ARRAY_IDX(groups, i, glue_group_t *)->shutdown_timeout > longest)
            longest = APR_ARRAY_IDX(groups, i, glue_group_t *)->shutdown_timeout;
    return longest;
}

/* Not by a configuration without groups, unless one runs, or its workers may, which nobody else
 * ends. */
static int is_wanted(const apr_array_header_t *groups) {
    return groups->nelts > 0 || here->proc.pid != 0 || here->has_heirs;
}

int glue_supervisor_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                                server_rec *s) {
    const apr_array_header_t *groups = glue_groups(s);

    (void)plog;
    here = retained();
    main_server = s;
    part_with_other_versions();
    if (!is_wanted(groups))
        return OK;
    if (here->memories.pages == NULL && glue_memories_make(&here->memories) != 0) {
        complain(errno,
                 "the memories of placement could not be made: no process group can be reached. "
                 "Give httpd what it lacks (open files: LimitNOFILE=, ulimit -n) and restart it");
        return OK;
    }
    if (pyglue_rows_parent(here->memories.rows) == PYGLUE_PARENT_ENDING)
        pyglue_rows_put_parent(here->memories.rows, PYGLUE_PARENT_SERVING);
    if (longest_shutdown(groups) > here->stop_wait)
        here->stop_wait = longest_shutdown(groups);
    make_plan(pconf);
    if (here->proc.pid == 0)
        start(ptemp);
    watch();
    send_plan();
    apr_pool_cleanup_register(pconf, NULL, leave_configuration, apr_pool_cleanup_null);
    return OK;
}

static int is_hung(void) {
    uint64_t beat = pyglue_pages_heartbeat(here->memories.pages), now = glue_clock_now_ms();

    if (beat < here->started_ms) /* an earlier one's */
        return now > here->started_ms + START_AFTER_MS;
    return now > beat + HUNG_AFTER_MS;
}

/* At the first look it is killed, and its death is reported by httpd. At the next one the kernel
 * keeps it, and another one takes its place. */
static void end_hung(apr_pool_t *p) {
    if (!here->is_killed) {
        complain(0, "the supervisor does not answer and is replaced");
        kill(here->proc.pid, SIGKILL);
        here->is_killed = 1;
        return;
    }
    complain(0, "the supervisor cannot be ended, the kernel keeps it in a system call: it is left "
                "behind, and a new one is started");
    unwatch();
    forget();
    here->has_heirs = 1;
    start(p);
}

int glue_supervisor_monitor(apr_pool_t *p, server_rec *s) {
    (void)s;
    /* Without a plan none is wanted, though the memories of an earlier one stay; and nothing would
     * have httpd forget our callback before the module is unmapped. */
    if (here == NULL || here->memories.pages == NULL || logs == NULL)
        return DECLINED;
    if (here->proc.pid != 0 && is_hung()) {
        end_hung(p);
    } else if (here->proc.pid == 0 && glue_clock_now_ms() >= here->start_at_ms) {
        start(p);
    }
    if (here->proc.pid != 0 && has_lived() &&
        pyglue_rows_parent(here->memories.rows) == PYGLUE_PARENT_HELPLESS)
        pyglue_rows_put_parent(here->memories.rows, PYGLUE_PARENT_SERVING);
    send_plan();
    return DECLINED;
}

void glue_supervisor_child_status(server_rec *s, pid_t pid, ap_generation_t gen, int slot,
                                  mpm_child_status status) {
    pyglue_rows_t *rows = here != NULL ? here->memories.rows : NULL;
    unsigned count;

    (void)s, (void)gen, (void)slot;
    if (rows == NULL)
        return;
    count = glue_memories_count_rows(&here->memories);
    if (status == MPM_CHILD_STARTED && pyglue_rows_child_started(rows, count, pid, here->plan) != 0)
        complain(0, "more children than rows: some groups of older configurations may end early");
    if (status == MPM_CHILD_EXITED) {
        pyglue_rows_child_ended(rows, count, pid);
        pyglue_rows_release(rows, count, pid);
    }
}

void glue_supervisor_child_init(void) {
    if (here == NULL || here->memories.pages == NULL)
        return;
    if (here->channel >= 0)
        close(here->channel);
    close(here->memories.pages_fd);
    close(here->memories.rows_fd);
    if (here->plan_fd >= 0)
        close(here->plan_fd);
    /* The parent's uid is the supervisor's: this process has changed its own. */
    glue_placement_child_init(
        &(glue_placement_t){.pages = here->memories.pages,
                            .rows = here->memories.rows,
                            .row = pyglue_rows_claim(here->memories.rows, getpid()),
                            .plan = here->plan,
                            .supervisor = here->owner});
}
