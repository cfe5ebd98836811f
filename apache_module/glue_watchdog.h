/* SPDX-License-Identifier: Apache-2.0 */
/* Ends calls that drop what a worker attached to a socket, where the kernel cannot refuse that.
 *
 * A descriptor that nobody asked for is closed by whoever reads or closes the socket it came on,
 * and a lingering one lets him wait for as long as its sender wished (TENANTS 5); a signal ends
 * that. On Linux from 6.16 on there is nothing to end, and nothing is done. Any thread of a
 * child. */
#ifndef GLUE_WATCHDOG_H
#define GLUE_WATCHDOG_H

#include "glue.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16; older kernels answer ENOPROTOOPT */
#endif

/* Before all that use it; ends after them. */
void glue_watchdog_child_init(apr_pool_t *pchild);

/* recv(2) without a control buffer: the kernel closes a descriptor that comes with the bytes. It
 * must not wait for bytes longer than a second. */
ssize_t glue_watchdog_recv(int fd, void *memory, size_t len, int flags);
/* close(2) of what a stranger attached, or attached things to. */
void glue_watchdog_close(int fd);

#endif
