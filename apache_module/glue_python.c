/* SPDX-License-Identifier: Apache-2.0 */
/* From "which Python" to an opened engine, without a Python symbol in this file.
 * Only the configured Python itself knows where its library lies, so it is asked; as this child's
 * user, since the answer comes from code that this user's applications would run as well.
 * Neighbours: glue_embed.c decides when; glue_install.c knows our own installation. */
#include "glue_python.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "glue_clock.h"
#include "glue_install.h"

#define ANSWER_DEADLINE_MS 10000
#define ANSWER_MAX 8192

extern char **environ;

/* What a Python says of itself, in the order in which the script prints it. */
enum answer { VERSION, SOABI, SUFFIX, BASE, LIBDIR, MULTIARCH, LIBRARY, PACKAGE, ANSWER_COUNT };

static const char script[] =
    "import importlib.util, sys, sysconfig\n"
    "var = lambda name: sysconfig.get_config_var(name) or ''\n"
    "spec = importlib.util.find_spec('pyglue')\n"
    "package = list(spec.submodule_search_locations or [''])[0] if spec else ''\n"
    "print('%d.%d' % sys.version_info[:2], var('SOABI'), var('EXT_SUFFIX'), sys.base_exec_prefix,\n"
    "      var('LIBDIR'), var('MULTIARCH'), var('INSTSONAME'), package, sep='\\n')\n";

/* Asking. */

static const char *executable_of(const char *home, apr_pool_t *pool) {
    static const char *const names[] = {"/bin/python", "/bin/python3"};

    if (home == NULL)
        return glue_install_python(pool);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *path = apr_pstrcat(pool, home, names[i], NULL);

        if (access(path, X_OK) == 0)
            return path;
    }
    return NULL;
}

