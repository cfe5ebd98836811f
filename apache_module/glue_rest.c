/* SPDX-License-Identifier: Apache-2.0 */
/* A file of the bytes alone, without the frames between them that the spool has, so that it is one
 * bucket. */
#include "glue_rest.h"

#include <unistd.h>

#include "glue_buffer.h"
#include "glue_spool.h"

static int write_all(const glue_rest_t *rest, pyglue_str_t bytes) {
    for (apr_size_t done = 0; done < bytes.len;) {
        ssize_t n =
            pwrite(rest->fd, bytes.ptr + done, bytes.len - done, rest->length + (apr_off_t)done);

        if (n == 0 || (n < 0 && errno != EINTR))
            return -1;
        done += n > 0 ? (apr_size_t)n : 0;
    }
    return 0;
}

static int open_file(glue_rest_t *rest) {
    if (!rest->has_file && !rest->is_of_no_use) {
        rest->fd = glue_spool_file();
        rest->has_file = rest->fd >= 0;
    }
    return rest->has_file && !rest->is_of_no_use;
}

int glue_rest_add(glue_rest_t *rest, pyglue_str_t bytes) {
    rest->is_of_no_use = !open_file(rest) || write_all(rest, bytes) != 0;
    if (!rest->is_of_no_use)
        rest->length += (apr_off_t)bytes.len;
    return !rest->is_of_no_use;
}

int glue_rest_put(glue_rest_t *rest, glue_host_t *host, pyglue_str_t bytes) {
    return glue_rest_add(rest, bytes) ? 1 : glue_rest_send(rest, host, 0);
}

/* Back again, and down piece by piece. */
static int write_back(glue_rest_t *rest, glue_host_t *host) {
    char *buffer = glue_buffer_get();
    int error = buffer != NULL ? 0 : PYGLUE_E_NOMEM;

    for (apr_off_t at = 0; error == 0 && at < rest->length;) {
        ssize_t got;

        do
            got = pread(rest->fd, buffer, GLUE_BUFFER, at);
        while (got < 0 && errno == EINTR);
        error = got > 0
                    ? host->base.ops->write(&host->base, &(struct iovec){buffer, (size_t)got}, 1, 0)
                    : PYGLUE_E_IO;
        at += got;
    }
    glue_buffer_put(buffer);
    return error;
}

int glue_rest_send(glue_rest_t *rest, glue_host_t *host, int is_last) {
    int error;

    if (rest->length == 0)
        return 0;
    error = is_last ? glue_host_own_file(host, rest->fd, rest->length) : write_back(rest, host);
    rest->length = 0;
    return error;
}

void glue_rest_end(glue_rest_t *rest) {
    if (rest->has_file)
        close(rest->fd);
}
