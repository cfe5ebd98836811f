/* SPDX-License-Identifier: Apache-2.0 */
/* Where this shared object lies, and what that says about its Python.
 * Used by the parent (glue_supervisor.c) and by children (glue_python.c); starts nothing. */
#include "glue_install.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

const char *glue_install_package(apr_pool_t *pool) {
    char resolved[PATH_MAX], *slash;
    Dl_info info;

    if (dladdr(&wsgi_module, &info) == 0 || realpath(info.dli_fname, resolved) == NULL)
        return NULL;
    slash = strrchr(resolved, '/');
    return apr_pstrmemdup(pool, resolved, (apr_size_t)(slash - resolved));
}

/* The last folder of the path that is called pythonX.Y, without its slash. */
static const char *find_version(const char *package) {
    const char *found = NULL;

    for (const char *at = package; (at = strstr(at, "/python")) != NULL; at++)
        if (at[7] >= '1' && at[7] <= '9' && strchr(at + 7, '.') != NULL)
            found = at + 1;
    return found;
}

static char *version_of(const char *version, apr_pool_t *pool) {
    return apr_pstrmemdup(pool, version, strcspn(version, "/"));
}

const char *glue_install_python(apr_pool_t *pool) {
    const char *package = glue_install_package(pool);
    const char *version = package ? find_version(package) : NULL;
    char *prefix, *name, *lib;

    if (version == NULL)
        return NULL;
    name = version_of(version, pool);
    prefix = apr_pstrmemdup(pool, package, (apr_size_t)(version - package - 1));
    lib = strrchr(prefix, '/'); /* .../lib or .../lib64 */
    if (lib == NULL)
        return NULL;
    *lib = '\0';
    /* The system's Python installs with the prefix /usr/local, but lies in /usr. */
    for (int i = 0; i < 2; i++) {
        const char *python = apr_pstrcat(pool, i == 0 ? prefix : "/usr", "/bin/", name, NULL);

        if (access(python, X_OK) == 0)
            return python;
        if (strcmp(prefix, "/usr/local") != 0)
            break;
    }
    return NULL;
}

const char *glue_install_library(const char *python, apr_pool_t *pool) {
    static const char *const folders[] = {"../lib/", "../lib64/"};
    const char *package = glue_install_package(pool), *found = NULL;
    const char *version = package ? find_version(package) : NULL;
    char *resolved = realpath(python, NULL);

    for (unsigned i = 0; version && resolved && i < sizeof folders / sizeof folders[0]; i++) {
        const char *os = apr_pstrcat(pool, ap_make_dirstr_parent(pool, resolved), folders[i],
                                     version_of(version, pool), "/os.py", NULL);

        if (access(os, F_OK) == 0)
            found = ap_make_dirstr_parent(pool, os);
    }
    free(resolved);
    return found;
}
