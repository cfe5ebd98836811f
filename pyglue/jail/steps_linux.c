/* SPDX-License-Identifier: Apache-2.0 */
/* The steps on Linux, in their order. Each proves identity, not a property: that *this* descriptor
 * lies there, that *these* groups are held. What is read back goes into poisoned memory, so that a
 * call that said yes and did nothing is found out; where the wanted value is 0, which is also what
 * a lie looks like, another value is set and seen first.
 * All calls are raw: glibc's setuid signals other threads, its sigaction answers from its own
 * memory, and nothing here may take a lock. Up: jail.c. */
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* 32-bit kernels have two generations of these; the old ones cut ids to 16 bits. */
#ifdef SYS_setresuid32
enum {
    SETGROUPS = SYS_setgroups32,
    GETGROUPS = SYS_getgroups32,
    SETRESGID = SYS_setresgid32,
    GETRESGID = SYS_getresgid32,
    SETRESUID = SYS_setresuid32,
    GETRESUID = SYS_getresuid32
};
#else
enum {
    SETGROUPS = SYS_setgroups,
    GETGROUPS = SYS_getgroups,
    SETRESGID = SYS_setresgid,
    GETRESGID = SYS_getresgid,
    SETRESUID = SYS_setresuid,
    GETRESUID = SYS_getresuid
};
#endif
#ifdef SYS_fcntl64
enum { FCNTL = SYS_fcntl64 };
#else
enum { FCNTL = SYS_fcntl };
#endif

enum { POISON = 0xa5, SIGSET_SIZE = _NSIG / 8 };

static int done_if(int is_so) {
    return is_so ? 0 : JAIL_NO_EFFECT;
}

int jail_is_child_of(pid_t parent) {
    return syscall(SYS_getpid) != parent;
}

void jail_say(int fd, const jail_report_t *report) {
    while (syscall(SYS_write, fd, report, sizeof *report) == -1 && errno == EINTR)
        ;
}

void jail_exit(int status) {
    for (;;)
        syscall(SYS_exit_group, status);
}

int jail_pidfd(pid_t pid) {
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
#else
    (void)pid;
    return -1;
#endif
}

static int step_child(jail_run_t *run) {
    return done_if(jail_is_child_of(run->parent));
}

static int step_setsid(jail_run_t *run) {
    (void)run;
    if (syscall(SYS_setsid) == -1)
        return -errno;
    return done_if(syscall(SYS_getsid, 0) == syscall(SYS_getpid));
}

/* Descriptors and files. */

struct identity {
    uint64_t inode;
    uint32_t device[2], node[2]; /* the file system; what a device file stands for */
    uint32_t owner, mode;
    long access; /* F_GETFL: the two ends of a pipe share one inode */
};

/* -errno, JAIL_NO_EFFECT when statx left the poison, or 0. */
static int look(struct identity *identity, int dir, const char *path, int flags) {
    struct statx st;

    memset(&st, POISON, sizeof st);
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
    return done_if(st.stx_mask != POISON * 0x01010101u && (st.stx_mask & STATX_INO));
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
    return done_if(syscall(FCNTL, to, F_GETFD) == (flags ? FD_CLOEXEC : 0));
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

static int step_descriptors(jail_run_t *run) {
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
    return done_if(syscall(FCNTL, witness, F_GETFD) == -1 && errno == EBADF);
}

/* Signals. */

/* The kernel's struct differs between machines, but is all zeros for the default everywhere, and
 * begins with handler and flags in either order. */
static int set_default(int number) {
    unsigned long action[16] = {0};

    if (syscall(SYS_rt_sigaction, number, action, NULL, SIGSET_SIZE) == -1)
        return -errno;
    memset(action, POISON, sizeof action);
    if (syscall(SYS_rt_sigaction, number, NULL, action, SIGSET_SIZE) == -1)
        return -errno;
    return done_if(action[0] == 0 && action[1] == 0);
}

/* Python leaves SIGPIPE ignored, and what is ignored stays so over exec. */
static int step_signals(jail_run_t *run) {
    unsigned char mask[SIGSET_SIZE] = {0};
    int rv = 0;

    (void)run;
    for (int number = 1; number < _NSIG && rv == 0; number++)
        if (number != SIGKILL && number != SIGSTOP)
            rv = set_default(number);
    if (rv != 0)
        return rv;
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, sizeof mask) == -1)
        return -errno;
    memset(mask, POISON, sizeof mask);
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, mask, sizeof mask) == -1)
        return -errno;
    for (size_t i = 0; i < sizeof mask && rv == 0; i++)
        rv = done_if(mask[i] == 0);
    return rv;
}

