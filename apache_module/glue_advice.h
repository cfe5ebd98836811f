/* SPDX-License-Identifier: Apache-2.0 */
/* What an administrator should know of his process groups: lines of the error log at `httpd -t` and
 * at a start. In httpd's parent, after glue_group_resolve. */
#ifndef GLUE_ADVICE_H
#define GLUE_ADVICE_H

#include "glue.h"

/* Of all groups, and of the names by which they are asked for. */
void glue_advice_on_groups(server_rec *main_server);

/* Of one name: it warns where each request for it would be answered with 500, because no
 * WSGIDaemonProcess defines it, or not for this server. subject, where: what named it. */
void glue_advice_on_use(const server_rec *s, const char *subject, const char *where,
                        const char *name);

#endif
