/* SPDX-License-Identifier: Apache-2.0 */
/* The steps on Linux, in their order, and those that prepare a process for its program: session,
 * signals, limits, cgroup, umask, execve. Up: jail.c. Down: files_linux.c, drop_linux.c. */
#include "jail_linux.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SIGSET_SIZE = _NSIG / 8 };

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
    return jail_done_if(jail_is_child_of(run->parent));
}

static int step_setsid(jail_run_t *run) {
    (void)run;
    if (syscall(SYS_setsid) == -1)
        return -errno;
    return jail_done_if(syscall(SYS_getsid, 0) == syscall(SYS_getpid));
}

/* Signals. */

/* The kernel's struct differs between machines, but is all zeros for the default everywhere, and
 * begins with handler and flags in either order. */
static int set_default(int number) {
    unsigned long action[16] = {0};

    if (syscall(SYS_rt_sigaction, number, action, NULL, SIGSET_SIZE) == -1)
        return -errno;
    memset(action, JAIL_POISON, sizeof action);
    if (syscall(SYS_rt_sigaction, number, NULL, action, SIGSET_SIZE) == -1)
        return -errno;
    return jail_done_if(action[0] == 0 && action[1] == 0);
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
    memset(mask, JAIL_POISON, sizeof mask);
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, mask, sizeof mask) == -1)
        return -errno;
    for (size_t i = 0; i < sizeof mask && rv == 0; i++)
        rv = jail_done_if(mask[i] == 0);
    return rv;
}

/* Limits. */

static int step_limits(jail_run_t *run) {
    for (unsigned i = 0; i < run->plan->limit_count; i++) {
        const jail_limit_t *limit = &run->plan->limits[i];
        uint64_t is[2], wanted[2] = {limit->soft, limit->hard}; /* struct rlimit64 */

        if (syscall(SYS_prlimit64, 0, limit->resource, wanted, NULL) == -1)
            return -errno;
        memset(is, JAIL_POISON, sizeof is);
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
    return jail_done_if(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 20 - nice);
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
    return rv < 0 ? rv : jail_done_if(rv == 1);
}

static int step_cgroup(jail_run_t *run) {
    int rv = 0;

    for (unsigned i = 0; i < run->plan->cgroup_count && rv == 0; i++)
        rv = join(run->cgroups[i]);
    return rv;
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
    return jail_done_if(syscall(SYS_umask, wanted) == wanted);
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
    {"descriptors", jail_step_descriptors, 0},
    {"signals", step_signals, 0},
    {"limits", step_limits, 0},
    {"nice", step_nice, 0},
    {"cgroup", step_cgroup, 0},
    {"chroot", jail_step_chroot, 0},
    {"dumpable", jail_step_dumpable, 0},
    {"bounding", jail_step_bounding, 1},
    {"setgroups", jail_step_setgroups, 1},
    {"setresgid", jail_step_setresgid, 1},
    {"setresuid", jail_step_setresuid, 1},
    {"undumpable", jail_step_undumpable, 1},
    {"return", jail_step_return, 1},
    {"capabilities", jail_step_capabilities, 0},
    {"no_new_privs", jail_step_no_new_privs, 0},
    {"umask", step_umask, 0},
    {"chdir", jail_step_chdir, 0},
    {"execve", step_execve, 0},
};
const unsigned jail_step_count = sizeof jail_steps / sizeof jail_steps[0];
