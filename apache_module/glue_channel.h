/* SPDX-License-Identifier: Apache-2.0 */
/* What httpd's parent tells the supervisor: the messages of docs/plan.md 2, over a socket pair that
 * never blocks. The supervisor answers in the pages alone. What a plan says is glue_plan.c's, when
 * one is sent glue_supervisor.c's. */
#ifndef GLUE_CHANNEL_H
#define GLUE_CHANNEL_H

#include "glue.h"

enum glue_stop { GLUE_STOP_RESTART = 1, GLUE_STOP_FINAL = 2 };

/* A plan on its way. The descriptors stay the caller's. */
typedef struct glue_outgoing {
    uint64_t number;
    int fd;                         /* sealed, from glue_channel_seal */
    const apr_array_header_t *logs; /* of int */
} glue_outgoing_t;

/* Parent. Puts a plan's text into a sealed memory. 0; or -1 with errno: *fd, the caller's all the
 * same, is then -1 or a memory that the supervisor refuses. */
int glue_channel_seal(int *fd, const char *text, apr_size_t len);

/* Parent. Sends what was not sent yet: *sent_logs counts the logs that were, and is -1 before the
 * plan itself was. 0; EAGAIN: the socket is full, call again; EPIPE, ECONNRESET: nobody reads any
 * more; or another errno. */
int glue_channel_send_plan(int channel, int *sent_logs, const glue_outgoing_t *plan);

/* Parent. Ends all workers. 0 or an errno as above. */
int glue_channel_send_stop(int channel, enum glue_stop how, uint64_t plan);

#endif
