/* SPDX-License-Identifier: Apache-2.0 */
/* Holds what a child was given. Knows no layout: that is the bridge's. Up: glue_place.c,
 * glue_flood.c, glue_daemon.c; glue_supervisor.c fills it in. */
#include "glue_placement.h"

#include "glue_clock.h"

#include <time.h>

#define LATE_AFTER_MS 2500

static glue_placement_t placement; /* frozen after child_init */

void glue_placement_child_init(const glue_placement_t *given) {
    placement = *given;
}

const glue_placement_t *glue_placement(void) {
    return &placement;
}

int glue_placement_is_late(void) {
    return glue_clock_now_ms() > pyglue_pages_heartbeat(placement.pages) + LATE_AFTER_MS;
}
