/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that wait for somebody slow: a queue that lies in memory first and then in an unlinked
 * file.
 *
 * It holds a bounded number of bytes and a few buffers of glue_buffer.c's, however long what passes
 * through it is: the file is a ring. Where no file can be made or written, for want of disk or
 * permission, the queue is as long as its buffers; nothing that was put is ever lost, and whoever
 * fills it waits as if there were no file. One thread at a time. */
#ifndef GLUE_SPOOL_H
#define GLUE_SPOOL_H

#include "glue.h"

#define GLUE_SPOOL_BUFFERS 4 /* of GLUE_BUFFER bytes: 256 KiB */

/* Ready when all is zero but `most`. Fields are glue_spool.c's. */
typedef struct glue_spool {
    apr_off_t most;       /* bytes that it may hold; 0: none */
    apr_off_t start, end; /* positions in what passed: the next byte to take, and to put */
    struct {
        char *bytes; /* NULL: not in use */
        apr_off_t block;
    } kept[GLUE_SPOOL_BUFFERS];
    int fd; /* of the file, if has_file */
    int has_file;
    int error; /* errno: why there is no file, or it cannot be written or read; 0: none */
    int was_told;
} glue_spool_t;

/* Once in child_init. */
void glue_spool_child_init(apr_pool_t *pchild);

/* A new file without a name, which is gone when it is closed, for other uses: its descriptor, the
 * caller's; -1: errno. */
int glue_spool_file(void);

/* Memory for the next bytes; *room: how many, at least one. NULL: it is full. Blocks on the disk
 * alone. */
void *glue_spool_space(glue_spool_t *spool, apr_size_t *room);
/* So many bytes were written there. */
void glue_spool_put(glue_spool_t *spool, apr_size_t len);

static inline apr_off_t glue_spool_held(const glue_spool_t *spool) {
    return spool->end - spool->start;
}

/* The next bytes, at most len. The count, 0: it is empty; PYGLUE_E_IO: the file cannot be read. */
apr_ssize_t glue_spool_take(glue_spool_t *spool, void *memory, apr_size_t len);

/* Says in the log why there is no file, if that is so: once for a spool, once a minute in this
 * child. `what` is spooled. */
void glue_spool_tell(glue_spool_t *spool, const char *what, request_rec *r);

/* Gives up what is in it, and the file. It is empty then, and may be used again. */
void glue_spool_end(glue_spool_t *spool);

#endif
