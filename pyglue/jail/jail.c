/* SPDX-License-Identifier: Apache-2.0 */
/* The runner: prepares all that a child may need, forks, walks the table, reports.
 * Knows no step by name. Down: steps_linux.c. */
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

const char *jail_check(const jail_plan_t *plan) {
    if (plan->fd_count < 3 || plan->fd_count > JAIL_FDS_MAX)
        return "fds must name 3 to 64 descriptors";
    if (plan->cgroup_count > JAIL_CGROUPS_MAX)
        return "cgroup_procs must name at most 4 files";
    if (plan->argv[0] == NULL)
        return "argv must not be empty";
    if (plan->chroot != NULL && plan->chroot[0] != '/')
        return "chroot must be an absolute path";
    if (plan->privileged && plan->uid == 0)
        return "a worker never runs as root: uid must not be 0";
    if (plan->privileged && plan->gid == 0)
        return "a worker never runs in root's group: gid must not be 0";
    if (!plan->privileged && (getuid() == 0 || geteuid() == 0))
        return "root starts a worker only as another user: privileged must be true";
    return NULL;
}

static void walk(jail_run_t *run) {
    for (unsigned i = 0; i < jail_step_count; i++) {
        int rv = jail_steps[i].privileged && !run->plan->privileged ? 0 : jail_steps[i].run(run);
        jail_report_t report = {i, rv < 0 ? -rv : 0};

        if (rv != 0) {
            jail_say(run->report, &report);
            return;
        }
    }
}

static int compare_gids(const void *a, const void *b) {
    gid_t left = *(const gid_t *)a, right = *(const gid_t *)b;

    return left < right ? -1 : left > right;
}

/* The kernel keeps groups sorted, so a sorted list without doubles is what it will answer. */
static void sort_groups(jail_plan_t *plan) {
    unsigned kept = 0;

    qsort(plan->groups, plan->group_count, sizeof plan->groups[0], compare_gids);
    for (unsigned i = 0; i < plan->group_count; i++)
        if (kept == 0 || plan->groups[kept - 1] != plan->groups[i])
            plan->groups[kept++] = plan->groups[i];
    plan->group_count = kept;
}

/* To be asked before anything is opened: a new descriptor could take the number of a closed one,
 * and be given to the tenant in its place. */
static int are_open(const jail_plan_t *plan) {
    int rv = 0;

    for (unsigned i = 0; i < plan->fd_count && rv != -1; i++)
        rv = fcntl(plan->fds[i], F_GETFD);
    for (unsigned i = 0; i < plan->cgroup_count && rv != -1; i++)
        rv = fcntl(plan->cgroups[i], F_GETFD);
    return rv != -1;
}

/* A close-on-exec copy above every number that the child will give away. */
static int copy_above(const jail_plan_t *plan, int fd) {
    int above = (int)(plan->fd_count + 1 + plan->cgroup_count);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, above);

    if (copy == -1 || copy >= above)
        return copy;
    errno = EBADF; /* the call lied: that number is somebody else's */
    return -1;
}

static int copy_descriptors(jail_run_t *run, int report) {
    const jail_plan_t *plan = run->plan;

    run->report = copy_above(plan, report);
    if (run->report == -1)
        return -errno;
    for (unsigned i = 0; i < plan->cgroup_count; i++)
        if ((run->cgroups[i] = copy_above(plan, plan->cgroups[i])) == -1)
            return -errno;
    for (unsigned i = 0; i < plan->fd_count; i++)
        if ((run->copies[i] = copy_above(plan, plan->fds[i])) == -1)
            return -errno;
    return 0;
}

static int prepare(jail_run_t *run, jail_plan_t *plan, int report) {
    struct rlimit files = {0, 0};

    *run = (jail_run_t){.plan = plan, .parent = getpid(), .report = -1};
    memset(run->copies, 0xff, sizeof run->copies); /* -1 */
    memset(run->cgroups, 0xff, sizeof run->cgroups);
    sort_groups(plan);
    run->groups_seen = calloc(plan->group_count + 1, sizeof(gid_t));
    run->chroot = plan->chroot ? strdup(plan->chroot) : NULL;
    if (run->groups_seen == NULL || (plan->chroot != NULL && run->chroot == NULL))
        return -ENOMEM;
    if (getrlimit(RLIMIT_NOFILE, &files) == -1)
        return -errno;
    run->open_max = files.rlim_max < INT32_MAX ? (int)files.rlim_max : INT32_MAX;
    return copy_descriptors(run, report);
}

static void drop(int fd) {
    if (fd != -1)
        close(fd);
}

static void release(jail_run_t *run) {
    free(run->groups_seen);
    free(run->chroot);
    drop(run->report);
    for (unsigned i = 0; i < run->plan->cgroup_count; i++)
        drop(run->cgroups[i]);
    for (unsigned i = 0; i < run->plan->fd_count; i++)
        drop(run->copies[i]);
}

/* Signals are blocked over the fork: a handler of the supervisor's, run in the child, would write
 * into the pipe by which the supervisor wakes itself. Plain fork, not vfork: from the change of
 * user on the child can be stopped by its tenant, and must not hold its parent with it. */
static int fork_and_walk(pid_t *pid, jail_run_t *run) {
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *pid = fork();
    error = errno;
    if (*pid == 0 && jail_is_child_of(run->parent)) {
        walk(run);
        jail_exit(JAIL_EXIT);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (*pid == 0) /* fork said "you are the child", and that is not so */
        return -ECHILD;
    return *pid == -1 ? -error : 0;
}

int jail_spawn(jail_child_t *child, jail_plan_t *plan) {
    jail_run_t run;
    int ends[2];
    int rv;

    if (!are_open(plan) || pipe2(ends, O_CLOEXEC) == -1)
        return -errno;
    rv = prepare(&run, plan, ends[1]);
    if (rv == 0)
        rv = fork_and_walk(&child->pid, &run);
    release(&run);
    close(ends[1]);
    if (rv != 0) {
        close(ends[0]);
        return rv;
    }
    child->pidfd = jail_pidfd(child->pid);
    child->report = ends[0];
    return 0;
}
