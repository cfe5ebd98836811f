/* SPDX-License-Identifier: Apache-2.0 */
/* Message ids, and log entries on behalf of an application. */
#ifndef GLUE_LOG_H
#define GLUE_LOG_H

#include "glue.h"

/* Every warning and error starts with an id, as in GLUE_ID(0201) "no process group named ...".
 * Ids are ours, never reused, each listed in docs/reference/messages.md with its remedy:
 *   01xx  configuration, groups      04xx  Python in httpd's children
 *   02xx  choosing and checking      05xx  workers: places, connections, frames
 *   03xx  request and response       06xx  the supervisor and its plans */
#define GLUE_ID(number) "GL" #number ": "

/* Logs text of an application with the request's own log, one entry a line; empty lines are left
 * out. The level is httpd's and is held to error at worst: an application must not reach the
 * terminals of everybody by an emergency. Any thread of the request. */
void glue_log_application(request_rec *r, int level, pyglue_str_t text);

/* The same for text that belongs to no request. */
void glue_log_server(server_rec *s, int level, pyglue_str_t text);

#endif
