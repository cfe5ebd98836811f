/* SPDX-License-Identifier: Apache-2.0 */
/* The privileged step: from the supervisor, usually root, to a program of the tenant's.
 *
 * jail_spawn forks and returns; the child walks a table of steps, each of which proves its effect,
 * then calls execve. The first step that fails, or whose effect does not show, ends the child and
 * is told through the report pipe. Nothing of the tenant's is opened before he is who runs.
 * POSIX and the kernel only: knows neither Python nor the bridge, and parses nothing.
 * Down: steps_linux.c. Up: module.c. docs/privileges.md tells why the order is this one. */
#ifndef JAIL_H
#define JAIL_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JAIL_FDS_MAX 64
#define JAIL_CGROUPS_MAX 4 /* cgroup v1 has a tree for each controller */
#define JAIL_EXIT 126      /* the child's status when a step failed */

typedef struct jail_limit {
    int resource; /* RLIMIT_* */
    uint64_t soft, hard;
} jail_limit_t;

/* What is to run, and as whom. All memory is the caller's, for the call of jail_spawn only. */
typedef struct jail_plan {
    const char *executable; /* opened after the drop, as the user */
    char *otherwise;        /* where that does not exist; becomes argv[0]; NULL: none */
    char **argv;            /* NULL-terminated */
    char *const *envp;      /* NULL-terminated: the whole environment */
    const int *fds;         /* become 0, 1, ... fd_count-1, without close-on-exec */
    unsigned fd_count;      /* 3 ... JAIL_FDS_MAX */
    int privileged;         /* 0: no root; no step that changes user or groups */
    uid_t uid;              /* privileged: not 0 */
    gid_t gid;              /* privileged: not 0 */
    gid_t *groups;          /* exactly these; sorted by jail_spawn */
    unsigned group_count;
    int umask;          /* -1: as it is */
    const char *home;   /* entered after the drop; NULL: "/" */
    int home_optional;  /* "/" instead, if the user cannot enter home */
    const char *chroot; /* NULL: none; each component root's alone */
    const jail_limit_t *limits;
    unsigned limit_count;
    int nice;           /* 0: as it is */
    int no_new_privs;   /* also empties the bounding set */
    const int *cgroups; /* files cgroup.procs, open for reading and writing */
    unsigned cgroup_count;
} jail_plan_t;

typedef struct jail_child {
    pid_t pid;
    int pidfd;  /* close-on-exec; -1: this kernel has none */
    int report; /* read end, close-on-exec: one jail_report, or end-of-file after execve */
} jail_child_t;

/* What the child says when a step failed. */
typedef struct jail_report {
    uint32_t step; /* 0 ... jail_step_count-1 */
    int32_t error; /* errno; 0: the kernel said yes, and the effect did not show */
} jail_report_t;

/* NULL, or what is wrong with this plan, as a sentence without a full stop. */
const char *jail_check(const jail_plan_t *plan);

/* Starts a checked plan. Returns at once: the child may be stopped by its own tenant. 0, with
 * *child filled and its descriptors the caller's; or a negative errno, and nothing runs.
 * One thread at a time; signals of the calling thread are blocked meanwhile. */
int jail_spawn(jail_child_t *child, jail_plan_t *plan);

/* Between jail.c and the file of the operating system. */

/* All that the child needs, prepared before the fork. */
typedef struct jail_run {
    const jail_plan_t *plan;
    pid_t parent;
    int report;                    /* write end; moved to fd_count by the step of descriptors */
    int cgroups[JAIL_CGROUPS_MAX]; /* copies of the plan's, likewise to the numbers behind it */
    int copies[JAIL_FDS_MAX];      /* of plan->fds, above all numbers that will be given */
    int open_max;                  /* no descriptor has this number or a higher one */
    gid_t *groups_seen;            /* room for group_count + 1 */
    char *chroot;                  /* a copy that may be written to */
} jail_run_t;

/* A step returns 0, a negative errno, or JAIL_NO_EFFECT. It runs in the child: system calls by
 * syscall(2) only, no allocation, no lock. */
#define JAIL_NO_EFFECT 1

typedef struct jail_step {
    const char *name;
    int (*run)(jail_run_t *run);
    int privileged; /* left out where the plan is not */
} jail_step_t;

extern const jail_step_t jail_steps[];
extern const unsigned jail_step_count;

/* Raw write and exit for the child's report. */
void jail_say(int fd, const jail_report_t *report);
_Noreturn void jail_exit(int status);
/* Is this process, asked of the kernel, another one than `parent`? */
int jail_is_child_of(pid_t parent);
/* In the parent: a close-on-exec pidfd of this child; -1: the kernel has none. */
int jail_pidfd(pid_t pid);

#endif
