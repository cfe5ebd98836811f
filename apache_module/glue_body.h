/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request. Embedded mode reads it as the host operation `read`; for a worker it is
 * read ahead, and only as long as the worker is there. */
#ifndef GLUE_BODY_H
#define GLUE_BODY_H

#include "glue_host.h"

/* The host operation `read`: waits until there is something, or the body has ended. */
ssize_t glue_body_read(pyglue_host_t *base, void *buf, size_t len);

/* Body bytes that are at hand, without blocking and without causing 100 Continue: at most len.
 * *is_end: the body ends with them. Returns the count; 0 when nothing is at hand. */
apr_ssize_t glue_body_at_hand(glue_host_t *h, void *buf, apr_size_t len, int *is_end);

/* As the operation `read`, for a worker at the other end of the socket fd. PYGLUE_E_IO as soon as
 * it has closed it: who asked for these bytes is there no more, and the client may never send them.
 * PYGLUE_E_TIMEOUT: nothing has come by `until`. */
ssize_t glue_body_read_while(glue_host_t *h, void *buf, size_t len, int fd, apr_time_t until);

#endif
