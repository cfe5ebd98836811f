/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets to workers: how one is made and its peer proved, and those of this child that wait for
 * their next request. A bounded number waits; the least recently used goes.
 *
 * What is said over a socket is glue_conn.c's. Sockets are blocking with a timeout of
 * GLUE_LINK_SLICE, so that the usual exchange needs no poll. Any thread of a child; a link is one
 * thread's at a time. */
#ifndef GLUE_LINK_H
#define GLUE_LINK_H

#include "glue.h"
#include "placement.h"

#define GLUE_LINK_SLICE apr_time_from_sec(1) /* of a blocking call */

typedef struct glue_link {
    int fd;                 /* -1: none */
    int admits_descriptors; /* they can be sent to it: SO_PASSRIGHTS */
    uint64_t worker;        /* its number */
} glue_link_t;

/* Once in child_init. Registers the end of all idle sockets with pchild. supervisor: who must have
 * called listen (TENANTS 4). */
void glue_link_child_init(apr_pool_t *pchild, uid_t supervisor);

/* A new socket to this worker, closed to descriptors; no byte was exchanged. link->fd is the
 * caller's also after an error, or -1.
 * 0; PYGLUE_E_GONE: nobody listens any more; PYGLUE_E_TOO_BIG: the queue of its socket is full;
 * PYGLUE_E_PROTOCOL: it is not the supervisor's; PYGLUE_E_IO: errno says why. */
int glue_link_open(glue_link_t *link, const pyglue_worker_entry_t *worker);

/* Opens the socket to descriptors, or closes it to them where the kernel can (TENANTS 5): whoever
 * sends one then gets EPERM. */
void glue_link_admit(glue_link_t *link, int is_open);

/* An idle socket to this worker, the one used last, which may have been closed by it meanwhile.
 * 0: there is none. */
int glue_link_take(glue_link_t *link, uint64_t worker);
/* Nothing is on its way on it: it waits for the next request. Takes link->fd. */
void glue_link_keep(const glue_link_t *link);
/* Closes the idle sockets on which something has come: a goodbye, or their end. */
void glue_link_sweep(void);

#endif
