/* SPDX-License-Identifier: Apache-2.0 */
/* The steps on Linux that give descriptors away and enter directories. What they prove is identity:
 * that *this* file lies there, by two looks at one inode. Up: steps_linux.c. */
#include "jail_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef SYS_fcntl64
enum { FCNTL = SYS_fcntl64 };
#else
enum { FCNTL = SYS_fcntl };
#endif

/* Descriptors. */

struct identity {
    uint64_t inode;
    uint32_t device[2], node[2]; /* the file system; what a device file stands for */
    uint32_t owner, mode;
    long access; /* F_GETFL: the two ends of a pipe share one inode */
};

/* -errno, JAIL_NO_EFFECT when statx left the poison, or 0. */
static int look(struct identity *identity, int dir, const char *path, int flags) {
    struct statx st;

    memset(&st, JAIL_POISON, sizeof st);
    if (syscall(SYS_statx, dir, path, flags, STATX_BASIC_STATS, &st) == -1)
        return -errno;
    *identity = (struct identity){
        st.stx_ino,
        {st.stx_dev_major, st.stx_dev_minor},
        {st.stx_rdev_major, st.stx_rdev_minor},
        st.stx_uid,
        st.stx_mode,
        0,
    };
    return jail_done_if(st.stx_mask != JAIL_POISON * 0x01010101u && (st.stx_mask & STATX_INO));
}

static int look_fd(struct identity *identity, int fd) {
    int rv = look(identity, fd, "", AT_EMPTY_PATH);

    if (rv == 0 && (identity->access = syscall(FCNTL, fd, F_GETFL)) == -1)
        return -errno;
    return rv;
}

static int is_same(const struct identity *a, const struct identity *b) {
    return a->inode == b->inode && memcmp(a->device, b->device, sizeof a->device) == 0 &&
           memcmp(a->node, b->node, sizeof a->node) == 0 && a->access == b->access;
}

static int give(int from, int to, int flags) {
    struct identity wanted, is;
    int rv = look_fd(&wanted, from);

    if (rv != 0)
        return rv;
    if (syscall(SYS_dup3, from, to, flags) == -1)
        return -errno;
    if ((rv = look_fd(&is, to)) != 0)
        return rv;
    if (!is_same(&wanted, &is))
        return JAIL_NO_EFFECT;
    return jail_done_if(syscall(FCNTL, to, F_GETFD) == (flags ? FD_CLOEXEC : 0));
}

/* close_range is Linux 5.9's, and older container runtimes forbid what they don't know. */
static int close_from(const jail_run_t *run, int first) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return 0;
#endif
    for (int fd = first; fd < run->open_max; fd++)
        if (syscall(SYS_close, fd) == -1 && errno != EBADF && errno != EINTR)
            return -errno;
    return 0;
}

int jail_step_descriptors(jail_run_t *run) {
    int next = (int)run->plan->fd_count;
    int witness = run->report; /* open now, and to be closed */
    int rv = 0;

    for (int i = 0; i < next && rv == 0; i++)
        rv = give(run->copies[i], i, 0);
    if (rv != 0 || (rv = give(run->report, next, O_CLOEXEC)) != 0)
        return rv;
    run->report = next++;
    for (unsigned i = 0; i < run->plan->cgroup_count; i++) {
        if ((rv = give(run->cgroups[i], next, O_CLOEXEC)) != 0)
            return rv;
        run->cgroups[i] = next++;
    }
    if ((rv = close_from(run, next)) != 0)
        return rv;
    return jail_done_if(syscall(FCNTL, witness, F_GETFD) == -1 && errno == EBADF);
}

/* Directories. */

/* Up to the character `at` the path names a directory that nobody but root can change. */
static int check_component(char *path, size_t at) {
    struct identity is;
    char after = path[at];
    int rv;

    path[at] = '\0';
    rv = look(&is, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
    path[at] = after;
    if (rv != 0)
        return rv;
    return S_ISDIR(is.mode) && is.owner == 0 && (is.mode & (S_IWGRP | S_IWOTH)) == 0 ? 0 : -EPERM;
}

/* The rule of sshd's ChrootDirectory. Whoever may write a component could swap what root enters. */
static int check_chroot(char *path) {
    struct identity root;
    int rv = look(&root, AT_FDCWD, "/", 0);

    if (rv == 0 && (root.owner != 0 || (root.mode & (S_IWGRP | S_IWOTH)) != 0))
        rv = -EPERM;
    for (size_t i = 1; rv == 0 && path[i - 1] != '\0'; i++)
        if (path[i] == '/' || path[i] == '\0')
            rv = check_component(path, i);
    return rv;
}

/* Makes `path` the current directory, and proves it: two looks at one inode. */
static int enter(const char *path) {
    struct identity wanted, is;
    int rv = look(&wanted, AT_FDCWD, path, 0);

    if (rv != 0)
        return rv;
    if (syscall(SYS_chdir, path) == -1)
        return -errno;
    rv = look(&is, AT_FDCWD, ".", 0);
    return rv != 0 ? rv : jail_done_if(is_same(&wanted, &is));
}

int jail_step_chroot(jail_run_t *run) {
    struct identity wanted, is;
    int rv;

    if (run->chroot == NULL)
        return 0;
    if ((rv = check_chroot(run->chroot)) != 0 ||
        (rv = look(&wanted, AT_FDCWD, run->chroot, AT_SYMLINK_NOFOLLOW)) != 0)
        return rv;
    if (syscall(SYS_chroot, run->chroot) == -1)
        return -errno;
    if ((rv = look(&is, AT_FDCWD, "/", 0)) != 0)
        return rv;
    return is_same(&wanted, &is) ? enter("/") : JAIL_NO_EFFECT;
}

int jail_step_chdir(jail_run_t *run) {
    const jail_plan_t *plan = run->plan;
    int rv = enter(plan->home ? plan->home : "/");
    int is_missing = rv == -ENOENT || rv == -ENOTDIR || rv == -EACCES;

    return is_missing && plan->home_optional ? enter("/") : rv;
}
