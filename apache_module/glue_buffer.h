/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers for what passes between workers and clients. Each is a request's while it waits for
 * bytes, not a thread's, so a child keeps a bounded number of free ones for all of its requests.
 * Any thread of a child. */
#ifndef GLUE_BUFFER_H
#define GLUE_BUFFER_H

#define GLUE_BUFFER 65536 /* bytes of each */

/* One of GLUE_BUFFER bytes, with anything in it; NULL: no memory. */
void *glue_buffer_get(void);
void glue_buffer_put(void *buffer); /* NULL is ignored */

#endif
