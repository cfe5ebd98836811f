/* SPDX-License-Identifier: Apache-2.0 */
/* The content handler. */
#ifndef GLUE_HANDLER_H
#define GLUE_HANDLER_H

#include "glue.h"

/* Hook handler: wsgi-script and application/x-httpd-wsgi; everything else is declined at once. */
int glue_handler(request_rec *r);

#endif
