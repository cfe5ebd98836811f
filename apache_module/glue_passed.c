/* SPDX-License-Identifier: Apache-2.0 */
/* Checks a passed descriptor in the order that keeps each look harmless: flags, then the file
 * system by the number of its mount, which even a silent FUSE daemon cannot delay, and only then
 * the file. */
#include "glue_passed.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* What answers by itself. Network file systems and FUSE are refused: they can block this child. */
static const char *const known[] = {"ext2", "ext3",  "ext4",    "xfs",      "btrfs", "f2fs",
                                    "zfs",  "tmpfs", "overlay", "bcachefs", "erofs", "squashfs"};

static int is_known(const char *type) {
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(type, known[i]) == 0)
            return 1;
    return 0;
}

/* The mount's number from fdinfo: asks the kernel, not the file system. -1: unknown. */
static long mount_of(int fd) {
    char path[40], line[128];
    long mount = -1;
    FILE *f;

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    f = fopen(path, "re");
    while (f != NULL && mount < 0 && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "mnt_id: %ld", &mount) != 1)
            mount = -1;
    if (f != NULL)
        fclose(f);
    return mount;
}

/* A line of mountinfo: its number first, the type after " - ". */
static int is_on_known(int fd) {
    long wanted = mount_of(fd), mount;
    char line[4096], type[32];
    FILE *f = wanted < 0 ? NULL : fopen("/proc/self/mountinfo", "re");
    int answer = 0;

    while (f != NULL && !answer && fgets(line, sizeof line, f) != NULL) {
        const char *rest = strstr(line, " - ");

        answer = rest != NULL && sscanf(line, "%ld", &mount) == 1 && mount == wanted &&
                 sscanf(rest, " - %31s", type) == 1 && is_known(type);
    }
    if (f != NULL)
        fclose(f);
    return answer;
}

const char *glue_passed_check(int fd, const pyglue_file_t *file) {
    int flags = fcntl(fd, F_GETFL);
    struct stat st;

    if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY || (flags & (O_PATH | O_DIRECT)) != 0)
        return "it is not open for plain reading";
    if (!is_on_known(fd))
        return "its file system is not one that httpd can read without waiting for others";
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
        return "it is no regular file with a size";
    if (file->offset > (uint64_t)st.st_size || file->length > (uint64_t)st.st_size - file->offset)
        return "the file is shorter than was announced";
    return NULL;
}

/* How many are kept. */

static unsigned kept_max;     /* frozen after child_init */
static _Atomic unsigned kept; /* of this child */

void glue_passed_child_init(void) {
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        kept_max = files.rlim_cur < INT_MAX ? (unsigned)files.rlim_cur / 4 : INT_MAX;
}

static apr_status_t forget(void *unused) {
    (void)unused;
    atomic_fetch_sub(&kept, 1);
    return APR_SUCCESS;
}

int glue_passed_keep(apr_pool_t *pool) {
    if (atomic_fetch_add(&kept, 1) >= kept_max) {
        atomic_fetch_sub(&kept, 1);
        return 0;
    }
    apr_pool_cleanup_register(pool, NULL, forget, apr_pool_cleanup_null);
    return 1;
}
