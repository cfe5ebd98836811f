/* SPDX-License-Identifier: Apache-2.0 */
/* pyglue._engine with pyglue/engine/serve.c and no engine behind it, for tests of its Python: every
 * request is answered by 500, those to "wait" when the client leaves; scripts load unless their
 * name holds "broken". */
#include <Python.h>

#include "engine.h"
#include "serve.h"

static int engine_open(pyglue_engine_t **engine, const pyglue_engine_settings_t *settings) {
    static char nothing;

    if (strstr(settings->settings, "unopenable") != NULL)
        return PYGLUE_E_PYTHON;
    *engine = (pyglue_engine_t *)(void *)&nothing;
    return 0;
}

static int engine_call(pyglue_engine_t *engine, const pyglue_snapshot_t *snapshot,
                       pyglue_host_t *host, pyglue_outcome_t *outcome) {
    (void)engine;
    *outcome = (pyglue_outcome_t){PYGLUE_FAILED, 500};
    if (pyglue_snapshot_text(snapshot, snapshot->callable).ptr[0] != 'w')
        return 0;
    host->ops->log(host, PYGLUE_LEVEL_WARN, pyglue_str("waits"));
    while (!host->ops->gone(host))
        usleep(1000);
    return 0;
}

static int engine_load(pyglue_engine_t *engine, const pyglue_load_t *load) {
    (void)engine;
    return strstr(load->script, "broken") != NULL ? PYGLUE_E_PYTHON : 0;
}

static void engine_end(pyglue_engine_t *engine) {
    (void)engine;
}

/* A script is what was loaded of it unless its name says that it changed. */
static int engine_is_current(pyglue_engine_t *engine, const pyglue_snapshot_t *snapshot) {
    (void)engine;
    return strstr(pyglue_snapshot_text(snapshot, snapshot->script).ptr, "changed") == NULL;
}

const pyglue_engine_ops_t *pyglue_engine(void) {
    static const pyglue_engine_ops_t ops = {.size = sizeof ops,
                                            .version = PYGLUE_ENGINE_VERSION,
                                            .open = engine_open,
                                            .call = engine_call,
                                            .load = engine_load,
                                            .thread_end = engine_end,
                                            .close = engine_end,
                                            .is_current = engine_is_current};

    return &ops;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, eng_serve_exec}, {0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "pyglue._engine",
                                 .m_slots = slots};

PyMODINIT_FUNC PyInit__engine(void) {
    return PyModuleDef_Init(&definition);
}
