/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the steps on Linux share.
 *
 * Each step proves identity, not a property: that *this* descriptor lies there, that *these* groups
 * are held. What is read back goes into poisoned memory, so that a call that said yes and did
 * nothing is found out; where the wanted value is 0, which is also what a lie looks like, another
 * value is set and seen first. All calls are raw: glibc's setuid signals other threads, its
 * sigaction answers from its own memory, and nothing here may take a lock. */
#ifndef JAIL_LINUX_H
#define JAIL_LINUX_H

#include <sys/syscall.h>

#include "jail.h"

enum { JAIL_POISON = 0xa5 };

static inline int jail_done_if(int is_so) {
    return is_so ? 0 : JAIL_NO_EFFECT;
}

/* files_linux.c */
int jail_step_descriptors(jail_run_t *run);
int jail_step_chroot(jail_run_t *run);
int jail_step_chdir(jail_run_t *run);

/* drop_linux.c */
int jail_step_dumpable(jail_run_t *run);
int jail_step_bounding(jail_run_t *run);
int jail_step_setgroups(jail_run_t *run);
int jail_step_setresgid(jail_run_t *run);
int jail_step_setresuid(jail_run_t *run);
int jail_step_undumpable(jail_run_t *run);
int jail_step_return(jail_run_t *run);
int jail_step_capabilities(jail_run_t *run);
int jail_step_no_new_privs(jail_run_t *run);

#endif
