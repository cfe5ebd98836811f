/* SPDX-License-Identifier: Apache-2.0 */
/* The last output filter before httpd's own, which sends: waits for slow clients in its place.
 *
 * httpd's waits within one call until the client has taken enough, and nothing ends that but the
 * client. A response of a worker may be here as a whole meanwhile. This filter hands down no more
 * than the other takes without waiting, waits itself, and when all of the response has come the
 * rest is put into a file, which goes down in one piece: httpd's event MPM sends it without a
 * thread. It sees what goes over the wire, so it does not matter what other filters make of a
 * response, or that TLS does. On connections of an asynchronous MPM alone; streams of HTTP/2 have
 * none. */
#ifndef GLUE_OUTLET_H
#define GLUE_OUTLET_H

#include "glue.h"

/* Waits until the socket `client` can be written, for at most so long (below 0: for ever). 0: it
 * can, or it failed; 1: nothing more will come from the worker, so there is no need to wait;
 * PYGLUE_E_TIMEOUT. Called while output goes down the filters. */
typedef int (*glue_outlet_wait_fn)(void *baton, int client, apr_interval_time_t timeout);

void glue_outlet_register(void);
/* Once in child_init, and for each connection. */
void glue_outlet_child_init(void);
int glue_outlet_pre_connection(conn_rec *c, void *csd);

/* The response of r goes through it from now on; again for another try. 0: there is none. */
int glue_outlet_begin(request_rec *r, glue_outlet_wait_fn wait, void *baton);
/* Nothing more comes from the worker, and `wait` is not called any more. Where the response has not
 * started, that of somebody else follows, which is not waited for here. */
void glue_outlet_end(request_rec *r, int has_started);

#endif
