/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a snapshot in a worker: finds a place, lets glue_exchange.c try, and judges what failed.
 * Whether a failed try may be repeated is docs/wire.md 11. */
#include "glue_daemon.h"

#include <ap_mpm.h>

#include "glue_ahead.h"
#include "glue_buffer.h"
#include "glue_clock.h"
#include "glue_exchange.h"
#include "glue_janitor.h"
#include "glue_link.h"
#include "glue_log.h"
#include "glue_passed.h"
#include "glue_placement.h"
#include "glue_upload.h"
#include "glue_watchdog.h"

#define REFUSALS_MAX 8                      /* refuse-tries, within the waiting time */
#define FIRST_PATIENCE apr_time_from_sec(1) /* with a hello, where another worker may be asked */
#define OBITUARY_WAIT apr_time_from_sec(1)
#define REVIVAL_WAIT apr_time_from_sec(5) /* while the supervisor itself is being replaced */

/* One try. */

/* The worker runs on: it is told, and its place counts until it has finished. */
static void give_up(glue_exchange_t *x) {
    pyglue_frame_t gone = pyglue_frame(PYGLUE_FRAME_GONE, 0, x->order.number, 0);

    if (glue_conn_send(x->conn, &(struct iovec){&gone, sizeof gone}, 1) == 0) {
        glue_conn_give_up(x->conn, &x->place);
        return;
    }
    glue_conn_close(x->conn);
    glue_place_give(&x->place);
}

/* Ends the use of connection and place. */
static void finish_try(glue_exchange_t *x, int error) {
    int is_over =
        x->order.state == PYGLUE_EXCHANGE_ENDED && (error == 0 || error == PYGLUE_E_REFUSED);

    if (glue_conn_is_over(x->conn)) { /* and the place is given back */
        glue_conn_close(x->conn);
        return;
    }
    if (error == PYGLUE_E_GONE || error == PYGLUE_E_TIMEOUT) {
        give_up(x);
        return;
    }
    if (is_over && !x->is_leaving && !x->will_refuse)
        glue_conn_put(x->conn);
    else
        glue_conn_close(x->conn);
    if (x->will_refuse)
        glue_place_strike(&x->place);
    else
        glue_place_give(&x->place);
}

/* A place, and a connection to its worker, or why there is none: *failure. A worker that is not
 * there any more has refused nothing: the next one is looked for, or waited for. Result as
 * glue_place_take. */
static int find_worker(glue_exchange_t *x, int *failure) {
    int error;

    do {
        error = glue_place_take(&x->place, &x->search);
        *failure = error != 0
                       ? 0
                       : glue_conn_get(&x->conn, &x->place.worker, &x->terms, x->search.deadline);
        if (*failure == PYGLUE_E_GONE)
            glue_place_strike(&x->place);
    } while (*failure == PYGLUE_E_GONE);
    return error;
}

static const char *remedy_of(int reason, const glue_group_t *group) {
    switch (reason) {
    case EACCES:
        return group->socket_uid >= 0
                   ? "; socket-user= gives it to another user than the one that this child runs as"
                   : "; httpd's user may not enter a folder of this path: set WSGISocketPrefix to "
                     "a path in folders that it may enter";
    case EMFILE:
    case ENFILE:
        return "; raise the limit of open files (LimitNOFILE= of httpd's service, or ulimit -n)";
    default:
        return "";
    }
}

static void log_unreachable(const glue_exchange_t *x, int failure, int reason) {
    apr_uint64_t count = glue_refusal_count(GLUE_REFUSAL_UNREACHABLE, x->group);

    if (count > 0)
        ap_log_rerror(APLOG_MARK, APLOG_ERR, reason, x->r,
                      GLUE_ID(0503) "process group '%s': no connection to worker at %s: %s%s%s",
                      x->group->name, x->place.worker.path, pyglue_error_text(failure),
                      remedy_of(reason, x->group), glue_refusal_counted(count, x->r->pool));
}

/* So much of the time that a hello has: all of it where there is no other worker to ask. */
static apr_interval_time_t hello_patience(const glue_group_t *group, apr_interval_time_t wanted,
                                          const glue_conn_terms_t *terms) {
    apr_interval_time_t most = group->connect_timeout;

    if (most == 0 || most > terms->frame_timeout)
        most = terms->frame_timeout;
    return group->processes.most > 1 && wanted < most ? wanted : most;
}

