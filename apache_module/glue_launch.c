/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's process: made by httpd's parent, which is often root, so all that is executed is
 * checked first, each time anew. */
#include "glue_launch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "glue_install.h"
#include "glue_log.h"
#include "glue_trust.h"

enum { FDS = 6, ABOVE = 16 }; /* descriptors given; where they wait out of each other's way */

/* All that the new process needs, made before the fork. */
typedef struct program {
    const char *argv[10];
    const char *envp[4];
    int fds[FDS]; /* what becomes 0, 1, ... (docs/plan.md 1) */
} program_t;

/* What root is about to execute. NULL: all of it is root's. */
static const char *distrust(const char *python, const char *package, apr_pool_t *pool) {
    const char *settings =
        apr_pstrcat(pool, ap_make_dirstr_parent(pool, python), "../pyvenv.cfg", NULL);
    const char *const needed[] = {python, glue_install_library(python, pool),
                                  access(settings, F_OK) == 0 ? settings : NULL};
    const char *complaint = glue_trust_folder_complaint(package, pool);

    for (unsigned i = 0; complaint == NULL && i < sizeof needed / sizeof needed[0]; i++)
        if (needed[i] != NULL)
            complaint = glue_trust_complaint(needed[i], pool);
    return complaint;
}

/* NULL: *python and *package may be executed. */
static const char *find(const char **python, const char **package, apr_pool_t *pool) {
    const char *complaint;

    *package = glue_install_package(pool);
    *python = glue_install_python(pool);
    if (*package == NULL || *python == NULL)
        return GLUE_ID(0601) "the Python that mod_pyglue was installed for was not found: no "
                             "process group can start. Install it by pip, and load mod_pyglue.so "
                             "from where pip put it";
    complaint = geteuid() == 0 ? distrust(*python, *package, pool) : NULL;
    if (complaint == NULL)
        return NULL;
    return apr_psprintf(pool,
                        GLUE_ID(0602) "no process group can start: %s, and root would execute what "
                                      "lies there. Install mod_pyglue where only root can write",
                        complaint);
}

static void fill(program_t *program, const char *python, const char *package,
                 const glue_launch_t *with, apr_pool_t *pool) {
    const char *zone = getenv("TZ");
    int n = 0, e = 0;

    program->argv[n++] = python;
    program->argv[n++] = "-I";
    program->argv[n++] = "-S";
    program->argv[n++] = "-B";
    program->argv[n++] = apr_pstrcat(pool, package, "/supervisor/__main__.py", NULL);
    program->argv[n++] = "--parent";
    program->argv[n++] = apr_ltoa(pool, (long)getpid());
    program->argv[n++] = "--epoch";
    program->argv[n++] = apr_psprintf(pool, "%" APR_UINT64_T_FMT, with->epoch);
    program->argv[n] = NULL;
    program->envp[e++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    program->envp[e++] = "LANG=C.UTF-8";
    if (zone != NULL && zone[0] == '/')
        program->envp[e++] = apr_pstrcat(pool, "TZ=", zone, NULL);
    program->envp[e] = NULL;
}

/* In the new process, of which httpd's memory is a copy: system calls only. */
__attribute__((noreturn)) static void become_supervisor(const program_t *program) {
    int high[FDS];
    sigset_t none;

    setsid();
    /* Out of the way first: a source may lie where a target is. */
    for (int i = 0; i < FDS; i++)
        if ((high[i] = fcntl(program->fds[i], F_DUPFD, ABOVE)) < 0)
            _exit(126);
    for (int i = 0; i < FDS; i++)
        if (dup2(high[i], i) < 0)
            _exit(126);
    if (syscall(SYS_close_range, (unsigned)FDS, ~0u, 0u) != 0)
        for (int fd = FDS; fd < 65536; fd++)
            close(fd);
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        signal(signal_number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(077);
    if (chdir("/") == 0)
        execve(program->argv[0], (char *const *)(uintptr_t)program->argv,
               (char *const *)(uintptr_t)program->envp);
    _exit(127);
}

/* 0 or an errno. */
static int start(pid_t *pid, int *channel, program_t *program, const glue_launch_t *with) {
    int pair[2], on = 1, error, nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (nothing < 0)
        return errno;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        error = errno;
        close(nothing);
        return error;
    }
    memcpy(program->fds, (int[]){nothing, with->log, with->log, pair[1], with->pages, with->rows},
           sizeof program->fds);
    /* Already now: the kernel notes a sender's credentials when a message is sent. */
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    *pid = fork();
    error = *pid < 0 ? errno : 0;
    if (*pid == 0)
        become_supervisor(program);
    close(nothing);
    close(pair[1]);
    if (error != 0) {
        close(pair[0]);
        *pid = 0;
        return error;
    }
    *channel = pair[0];
    return 0;
}

int glue_launch(pid_t *pid, int *channel, server_rec *s, const glue_launch_t *with,
                apr_pool_t *parent) {
    const char *python, *package, *complaint;
    program_t program;
    apr_pool_t *pool; /* the parent's may be configuration's, and starts be many */
    int error;

    apr_pool_create(&pool, parent);
    complaint = find(&python, &package, pool);
    if (complaint != NULL) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s, "%s", complaint);
        apr_pool_destroy(pool);
        return PYGLUE_E_STATE;
    }
    fill(&program, python, package, with, pool);
    error = start(pid, channel, &program, with);
    apr_pool_destroy(pool);
    if (error != 0)
        ap_log_error(APLOG_MARK, APLOG_CRIT, APR_FROM_OS_ERROR(error), s,
                     GLUE_ID(0601) "the supervisor of process groups could not be started; it is "
                                   "tried again");
    return error ? PYGLUE_E_IO : 0;
}
