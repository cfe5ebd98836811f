/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of blocks of one buffer each. The last one is filled in memory; when it is full it stays
 * there while buffers are left, and else is written into the file as a whole. Which bytes are where
 * follows from their position alone: block number N has its place in the ring. */
#include "glue_spool.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "glue_buffer.h"
#include "glue_clock.h"
#include "glue_log.h"

#define BLOCK GLUE_BUFFER
#define TELL_EVERY apr_time_from_sec(60)

static const char *folder = "/tmp"; /* frozen after child_init */
static _Atomic apr_time_t told;     /* when the log was last told of a file that cannot be had */

void glue_spool_child_init(apr_pool_t *pchild) {
    const char *found;

    if (apr_temp_dir_get(&found, pchild) == APR_SUCCESS)
        folder = found;
}

/* The file. */

/* File systems that cannot make a file without a name get one of chance, which is taken away at
 * once. */
int glue_spool_file(void) {
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char path[APR_PATH_MAX];

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT))
        return fd;
    apr_snprintf(path, sizeof path, "%s/pyglue-XXXXXX", folder);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static apr_off_t place_of(const glue_spool_t *spool, apr_off_t position) {
    apr_off_t blocks = spool->most / BLOCK + 2;

    return position / BLOCK % blocks * BLOCK + position % BLOCK;
}

/* A whole block into the file. 0 or an errno. */
static int write_block(glue_spool_t *spool, apr_off_t block, const char *bytes) {
    apr_off_t place = place_of(spool, block * BLOCK);

    if (!spool->has_file) {
        spool->fd = glue_spool_file();
        if (spool->fd < 0)
            return errno;
        spool->has_file = 1;
    }
    for (apr_size_t done = 0; done < BLOCK;) {
        ssize_t n = pwrite(spool->fd, bytes + done, BLOCK - done, place + (apr_off_t)done);

        if (n == 0 || (n < 0 && errno != EINTR))
            return n < 0 ? errno : ENOSPC;
        done += n > 0 ? (apr_size_t)n : 0;
    }
    return 0;
}

/* The buffers. */

/* That of a block; -1: the block is in the file, or not begun. */
static int find(const glue_spool_t *spool, apr_off_t block) {
    for (int i = 0; i < GLUE_SPOOL_BUFFERS; i++)
        if (spool->kept[i].bytes != NULL && spool->kept[i].block == block)
            return i;
    return -1;
}

static int find_free(const glue_spool_t *spool) {
    for (int i = 0; i < GLUE_SPOOL_BUFFERS; i++)
        if (spool->kept[i].bytes == NULL)
            return i;
    return -1;
}

/* A buffer for a block that begins: a free one, or that of the block before it, which is full. -1:
 * there is none. */
static int begin_block(glue_spool_t *spool, apr_off_t block) {
    int i = find_free(spool);

    if (i >= 0) {
        spool->kept[i].bytes = glue_buffer_get();
        if (spool->kept[i].bytes == NULL)
            return -1;
    } else {
        i = find(spool, block - 1);
        if (i < 0)
            return -1;
        if (spool->error == 0)
            spool->error = write_block(spool, block - 1, spool->kept[i].bytes);
        if (spool->error != 0)
            return -1;
    }
    spool->kept[i].block = block;
    return i;
}

void *glue_spool_space(glue_spool_t *spool, apr_size_t *room) {
    apr_off_t block = spool->end / BLOCK, left = spool->most - glue_spool_held(spool);
    apr_size_t at = (apr_size_t)(spool->end % BLOCK);
    int i;

    if (left <= 0)
        return NULL;
    i = find(spool, block);
    if (i < 0)
        i = begin_block(spool, block);
    if (i < 0)
        return NULL;
    *room = BLOCK - at;
    if ((apr_off_t)*room > left)
        *room = (apr_size_t)left;
    return spool->kept[i].bytes + at;
}

void glue_spool_put(glue_spool_t *spool, apr_size_t len) {
    spool->end += (apr_off_t)len;
}

/* Taking. */

static apr_ssize_t read_file(glue_spool_t *spool, void *memory, apr_size_t len) {
    ssize_t got;

    do
        got = pread(spool->fd, memory, len, place_of(spool, spool->start));
    while (got < 0 && errno == EINTR);
    if (got > 0)
        return got;
    spool->error = got < 0 ? errno : EIO;
    return PYGLUE_E_IO;
}

/* Its buffer is given back when all of a block was taken, or all that there is. */
static void release_taken(glue_spool_t *spool, int i) {
    if (spool->start % BLOCK != 0 && spool->start != spool->end)
        return;
    glue_buffer_put(spool->kept[i].bytes);
    spool->kept[i].bytes = NULL;
    if (spool->start == spool->end)
        spool->start = spool->end = 0;
}

apr_ssize_t glue_spool_take(glue_spool_t *spool, void *memory, apr_size_t len) {
    int i = find(spool, spool->start / BLOCK);
    apr_size_t at = (apr_size_t)(spool->start % BLOCK);
    apr_ssize_t got;

    if (len > BLOCK - at)
        len = BLOCK - at;
    if ((apr_off_t)len > glue_spool_held(spool))
        len = (apr_size_t)glue_spool_held(spool);
    if (len == 0)
        return 0;
    if (i >= 0)
        memcpy(memory, spool->kept[i].bytes + at, got = (apr_ssize_t)len);
    else
        got = read_file(spool, memory, len);
    if (got > 0)
        spool->start += got;
    if (i >= 0)
        release_taken(spool, i);
    return got;
}

/* The rest. */

void glue_spool_tell(glue_spool_t *spool, const char *what, request_rec *r) {
    apr_time_t now = glue_clock_now(), before = atomic_load(&told);

    if (spool->error == 0 || spool->was_told)
        return;
    spool->was_told = 1;
    if ((before != 0 && now - before < TELL_EVERY) ||
        !atomic_compare_exchange_strong(&told, &before, now))
        return;
    ap_log_rerror(APLOG_MARK, APLOG_WARNING, spool->error, r,
                  GLUE_ID(0520) "%s: a file in %s (TMPDIR) could not be made, written or read; "
                                "what fits into memory alone is kept there, and slow clients hold "
                                "threads of workers",
                  what, folder);
}

void glue_spool_end(glue_spool_t *spool) {
    for (int i = 0; i < GLUE_SPOOL_BUFFERS; i++) {
        glue_buffer_put(spool->kept[i].bytes);
        spool->kept[i].bytes = NULL;
    }
    if (spool->has_file)
        close(spool->fd);
    spool->has_file = spool->error = spool->was_told = 0;
    spool->start = spool->end = 0;
}