/* PYGLUE_E_REFUSED: another worker may be tried, unless the fault is this child's. */
static int have_no_connection(glue_exchange_t *x, int failure) {
    int reason = failure == PYGLUE_E_IO ? errno : 0;

    glue_place_give(&x->place);
    x->search.avoided = x->place.worker.number;
    x->cannot_connect = failure == PYGLUE_E_NOMEM || failure == PYGLUE_E_IO;
    if (failure == PYGLUE_E_TIMEOUT) {
        glue_place_note_late(&x->place);
        x->terms.hello_timeout = hello_patience(x->group, 2 * x->terms.hello_timeout, &x->terms);
    }
    if (failure != PYGLUE_E_REFUSED)
        log_unreachable(x, failure, reason);
    return PYGLUE_E_REFUSED;
}

/* The time to wait for a worker is over. */
static int is_late(glue_exchange_t *x) {
    if (glue_clock_now() < x->search.deadline)
        return 0;
    x->search.refusal = GLUE_REFUSAL_QUEUE_TIMEOUT;
    return 1;
}

/* The queue of the worker's socket is full, which is over in a moment, or never: it is tried again
 * for connect-timeout. 0, or as glue_place_take. */
static int knock_again(glue_exchange_t *x) {
    apr_time_t now = glue_clock_now();

    glue_place_give(&x->place);
    x->search.avoided = x->place.worker.number;
    if (x->connect_by == 0)
        x->connect_by = now + x->group->connect_timeout;
    x->search.refusals++;
    if (now < x->connect_by && !is_late(x))
        return glue_place_rest(&x->search);
    if (now >= x->connect_by)
        x->search.refusal = GLUE_REFUSAL_QUEUES_FULL;
    return glue_refusal_error(x->search.refusal);
}

/* 0: the exchange is over. PYGLUE_E_REFUSED: it did not start, another worker may be tried. */
static int try_once(glue_exchange_t *x) {
    int error = glue_exchange_run(x);

    if (error == PYGLUE_E_REFUSED && x->order.state != PYGLUE_EXCHANGE_ENDED)
        glue_link_sweep(); /* others of that worker are likely to have ended too */
    finish_try(x, error);
    return error;
}

/* A worker that died. */

static int find_obituary(glue_exchange_t *x, pyglue_obituary_t *obituary) {
    apr_time_t died = glue_clock_now();

    while (!pyglue_pages_find_obituary(glue_placement()->pages, x->place.worker.number, obituary)) {
        apr_interval_time_t waited = glue_clock_now() - died;

        if (waited > (glue_placement_is_late() ? REVIVAL_WAIT : OBITUARY_WAIT))
            return 0;
        glue_place_pause();
    }
    return 1;
}

static int is_named(const glue_exchange_t *x, const pyglue_obituary_t *obituary) {
    for (uint32_t i = 0; i < obituary->count; i++)
        if (obituary->requests[i] == x->snapshot->number)
            return 1;
    return 0;
}

/* E_REFUSED: the request certainly did not start, and is repeated, once. Else E_IO, and logged. */
static int judge_death(glue_exchange_t *x) {
    pyglue_obituary_t obituary;
    int is_known = find_obituary(x, &obituary);
    int may_repeat = is_known && obituary.complete == 1 && !x->was_started && !x->has_died &&
                     !is_named(x, &obituary);

    x->has_died = 1;
    ap_log_rerror(
        APLOG_MARK, may_repeat ? APLOG_INFO : APLOG_ERR, 0, x->r,
        GLUE_ID(0504) "process group '%s': the worker at %s ended while it had this request "
                      "(%s %.200s, id %s): %s%s",
        x->group->name, x->place.worker.path, x->r->method, x->r->uri,
        x->r->log_id != NULL ? x->r->log_id : "none",
        is_known ? obituary.cause : "the cause is unknown",
        may_repeat ? "; it had not started it, so it goes to another" : "");
    return may_repeat ? PYGLUE_E_REFUSED : PYGLUE_E_IO;
}

/* All tries. */

static void log_failure(glue_exchange_t *x, int error, const char *what) {
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, GLUE_ID(0505) "process group '%s': %s: %s",
                  x->group->name, what, pyglue_error_text(error));
}

/* What a failed try means for the request, as the result of glue_daemon_run; E_REFUSED: try on. */
static int judge(glue_exchange_t *x, int error) {
    switch (error) {
    case PYGLUE_E_GONE:
        break;
    case PYGLUE_E_IO:
        error = judge_death(x);
        break;
    case PYGLUE_E_TIMEOUT:
        log_failure(x, error,
                    x->late == 0 ? "the request ran for longer than request-timeout= and "
                                   "interrupt-timeout= allow"
                                 : "the worker did not answer within response-timeout=");
        break;
    case PYGLUE_E_HEAD: /* logged with what was wrong */
        error = PYGLUE_E_PROTOCOL;
        break;
    default:
        log_failure(x, error, "the worker's connection was closed");
        error = PYGLUE_E_PROTOCOL;
    }
    if (!x->host->has_started && error != PYGLUE_E_GONE)
        return error;
    *x->outcome = (pyglue_outcome_t){PYGLUE_CUT, 0};
    return 0;
}