/* Limits. */

static int step_limits(jail_run_t *run) {
    for (unsigned i = 0; i < run->plan->limit_count; i++) {
        const jail_limit_t *limit = &run->plan->limits[i];
        uint64_t is[2], wanted[2] = {limit->soft, limit->hard}; /* struct rlimit64 */

        if (syscall(SYS_prlimit64, 0, limit->resource, wanted, NULL) == -1)
            return -errno;
        memset(is, POISON, sizeof is);
        if (syscall(SYS_prlimit64, 0, limit->resource, NULL, is) == -1)
            return -errno;
        if (memcmp(is, wanted, sizeof is) != 0)
            return JAIL_NO_EFFECT;
    }
    return 0;
}

/* The raw getpriority answers 20 - nice: never 0. */
static int step_nice(jail_run_t *run) {
    int nice = run->plan->nice;

    if (nice == 0)
        return 0;
    if (syscall(SYS_setpriority, PRIO_PROCESS, 0, nice) == -1)
        return -errno;
    return done_if(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 20 - nice);
}

/* Is this pid a line of the file? 1, 0 or -errno. */
static int has_line(int fd, long pid) {
    char block[512];
    long number = 0, got;

    while ((got = syscall(SYS_read, fd, block, sizeof block)) > 0)
        for (long i = 0; i < got; i++) {
            if (block[i] == '\n' && number == pid)
                return 1;
            number = block[i] == '\n' ? 0 : number * 10 + (block[i] - '0');
        }
    return got == -1 ? -errno : 0;
}

/* 0 is whoever writes it. */
static int join(int cgroup) {
    int rv;

    if (syscall(SYS_write, cgroup, "0", 1) == -1)
        return -errno;
    if (syscall(SYS_lseek, cgroup, 0, SEEK_SET) == -1)
        return -errno;
    rv = has_line(cgroup, syscall(SYS_getpid));
    return rv < 0 ? rv : done_if(rv == 1);
}

static int step_cgroup(jail_run_t *run) {
    int rv = 0;

    for (unsigned i = 0; i < run->plan->cgroup_count && rv == 0; i++)
        rv = join(run->cgroups[i]);
    return rv;
}

/* Root's last deeds. */

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
    return rv != 0 ? rv : done_if(is_same(&wanted, &is));
}

static int step_chroot(jail_run_t *run) {
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

static int set_dumpable(long value) {
    if (syscall(SYS_prctl, PR_SET_DUMPABLE, value, 0, 0, 0) == -1)
        return -errno;
    return done_if(syscall(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0) == value);
}

/* From the change of user until exec the memory is still the supervisor's: keys, other groups'
 * environments. Not dumpable, the tenant's other processes cannot look into it. */
static int step_dumpable(jail_run_t *run) {
    int rv = set_dumpable(1);

    (void)run;
    return rv != 0 ? rv : set_dumpable(0);
}

/* A change of user sets it to fs.suid_dumpable, which may be 1. The way over 1, which proves 0
 * above, would open to the tenant here what it is to close. */
static int step_undumpable(jail_run_t *run) {
    (void)run;
    return set_dumpable(0);
}

/* Only under no_new_privs: without it, mail and sudo need what their setuid bits give. */
static int step_bounding(jail_run_t *run) {
    long cap, held;

    if (!run->plan->no_new_privs)
        return 0;
    for (cap = 0; (held = syscall(SYS_prctl, PR_CAPBSET_READ, cap, 0, 0, 0)) != -1; cap++) {
        if (held == 1 && syscall(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) == -1)
            return -errno;
        if (syscall(SYS_prctl, PR_CAPBSET_READ, cap, 0, 0, 0) != 0 || cap == 64)
            return JAIL_NO_EFFECT; /* 64: more than a kernel can have; it says yes to all */
    }
    /* EINVAL: one past the last that this kernel knows. All that we run on know CAP_AUDIT_READ. */
    return errno == EINVAL && cap > CAP_AUDIT_READ ? 0 : -errno;
}

/* The drop. */

static int step_setgroups(jail_run_t *run) {
    const jail_plan_t *plan = run->plan;
    size_t size = plan->group_count * sizeof(gid_t);
    long count;

    if (syscall(SETGROUPS, plan->group_count, plan->groups) == -1)
        return -errno;
    memset(run->groups_seen, POISON, size + sizeof(gid_t));
    count = syscall(GETGROUPS, plan->group_count + 1, run->groups_seen);
    if (count == -1) /* EINVAL: more groups than were asked for */
        return errno == EINVAL ? JAIL_NO_EFFECT : -errno;
    return done_if(count == (long)plan->group_count &&
                   memcmp(run->groups_seen, plan->groups, size) == 0);
}

/* All three of a process's ids are this one. */
static int has_ids(long call, unsigned id) {
    unsigned ids[3];

    memset(ids, POISON, sizeof ids);
    if (syscall(call, &ids[0], &ids[1], &ids[2]) == -1)
        return -errno;
    return done_if(ids[0] == id && ids[1] == id && ids[2] == id);
}

static int step_setresgid(jail_run_t *run) {
    gid_t gid = run->plan->gid;

    if (syscall(SETRESGID, gid, gid, gid) == -1)
        return -errno;
    return has_ids(GETRESGID, gid);
}

static int step_setresuid(jail_run_t *run) {
    uid_t uid = run->plan->uid;

    if (syscall(SETRESUID, uid, uid, uid) == -1)
        return -errno;
    return has_ids(GETRESUID, uid);
}

/* Having left is proved by not getting back: neither as user nor as group, nor by one id alone. */
static int step_return(jail_run_t *run) {
    int rv;

    if (syscall(SETRESUID, 0, 0, 0) != -1 || syscall(SETRESUID, -1, 0, -1) != -1 ||
        syscall(SETRESGID, 0, 0, 0) != -1 || syscall(SYS_setuid, 0) != -1)
        return JAIL_NO_EFFECT;
    rv = has_ids(GETRESUID, run->plan->uid);
    return rv != 0 ? rv : has_ids(GETRESGID, run->plan->gid);
}

/* Inheritable ones survive a change of user. The ambient set lies within permitted and inheritable,
 * by the kernel's own rule, so that both being empty proves it empty. */
static int step_capabilities(jail_run_t *run) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3], is[_LINUX_CAPABILITY_U32S_3];

    (void)run;
    memset(none, 0, sizeof none);
    if (syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1)
        return -errno;
    if (syscall(SYS_capset, &head, none) == -1)
        return -errno;
    head = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_3, 0};
    memset(is, POISON, sizeof is);
    if (syscall(SYS_capget, &head, is) == -1)
        return -errno;
    return done_if(memcmp(is, none, sizeof is) == 0);
}

