/* SPDX-License-Identifier: Apache-2.0 */
/* The reasons are a table; a counter for each, group and child keeps overload from filling the log.
 * Up: glue_place.c finds the reasons, glue_daemon.c has them logged. */
#include "glue_refusal.h"

#include <stdatomic.h>

#include "glue_clock.h"
#include "glue_log.h"

#define TELL_EVERY apr_time_from_sec(1)

static const struct reason {
    int error;
    const char *text; /* of a group that is disabled the supervisor's follows */
} reasons[GLUE_REFUSALS] = {
    [GLUE_REFUSAL_CHILD_THREADS] = {PYGLUE_E_REFUSED, "it holds its share of this httpd process's "
                                                      "threads (child-threads=)"},
    [GLUE_REFUSAL_ALL_WAIT] =
        {PYGLUE_E_REFUSED, "too many requests of this httpd process wait for workers and for their "
                           "clients, those of all groups together: more threads= or processes= for "
                           "the slow ones, or a shorter queue-timeout="},
    [GLUE_REFUSAL_UPLOADS] =
        {PYGLUE_E_REFUSED,
         "requests whose clients send their bodies slowly hold two thirds of its share of this "
         "httpd process's threads (child-threads=): more threads of httpd (MaxRequestWorkers), or "
         "mod_reqtimeout against the slowest"},
    [GLUE_REFUSAL_ALL_UPLOAD] =
        {PYGLUE_E_REFUSED, "too many requests of this httpd process wait for the bodies that their "
                           "clients send, those of all groups together: more threads of httpd "
                           "(MaxRequestWorkers), or mod_reqtimeout against the slowest"},
    [GLUE_REFUSAL_BACKLOG] = {PYGLUE_E_REFUSED,
                              "as many requests wait for its workers as listen-backlog= allows"},
    [GLUE_REFUSAL_QUEUE_TIMEOUT] = {PYGLUE_E_REFUSED,
                                    "no worker had a thread free within queue-timeout="},
    [GLUE_REFUSAL_QUEUES_FULL] = {PYGLUE_E_REFUSED,
                                  "the queues of its workers' sockets, as long as listen-backlog=, "
                                  "were full for connect-timeout="},
    [GLUE_REFUSAL_ALWAYS_REFUSED] = {PYGLUE_E_REFUSED,
                                     "its workers refused it again and again: more threads= or "
                                     "processes="},
    [GLUE_REFUSAL_ENDING] = {PYGLUE_E_REFUSED, "httpd ends while the request waits"},
    [GLUE_REFUSAL_LEFT] = {PYGLUE_E_GONE, "the client left while the request waited"},
    [GLUE_REFUSAL_NO_PLACEMENT] = {PYGLUE_E_STATE,
                                   "the memories of placement could not be made; the main server's "
                                   "error log says why"},
    [GLUE_REFUSAL_HELPLESS] = {PYGLUE_E_STATE, "no supervisor can be started; the main server's "
                                               "error log says why"},
    [GLUE_REFUSAL_PLAN] = {PYGLUE_E_STATE, "the supervisor refused the configuration"},
    [GLUE_REFUSAL_UNKNOWN] = {PYGLUE_E_STATE, "the supervisor does not know it"},
    [GLUE_REFUSAL_DISABLED] = {PYGLUE_E_STATE, "it cannot serve"},
    [GLUE_REFUSAL_UNREACHABLE] = {PYGLUE_E_REFUSED, "no connection to a worker"},
};

/* Of one group in this child. */
struct tally {
    struct {
        _Atomic apr_uint64_t untold; /* requests since the last line */
        _Atomic apr_time_t told;
    } of[GLUE_REFUSALS];
    _Atomic int has_untold;
};

/* Frozen after child_init, but for atomics. */
static struct tally *tallies; /* by the group's position */

int glue_refusal_error(enum glue_refusal refusal) {
    return reasons[refusal].error;
}

/* One line a second: whoever comes after that writes it. */
static int may_tell(struct tally *tally, enum glue_refusal refusal) {
    apr_time_t now = glue_clock_now(), told = atomic_load(&tally->of[refusal].told);

    return (told == 0 || now - told >= TELL_EVERY) &&
           atomic_compare_exchange_strong(&tally->of[refusal].told, &told, now);
}

apr_uint64_t glue_refusal_count(enum glue_refusal refusal, const glue_group_t *group) {
    struct tally *tally = tallies != NULL ? &tallies[group->position] : NULL;

    if (tally == NULL) /* no placement: nothing but that is ever told */
        return 1;
    atomic_fetch_add(&tally->of[refusal].untold, 1);
    if (may_tell(tally, refusal))
        return atomic_exchange(&tally->of[refusal].untold, 0);
    atomic_store(&tally->has_untold, 1);
    return 0;
}

static int level_of(enum glue_refusal refusal) {
    return reasons[refusal].error == PYGLUE_E_GONE ? APLOG_INFO : APLOG_ERR;
}

void glue_refusal_log(enum glue_refusal refusal, const glue_group_t *group, request_rec *r,
                      const char *cause) {
    apr_uint64_t count = glue_refusal_count(refusal, group);

    if (count > 0)
        ap_log_rerror(APLOG_MARK, level_of(refusal), 0, r,
                      GLUE_ID(0506) "process group '%s': %s%s%s%s", group->name,
                      reasons[refusal].text, *cause ? ": " : "", cause,
                      glue_refusal_counted(count, r->pool));
}

const char *glue_refusal_counted(apr_uint64_t count, apr_pool_t *pool) {
    return count == 1
               ? ""
               : apr_psprintf(pool, "; %" APR_UINT64_T_FMT " requests since the last such line",
                              count);
}

/* What is untold, when no request of its kind comes. */
static void tell_rest(enum glue_refusal refusal, const glue_group_t *group) {
    apr_uint64_t untold = atomic_exchange(&tallies[group->position].of[refusal].untold, 0);

    if (untold > 0)
        ap_log_error(APLOG_MARK, level_of(refusal), 0, group->server,
                     GLUE_ID(0506) "process group '%s': %s; %" APR_UINT64_T_FMT
                                   " request%s since the last such line",
                     group->name, reasons[refusal].text, untold, untold > 1 ? "s" : "");
}

void glue_refusal_settle(const glue_group_t *group) {
    struct tally *tally = &tallies[group->position];

    if (!atomic_load_explicit(&tally->has_untold, memory_order_relaxed))
        return;
    atomic_store(&tally->has_untold, 0);
    for (int i = 0; i < GLUE_REFUSALS; i++) {
        if (atomic_load(&tally->of[i].untold) == 0)
            continue;
        if (may_tell(tally, (enum glue_refusal)i))
            tell_rest((enum glue_refusal)i, group);
        else
            atomic_store(&tally->has_untold, 1);
    }
}

static apr_status_t tell_all(void *groups) {
    const apr_array_header_t *all = groups;

    for (int g = 0; g < all->nelts; g++)
        for (int i = 0; i < GLUE_REFUSALS; i++)
            tell_rest((enum glue_refusal)i, APR_ARRAY_IDX(all, g, const glue_group_t *));
    return APR_SUCCESS;
}

void glue_refusal_child_init(apr_pool_t *pchild, server_rec *s) {
    const apr_array_header_t *groups = glue_groups(s);

    tallies = apr_pcalloc(pchild, (apr_size_t)groups->nelts * sizeof *tallies);
    apr_pool_cleanup_register(pchild, groups, tell_all, apr_pool_cleanup_null);
}