/* No place was found; nothing was started. A client that left is nobody's fault. */
static int judge_search(const glue_exchange_t *x) {
    glue_refusal_log(x->search.refusal, x->group, x->r, x->search.cause);
    return glue_refusal_error(x->search.refusal);
}

static int run_tries(glue_exchange_t *x) {
    for (int refused = 0; refused < REFUSALS_MAX;) {
        int failure, error = find_worker(x, &failure);

        if (error == 0 && failure == PYGLUE_E_TOO_BIG && (error = knock_again(x)) == 0)
            continue;
        if (error != 0)
            return judge_search(x);
        error = failure != 0 ? have_no_connection(x, failure) : try_once(x);
        if (error != 0 && error != PYGLUE_E_REFUSED)
            error = judge(x, error);
        if (error != PYGLUE_E_REFUSED || x->cannot_connect)
            return error;
        if (is_late(x))
            return judge_search(x);
        if (!x->will_refuse) { /* one that leaves is not asked again: its successor is waited for */
            refused++;
            x->search.refusals++;
        }
        x->will_refuse = 0;
    }
    x->search.refusal = GLUE_REFUSAL_ALWAYS_REFUSED;
    return judge_search(x);
}

static apr_interval_time_t or_timeout(apr_interval_time_t configured, const server_rec *s) {
    return configured > 0 ? configured : s->timeout;
}

static glue_conn_terms_t terms_of(const glue_group_t *group, const glue_host_t *host,
                                  const server_rec *s) {
    glue_conn_terms_t terms = {.bounds = &group->bounds,
                               .frame_timeout = or_timeout(group->socket_timeout, s),
                               .takes_descriptors =
                                   group->pass_descriptors && host->allows_sendfile,
                               .spool = group->response_spool};

    terms.hello_timeout = hello_patience(group, FIRST_PATIENCE, &terms);
    return terms;
}

/* The snapshot goes to a worker, with a buffer for what goes to and fro. */
static int run(glue_exchange_t *x) {
    int error;

    x->buffer = glue_buffer_get();
    if (x->buffer == NULL) {
        log_failure(x, PYGLUE_E_NOMEM, "the request could not be begun");
        return PYGLUE_E_REFUSED;
    }
    error = glue_upload_gather(x);
    x->search.deadline = glue_clock_now() + or_timeout(x->group->queue_timeout, x->r->server);
    error = error ? judge_search(x) : run_tries(x);
    glue_flood_end(&x->flood);
    glue_spool_end(&x->upload);
    glue_rest_end(&x->rest);
    glue_buffer_put(x->buffer);
    return error;
}

void glue_daemon_child_init(apr_pool_t *pchild, server_rec *s) {
    int threads = 1, groups = glue_groups(s)->nelts;

    if (glue_placement()->pages == NULL)
        return;
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    glue_place_child_init(pchild, threads, groups);
    glue_flood_child_init(pchild, groups);
    glue_refusal_child_init(pchild, s);
    glue_watchdog_child_init(pchild);
    glue_janitor_child_init(pchild);
    glue_passed_child_init();
    glue_spool_child_init(pchild);
    glue_ahead_child_init(pchild);
    glue_link_child_init(pchild, glue_placement()->supervisor);
}

int glue_daemon_run(pyglue_outcome_t *outcome, const glue_group_t *group, glue_host_t *host,
                    const pyglue_snapshot_t *snapshot) {
    glue_exchange_t x = {.host = host,
                         .r = host->r,
                         .group = group,
                         .snapshot = snapshot,
                         .outcome = outcome,
                         .flood = {.group = group, .r = host->r},
                         .search = {.group = group, .host = host}};
    int error = glue_place_enter(&x.search);

    if (error != 0)
        return judge_search(&x);
    x.terms = terms_of(group, host, host->r->server);
    x.response_timeout = or_timeout(group->response_timeout, host->r->server);
    host->client_timeout = group->response_socket_timeout;
    host->interims = (int)pyglue_snapshot_interims(snapshot);
    error = run(&x);
    glue_place_leave(group);
    glue_refusal_settle(group);
    return error;
}
