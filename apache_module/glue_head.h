/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a response in httpd's terms: fields of the connection are httpd's alone, a length and
 * a type have places of their own, challenges survive an error page. In a request's own thread;
 * what is kept lives in the request's pool. */
#ifndef GLUE_HEAD_H
#define GLUE_HEAD_H

#include "frame.h"
#include "glue.h"

/* Checks the head and makes it the request's. 0; or PYGLUE_E_HEAD, PYGLUE_E_TOO_BIG: it is refused,
 * and some of its fields may be set. */
int glue_head_set(request_rec *r, const pyglue_head_t *head, const pyglue_bounds_t *bounds);

#endif
