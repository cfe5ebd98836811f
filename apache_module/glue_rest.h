/* SPDX-License-Identifier: Apache-2.0 */
/* The rest of a response that is all here while its client is slow: put into a file of its own,
 * which goes down httpd's filters as a whole, as a static file does. httpd then needs no thread for
 * it where its MPM can send without one (event). */
#ifndef GLUE_REST_H
#define GLUE_REST_H

#include "glue_host.h"

/* Zeros: nothing is in it. */
typedef struct glue_rest {
    int fd; /* if has_file */
    int has_file;
    int is_of_no_use; /* no file can be had, or no more written */
    apr_off_t length;
} glue_rest_t;

/* Puts it behind what is there. 0: it cannot; what is there stays. */
int glue_rest_add(glue_rest_t *rest, pyglue_str_t bytes);

/* As glue_rest_add, for the body of a response. 0: it cannot, and nothing is there: what was has
 * been written to the host; 1: done; or an error of the host's. */
int glue_rest_put(glue_rest_t *rest, glue_host_t *host, pyglue_str_t bytes);

/* What is there goes to the host: as the last of the response, or with more to come. 0 or an error
 * of the host's. */
int glue_rest_send(glue_rest_t *rest, glue_host_t *host, int is_last);

/* Closes the file. */
void glue_rest_end(glue_rest_t *rest);

#endif