/* Its standard output becomes `out`; standard error stays the error log. 0 or an errno. */
static int start(pid_t *pid, const char *executable, int out) {
    char *const argv[] = {(char *)executable, "-I", "-B", "-c", (char *)script, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int error;

    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    error = posix_spawn(pid, executable, &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* Reads to the end of file within the deadline. Returns the length, -1: late, or too much. */
static ssize_t read_answer(int fd, char *text, size_t room) {
    apr_time_t end = glue_clock_now() + apr_time_from_msec(ANSWER_DEADLINE_MS);
    size_t length = 0;

    while (length < room) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        apr_time_t left = apr_time_as_msec(end - glue_clock_now());
        ssize_t got;

        if (left <= 0)
            return -1;
        if (poll(&p, 1, (int)left) <= 0)
            continue;
        got = read(fd, text + length, room - length);
        if (got == 0)
            return (ssize_t)length;
        length += got > 0 ? (size_t)got : 0;
    }
    return -1;
}

static int split(const char *answers[ANSWER_COUNT], char *text) {
    for (int i = 0; i < ANSWER_COUNT; i++) {
        char *end = strchr(text, '\n');

        if (end == NULL)
            return 0;
        *end = '\0';
        answers[i] = text;
        text = end + 1;
    }
    return 1;
}

/* NULL: the answers are there, in the pool. */
static const char *ask(const char *answers[ANSWER_COUNT], const char *executable,
                       apr_pool_t *pool) {
    char *text = apr_palloc(pool, ANSWER_MAX + 1);
    int ends[2], error, status = 0;
    ssize_t length;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return apr_psprintf(pool, "a pipe could not be made: %s", strerror(errno));
    error = start(&pid, executable, ends[1]);
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        return apr_psprintf(pool, "%s could not be started: %s", executable, strerror(error));
    }
    length = read_answer(ends[0], text, ANSWER_MAX);
    close(ends[0]);
    if (length < 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (length < 0)
        return apr_psprintf(pool, "%s did not tell what it is within %d seconds", executable,
                            ANSWER_DEADLINE_MS / 1000);
    if (WIFSIGNALED(status))
        return apr_psprintf(pool, "%s was ended by signal %d before it told what it is", executable,
                            WTERMSIG(status));
    text[length] = '\0';
    if (status != 0 || !split(answers, text))
        return apr_psprintf(pool, "%s is no working Python (exit status %d): check WSGIPythonHome",
                            executable, WEXITSTATUS(status));
    return NULL;
}

/* Opening. */

/* RTLD_GLOBAL because extension modules are not linked with libpython (HTTPD 5). */
static void *open_library(const char *const answers[ANSWER_COUNT], apr_pool_t *pool) {
    const char *name = answers[LIBRARY];
    const char *const paths[] = {
        apr_pstrcat(pool, answers[BASE], "/lib/", name,
                    NULL), /* LIBDIR is older: it may have moved */
        apr_pstrcat(pool, answers[LIBDIR], "/", name, NULL),
        apr_pstrcat(pool, answers[LIBDIR], "/", answers[MULTIARCH], "/", name, NULL),
        name, /* where the loader looks by itself */
    };

    if (strstr(name, ".so") == NULL)
        return NULL;
    for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        void *library = dlopen(paths[i], RTLD_NOW | RTLD_GLOBAL);

        if (library != NULL)
            return library;
    }
    return NULL;
}

/* A second Python in one process would share its symbols with the first and crash. */
static const char *loaded_version(void) {
    const char *(*get_version)(void);

    *(void **)(&get_version) = dlsym(RTLD_DEFAULT, "Py_GetVersion");
    return get_version != NULL ? get_version() : NULL;
}

static int is_of_version(const char *full, const char *version) {
    apr_size_t length = strlen(version);

    return strncmp(full, version, length) == 0 && full[length] == '.';
}

static const char *engine_missing(const char *const answers[ANSWER_COUNT], const char *executable,
                                  apr_pool_t *pool) {
    return apr_psprintf(
        pool,
        "there is no engine for Python %s (%s): run `pyglue install-engine --python "
        "%s`, or pip install mod-pyglue with it",
        answers[VERSION], answers[SOABI], executable);
}

/* *file: the first engine that exists, *package: what it belongs to. */
static int find_engine(const char **file, const char **package,
                       const char *const answers[ANSWER_COUNT], apr_pool_t *pool) {
    const char *own = glue_install_package(pool);
    const char *name = apr_pstrcat(pool, "/_engine", answers[SUFFIX], NULL);
    const struct {
        const char *file, *package;
    } places[] = {
        {apr_pstrcat(pool, answers[PACKAGE], name, NULL), answers[PACKAGE]},
        {apr_pstrcat(pool, own, name, NULL), own}, /* first: the folder's may be older */
        {apr_pstrcat(pool, own, "/engines/", answers[SOABI], name, NULL), own},
    };

    for (unsigned i = *answers[PACKAGE] == '\0'; i < sizeof places / sizeof places[0]; i++)
        if (access(places[i].file, R_OK) == 0) {
            *file = places[i].file;
            *package = places[i].package;
            return 1;
        }
    return 0;
}

static const char *open_engine(glue_python_t *python, const char *file, apr_pool_t *pool) {
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    const pyglue_engine_ops_t *(*get_ops)(void);

    if (library == NULL)
        return apr_psprintf(pool, "the engine could not be loaded: %s", dlerror());
    *(void **)(&get_ops) = dlsym(library, PYGLUE_ENGINE_SYMBOL);
    python->engine = get_ops != NULL ? get_ops() : NULL;
    if (python->engine == NULL || python->engine->version != PYGLUE_ENGINE_VERSION ||
        python->engine->size < sizeof *python->engine)
        return apr_psprintf(pool,
                            "the engine %s is of another version of mod_pyglue: run `pyglue "
                            "install-engine --python %s` again",
                            file, python->executable);
    return NULL;
}

const char *glue_python_open(glue_python_t *python, int *is_final, const char *home,
                             apr_pool_t *pool) {
    const char *answers[ANSWER_COUNT], *problem, *file, *before = loaded_version();

    *is_final = 0;
    python->executable = executable_of(home, pool);
    if (python->executable == NULL)
        return home != NULL
                   ? apr_psprintf(pool,
                                  "WSGIPythonHome: '%s' has no bin/python that can be run here; "
                                  "name an environment "
                                  "or prefix that httpd's user can reach",
                                  home)
                   : "no Python was found beside mod_pyglue.so: set WSGIPythonHome to a prefix or "
                     "virtual environment";
    problem = ask(answers, python->executable, pool);
    if (problem != NULL)
        return problem;
    if (!find_engine(&file, &python->package, answers, pool))
        return engine_missing(answers, python->executable, pool);
    *is_final = 1;
    if (before != NULL && !is_of_version(before, answers[VERSION]))
        return apr_psprintf(
            pool,
            "another module has loaded Python %.*s into httpd, and WSGIPythonHome's "
            "is %s: remove that module, or use a process group",
            (int)strcspn(before, " "), before, answers[VERSION]);
    if (before == NULL && open_library(answers, pool) == NULL)
        return apr_psprintf(
            pool,
            "Python %s (%s) has no shared library (%s): install libpython%s, build "
            "Python with --enable-shared, or use a process group (WSGIDaemonProcess)",
            answers[VERSION], python->executable, answers[LIBRARY], answers[VERSION]);
    return open_engine(python, file, pool);
}