static int step_no_new_privs(jail_run_t *run) {
    if (!run->plan->no_new_privs)
        return 0;
    if (syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
        return -errno;
    return done_if(syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

/* As the tenant. */

/* umask cannot be asked, only replaced: each value shows when the next one is set. */
static int step_umask(jail_run_t *run) {
    long wanted = run->plan->umask;

    if (wanted == -1)
        return 0;
    syscall(SYS_umask, 0777);
    if (syscall(SYS_umask, wanted) != 0777)
        return JAIL_NO_EFFECT;
    return done_if(syscall(SYS_umask, wanted) == wanted);
}

static int step_chdir(jail_run_t *run) {
    const jail_plan_t *plan = run->plan;
    int rv = enter(plan->home ? plan->home : "/");
    int is_missing = rv == -ENOENT || rv == -ENOTDIR || rv == -EACCES;

    return is_missing && plan->home_optional ? enter("/") : rv;
}

static int execute(const char *executable, const jail_plan_t *plan) {
    if (syscall(SYS_execve, executable, plan->argv, plan->envp) == -1)
        return -errno;
    return JAIL_NO_EFFECT;
}

static int step_execve(jail_run_t *run) {
    const jail_plan_t *plan = run->plan;
    int rv = execute(plan->executable, plan);

    if (rv != -ENOENT || plan->otherwise == NULL)
        return rv;
    plan->argv[0] = plan->otherwise; /* the child's own memory */
    return execute(plan->otherwise, plan);
}

const jail_step_t jail_steps[] = {
    {"child", step_child, 0},
    {"setsid", step_setsid, 0},
    {"descriptors", step_descriptors, 0},
    {"signals", step_signals, 0},
    {"limits", step_limits, 0},
    {"nice", step_nice, 0},
    {"cgroup", step_cgroup, 0},
    {"chroot", step_chroot, 0},
    {"dumpable", step_dumpable, 0},
    {"bounding", step_bounding, 1},
    {"setgroups", step_setgroups, 1},
    {"setresgid", step_setresgid, 1},
    {"setresuid", step_setresuid, 1},
    {"undumpable", step_undumpable, 1},
    {"return", step_return, 1},
    {"capabilities", step_capabilities, 0},
    {"no_new_privs", step_no_new_privs, 0},
    {"umask", step_umask, 0},
    {"chdir", step_chdir, 0},
    {"execve", step_execve, 0},
};
const unsigned jail_step_count = sizeof jail_steps / sizeof jail_steps[0];
