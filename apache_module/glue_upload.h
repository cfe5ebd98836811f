/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request on its way to a worker: what httpd reads before a worker's thread is taken
 * (request-buffering), and what the worker pulls then. */
#ifndef GLUE_UPLOAD_H
#define GLUE_UPLOAD_H

#include "glue_exchange.h"

/* Reads ahead: x->at_hand bytes into x->buffer, for the REQUEST frame, and more into x->upload.
 * Blocks on the client. 0; PYGLUE_E_REFUSED: too many threads do so, x->search tells. */
int glue_upload_gather(glue_exchange_t *x);

/* Is nothing left but what the REQUEST frame carries? */
int glue_upload_is_whole(const glue_exchange_t *x);

/* The next bytes into x->buffer, at most len: what was read ahead, then what the client sends.
 * *is_end: the body ends with them. The count, 0 at the end, or an error: PYGLUE_E_IO: the worker
 * has closed or died, and is told nothing any more; PYGLUE_E_TIMEOUT: it is later than x->end_by.
 */
apr_ssize_t glue_upload_read(glue_exchange_t *x, apr_size_t len, int *is_end);

#endif
