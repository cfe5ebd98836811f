/* SPDX-License-Identifier: Apache-2.0 */
/* The content handler. */
#ifndef GLUE_HANDLER_H
#define GLUE_HANDLER_H

#include "glue.h"

/* Hook handler: wsgi-script and application/x-httpd-wsgi; everything else is declined at once. */
int glue_handler(request_rec *r);

/* The same hook once nobody has claimed the request, right before httpd's own handler: the script
 * of an alias that another URL reaches too is forbidden, not sent as a file. No system call. */
int glue_handler_withhold(request_rec *r);

#endif
