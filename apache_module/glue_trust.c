/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of root-owned files, walked as the kernel walks it: whoever can replace a link on the
 * way, or an entry of a folder that is passed, chooses what root runs. */
#include "glue_trust.h"

#include <apr_file_info.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITABLE (S_IWGRP | S_IWOTH)
#define LINKS_MAX 40 /* as the kernel */

/* A way that is walked. */
typedef struct walk {
    const char *done; /* without links and dots; "" for the root folder */
    const char *rest;
    int links;
} walk_t;

/* NULL: nobody but root can change what is there. *mode is what was found. */
static const char *check(mode_t *mode, const char *path, apr_pool_t *pool) {
    struct stat st;

    if (lstat(path, &st) != 0)
        return apr_psprintf(pool, "%s cannot be looked at", path);
    *mode = st.st_mode;
    if (st.st_uid != 0)
        return apr_psprintf(pool, "%s is not owned by root", path);
    if (!S_ISLNK(st.st_mode) && (st.st_mode & WRITABLE) &&
        !(S_ISDIR(st.st_mode) && (st.st_mode & S_ISVTX)))
        return apr_psprintf(pool, "%s is writable by others than root", path);
    return NULL;
}

/* Puts the link's target before what is left of the way. */
static const char *follow(walk_t *walk, const char *link, apr_pool_t *pool) {
    char target[APR_PATH_MAX];
    ssize_t length = readlink(link, target, sizeof target);

    if (length < 0 || (size_t)length == sizeof target || ++walk->links > LINKS_MAX)
        return apr_psprintf(pool, "the link %s cannot be followed", link);
    if (target[0] == '/')
        walk->done = "";
    walk->rest =
        apr_pstrcat(pool, apr_pstrmemdup(pool, target, (apr_size_t)length), "/", walk->rest, NULL);
    return NULL;
}

static const char *enter(walk_t *walk, const char *name, apr_pool_t *pool) {
    const char *next, *complaint;
    mode_t mode = 0;

    if (name[0] == '\0' || strcmp(name, ".") == 0)
        return NULL;
    if (strcmp(name, "..") == 0) {
        const char *last = strrchr(walk->done, '/');

        walk->done = last ? apr_pstrmemdup(pool, walk->done, (apr_size_t)(last - walk->done)) : "";
        return NULL;
    }
    next = apr_pstrcat(pool, walk->done, "/", name, NULL);
    complaint = check(&mode, next, pool);
    if (complaint == NULL && S_ISLNK(mode))
        return follow(walk, next, pool);
    walk->done = next;
    return complaint;
}

const char *glue_trust_complaint(const char *path, apr_pool_t *pool) {
    walk_t walk = {"", path, 0};
    mode_t mode;
    const char *complaint = check(&mode, "/", pool);

    while (complaint == NULL && walk.rest[0] != '\0') {
        size_t length = strcspn(walk.rest, "/");
        const char *name = apr_pstrmemdup(pool, walk.rest, length);

        walk.rest += length + (walk.rest[length] == '/');
        complaint = enter(&walk, name, pool);
    }
    return complaint;
}

const char *glue_trust_folder_complaint(const char *folder, apr_pool_t *pool) {
    const char *complaint = glue_trust_complaint(folder, pool);
    apr_finfo_t entry;
    apr_dir_t *dir;

    if (complaint != NULL)
        return complaint;
    if (apr_dir_open(&dir, folder, pool) != APR_SUCCESS)
        return apr_psprintf(pool, "%s cannot be read", folder);
    while (complaint == NULL && apr_dir_read(&entry, APR_FINFO_TYPE, dir) == APR_SUCCESS) {
        const char *path = apr_pstrcat(pool, folder, "/", entry.name, NULL);

        if (strcmp(entry.name, ".") == 0 || strcmp(entry.name, "..") == 0)
            continue;
        complaint = entry.filetype == APR_DIR ? glue_trust_folder_complaint(path, pool)
                                              : glue_trust_complaint(path, pool);
    }
    apr_dir_close(dir);
    return complaint;
}
