/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's life: opened in a Python that runs or in one of its own, and closed with it where
 * nothing of the application lives on. Up: api.c. Down: interp.c. */
#include "eng.h"

#include <stdlib.h>
#include <time.h>

static pyglue_engine_t *new_engine(const pyglue_engine_settings_t *settings) {
    pyglue_engine_t *engine = calloc(1, sizeof *engine);
    pthread_condattr_t monotonic;

    if (engine == NULL)
        return NULL;
    engine->package = strdup(settings->package);
    engine->settings = strdup(settings->settings);
    engine->log = settings->log;
    engine->baton = settings->baton;
    engine->owns_python = settings->executable != NULL;
    pthread_mutex_init(&engine->lock, NULL);
    pthread_mutex_init(&engine->stacks_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&engine->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (engine->package != NULL && engine->settings != NULL &&
        pthread_key_create(&engine->thread_key, NULL) == 0)
        return engine;
    free(engine->package);
    free(engine->settings);
    free(engine);
    return NULL;
}

static void free_engine(pyglue_engine_t *engine) {
    pthread_key_delete(engine->thread_key);
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->stacks_lock);
    pthread_mutex_destroy(&engine->lock);
    eng_note_clear(engine);
    eng_loaded_clear(engine);
    eng_spread_clear(engine);
    free(engine->package);
    free(engine->settings);
    free(engine);
}

static void log_status(const pyglue_engine_settings_t *settings, PyStatus status) {
    char text[1024];
    int len =
        snprintf(text, sizeof text, ENG_ID(3014) "Python could not be initialised as '%s': %s",
                 settings->executable, status.err_msg ? status.err_msg : "it exited");

    if (len > 0)
        settings->log(settings->baton, PYGLUE_LEVEL_ERROR, pyglue_str(text));
}

/* A host of an older version may give a shorter struct. */
static bool has_gil(const pyglue_engine_settings_t *settings) {
    return settings->size <= offsetof(pyglue_engine_settings_t, has_gil) || settings->has_gil;
}

/* Python as `executable` itself would start, but for signals and arguments, which are httpd's. */
static int initialise(const pyglue_engine_settings_t *settings) {
    static char *argv[] = {"mod_wsgi", NULL};
    PyConfig config;
    PyStatus status;

    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    config.parse_argv = 0;
    eng_compat_choose_gil(&config, has_gil(settings));
    status = PyConfig_SetBytesString(&config, &config.program_name, settings->executable);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(&config, &config.executable, settings->executable);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesArgv(&config, 1, argv);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (!PyStatus_Exception(status))
        return 0;
    log_status(settings, status);
    return -1;
}

/* The calling thread has Python attached, and is its main thread where we initialised it. */
static int adopt(pyglue_engine_t *engine) {
    if (eng_interp_adopt_main(engine) == 0)
        return 0;
    eng_exc_log_early(engine, ENG_ID(3013) "Python could not be prepared");
    return PYGLUE_E_PYTHON;
}

static int adopt_running_nogil(pyglue_engine_t *engine) {
    PyGILState_STATE gil = PyGILState_Ensure();
    int rv = adopt(engine);

    PyGILState_Release(gil);
    return rv;
}

static int adopt_own_nogil(pyglue_engine_t *engine, const pyglue_engine_settings_t *settings) {
    int rv;

    if (Py_IsInitialized() || initialise(settings))
        return PYGLUE_E_PYTHON;
    rv = adopt(engine);
    PyEval_SaveThread();
    return rv;
}

int eng_life_open_nogil(pyglue_engine_t **result, const pyglue_engine_settings_t *settings) {
    pyglue_engine_t *engine;
    int rv;

    *result = NULL;
    if (settings->size < offsetof(pyglue_engine_settings_t, has_gil))
        return PYGLUE_E_VERSION;
    engine = new_engine(settings);
    if (engine == NULL)
        return PYGLUE_E_NOMEM;
    rv = settings->executable != NULL ? adopt_own_nogil(engine, settings)
                                      : adopt_running_nogil(engine);
    if (rv != 0)
        free_engine(engine);
    else
        *result = engine;
    return rv;
}

static void detach_main_nogil(pyglue_engine_t *engine) {
    eng_thread_t *thread = eng_thread_nogil(engine);
    eng_seat_t *seat = thread != NULL ? eng_interp_enter_main_nogil(thread) : NULL;

    if (seat == NULL)
        return;
    seat->interp->state->engine = NULL;
    eng_interp_leave(seat);
}

void eng_life_close_nogil(pyglue_engine_t *engine) {
    bool is_clean = eng_interp_end_all_nogil(engine);
    bool finalises = engine->owns_python && is_clean;

    if (finalises)
        PyGILState_Ensure();
    else if (is_clean)
        detach_main_nogil(engine);
    else if (engine->owns_python)
        eng_interp_finish_main_nogil(engine);
    /* Where threads of the application live on, so does what they may still log to. */
    if (finalises)
        Py_FinalizeEx();
    if (!is_clean)
        return;
    eng_interp_free_all(engine);
    free_engine(engine);
}
