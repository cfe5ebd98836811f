/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds on what workers log. The rate is counted over all children, in the rows, so that a group
 * gets no more by having its requests spread; the lost lines are counted in each child. */
#include "glue_flood.h"

#include <stdatomic.h>

#include "glue_clock.h"
#include "glue_log.h"
#include "glue_placement.h"

#define TELL_EVERY apr_time_from_sec(1)

/* Of one group in this child. */
struct lost {
    _Atomic apr_uint64_t lines; /* since they were told */
    _Atomic apr_time_t told;
};

static struct lost *losses; /* by the group's position; frozen after child_init, but for atomics */

void glue_flood_child_init(apr_pool_t *pchild, int groups) {
    losses = apr_pcalloc(pchild, (apr_size_t)groups * sizeof *losses);
}

static void tell(const glue_flood_t *flood) {
    struct lost *lost = &losses[flood->group->position];
    apr_time_t now = glue_clock_now(), told = atomic_load(&lost->told);
    apr_uint64_t lines;

    if (now - told < TELL_EVERY || !atomic_compare_exchange_strong(&lost->told, &told, now))
        return;
    lines = atomic_exchange(&lost->lines, 0);
    if (lines > 0)
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, flood->r,
                      GLUE_ID(0507) "process group '%s': %" APR_UINT64_T_FMT
                                    " lines were left out: its workers log more than %d a second "
                                    "(log-rate=, log-burst=)",
                      flood->group->name, lines, flood->group->log_rate);
}

/* Bytes up to the end of the last line that may be logged; *lost: the lines behind it. */
static apr_size_t cut_lines(apr_uint64_t *lost, const glue_flood_t *flood, pyglue_str_t text) {
    const glue_placement_t *p = glue_placement();
    int slot = pyglue_pages_group_slot(p->pages, flood->group->digest);
    pyglue_rate_t rate = {(unsigned)flood->group->log_rate, (unsigned)flood->group->log_burst};
    const char *at = text.ptr, *end = text.ptr + text.len;
    unsigned lines = 0, granted;

    *lost = 0;
    for (const char *next = at; next != NULL && next < end; lines++)
        if ((next = memchr(next, '\n', (size_t)(end - next))) != NULL)
            next++;
    granted = slot < 0 ? lines
                       : pyglue_rows_spend(p->rows, (unsigned)slot, (uint64_t)glue_clock_now(),
                                           lines, rate);
    if (granted == lines)
        return text.len;
    *lost = lines - granted;
    for (; granted > 0; granted--)
        at = (const char *)memchr(at, '\n', (size_t)(end - at)) + 1;
    return (apr_size_t)(at - text.ptr);
}

pyglue_str_t glue_flood_admit(glue_flood_t *flood, int level, pyglue_str_t text) {
    apr_size_t before = flood->bytes, most = (apr_size_t)flood->group->log_request_size;
    apr_uint64_t lost;

    if (!APLOG_R_IS_LEVEL(flood->r, level))
        return (pyglue_str_t){NULL, 0};
    flood->bytes += text.len;
    if (before > most)
        return (pyglue_str_t){NULL, 0};
    if (flood->bytes > most) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, flood->r,
                      GLUE_ID(0501) "process group '%s': this request has logged more than %d "
                                    "bytes (log-request-size=); the rest is left out",
                      flood->group->name, flood->group->log_request_size);
        return (pyglue_str_t){NULL, 0};
    }
    text.len = cut_lines(&lost, flood, text);
    if (lost > 0) {
        flood->has_lost = 1;
        atomic_fetch_add(&losses[flood->group->position].lines, lost);
    }
    return text;
}

void glue_flood_end(const glue_flood_t *flood) {
    if (flood->has_lost)
        tell(flood);
}
