/* SPDX-License-Identifier: Apache-2.0 */
/* What every file of the httpd side needs: the module symbol, its log tag, the words they share.
 * GLUE_VERSION is a text that the build hands in. */
#ifndef GLUE_H
#define GLUE_H

#include <httpd.h> /* the others need it */

#include <apr_strings.h>
#include <http_config.h>
#include <http_log.h>

#include "engine.h"

extern module AP_MODULE_DECLARE_DATA wsgi_module;
APLOG_USE_MODULE(wsgi);

typedef struct glue_group glue_group_t; /* a process group: glue_group.h */
typedef struct glue_route glue_route_t; /* who serves a request: glue_route.h */

#endif
