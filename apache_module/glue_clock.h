/* SPDX-License-Identifier: Apache-2.0 */
/* The time by which deadlines and time-outs are kept: that of CLOCK_MONOTONIC, which an
 * administrator or NTP never sets. apr_time_now() is for what is told to people and applications.
 */
#ifndef GLUE_CLOCK_H
#define GLUE_CLOCK_H

#include "glue.h"

/* In APR's unit, µs, for sums with its intervals; never compared with apr_time_now(). Any thread of
 * parent and children; costs no system call. */
apr_time_t glue_clock_now(void);

/* Milliseconds of the same clock, as the supervisor tells its heartbeats. */
uint64_t glue_clock_now_ms(void);

#endif
