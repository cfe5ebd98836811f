/* SPDX-License-Identifier: Apache-2.0 */
/* The steps on Linux that give up root: who looks into the memory meanwhile, groups, group, user,
 * capabilities, and the proof that there is no way back. Up: steps_linux.c; docs/privileges.md
 * tells why the order there is this one. */
#include "jail_linux.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <string.h>
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

/* Before it. */

static int set_dumpable(long value) {
    if (syscall(SYS_prctl, PR_SET_DUMPABLE, value, 0, 0, 0) == -1)
        return -errno;
    return jail_done_if(syscall(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0) == value);
}

/* From the change of user until exec the memory is still the supervisor's: keys, other groups'
 * environments. Not dumpable, the tenant's other processes cannot look into it. */
int jail_step_dumpable(jail_run_t *run) {
    int rv = set_dumpable(1);

    (void)run;
    return rv != 0 ? rv : set_dumpable(0);
}

/* A change of user sets it to fs.suid_dumpable, which may be 1. The way over 1, which proves 0
 * above, would open to the tenant here what it is to close. */
int jail_step_undumpable(jail_run_t *run) {
    (void)run;
    return set_dumpable(0);
}

/* Only under no_new_privs: without it, mail and sudo need what their setuid bits give. */
int jail_step_bounding(jail_run_t *run) {
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

/* Groups and users. */

int jail_step_setgroups(jail_run_t *run) {
    const jail_plan_t *plan = run->plan;
    size_t size = plan->group_count * sizeof(gid_t);
    long count;

    if (syscall(SETGROUPS, plan->group_count, plan->groups) == -1)
        return -errno;
    memset(run->groups_seen, JAIL_POISON, size + sizeof(gid_t));
    count = syscall(GETGROUPS, plan->group_count + 1, run->groups_seen);
    if (count == -1) /* EINVAL: more groups than were asked for */
        return errno == EINVAL ? JAIL_NO_EFFECT : -errno;
    return jail_done_if(count == (long)plan->group_count &&
                        memcmp(run->groups_seen, plan->groups, size) == 0);
}

/* All three of a process's ids are this one. */
static int has_ids(long call, unsigned id) {
    unsigned ids[3];

    memset(ids, JAIL_POISON, sizeof ids);
    if (syscall(call, &ids[0], &ids[1], &ids[2]) == -1)
        return -errno;
    return jail_done_if(ids[0] == id && ids[1] == id && ids[2] == id);
}

int jail_step_setresgid(jail_run_t *run) {
    gid_t gid = run->plan->gid;

    if (syscall(SETRESGID, gid, gid, gid) == -1)
        return -errno;
    return has_ids(GETRESGID, gid);
}

int jail_step_setresuid(jail_run_t *run) {
    uid_t uid = run->plan->uid;

    if (syscall(SETRESUID, uid, uid, uid) == -1)
        return -errno;
    return has_ids(GETRESUID, uid);
}

/* Having left is proved by not getting back: neither as user nor as group, nor by one id alone. */
int jail_step_return(jail_run_t *run) {
    int rv;

    if (syscall(SETRESUID, 0, 0, 0) != -1 || syscall(SETRESUID, -1, 0, -1) != -1 ||
        syscall(SETRESGID, 0, 0, 0) != -1 || syscall(SYS_setuid, 0) != -1)
        return JAIL_NO_EFFECT;
    rv = has_ids(GETRESUID, run->plan->uid);
    return rv != 0 ? rv : has_ids(GETRESGID, run->plan->gid);
}

/* Inheritable ones survive a change of user. The ambient set lies within permitted and inheritable,
 * by the kernel's own rule, so that both being empty proves it empty. */
int jail_step_capabilities(jail_run_t *run) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3], is[_LINUX_CAPABILITY_U32S_3];

    (void)run;
    memset(none, 0, sizeof none);
    if (syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1)
        return -errno;
    if (syscall(SYS_capset, &head, none) == -1)
        return -errno;
    head = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_3, 0};
    memset(is, JAIL_POISON, sizeof is);
    if (syscall(SYS_capget, &head, is) == -1)
        return -errno;
    return jail_done_if(memcmp(is, none, sizeof is) == 0);
}

int jail_step_no_new_privs(jail_run_t *run) {
    if (!run->plan->no_new_privs)
        return 0;
    if (syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
        return -errno;
    return jail_done_if(syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}
