/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of root-owned files. Symbolic links are resolved first, and the chain that leads to
 * each link is checked as well: whoever can replace a link chooses what root runs. */
#include "glue_trust.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#define WRITABLE (S_IWGRP | S_IWOTH)

static const char *check(const char *path, apr_pool_t *pool) {
    struct stat st;

    if (lstat(path, &st) != 0)
        return apr_psprintf(pool, "%s cannot be looked at", path);
    if (st.st_uid != 0)
        return apr_psprintf(pool, "%s is not owned by root", path);
    if (!S_ISLNK(st.st_mode) && (st.st_mode & WRITABLE) &&
        !(S_ISDIR(st.st_mode) && (st.st_mode & S_ISVTX)))
        return apr_psprintf(pool, "%s is writable by others than root", path);
    return NULL;
}

static const char *check_components(const char *path, apr_pool_t *pool) {
    const char *complaint = check("/", pool);

    for (const char *slash = path; complaint == NULL && *slash != '\0';) {
        const char *next = strchr(slash + 1, '/');

        if (next == NULL)
            next = slash + strlen(slash);
        complaint = check(apr_pstrmemdup(pool, path, (apr_size_t)(next - path)), pool);
        slash = next;
    }
    return complaint;
}

const char *glue_trust_complaint(const char *path, apr_pool_t *pool) {
    char *resolved = realpath(path, NULL);
    const char *complaint = check_components(path, pool);

    if (resolved == NULL)
        return apr_psprintf(pool, "%s does not exist", path);
    if (complaint == NULL)
        complaint = check_components(resolved, pool);
    free(resolved);
    return complaint;
}
