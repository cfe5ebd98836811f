/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of the pool by name, as settings.py and the tests' worker give them: a new one is a
 * field of wkr_settings_t, a row here, and a name in settings.py. Knows no Python.
 * Up: engine/serve.c. */
#include <limits.h>
#include <stddef.h>

#include "worker.h"

const wkr_setting_t wkr_setting_rows[] = {
    {"listener", offsetof(wkr_settings_t, listener), WKR_SETTING_INT},
    {"record", offsetof(wkr_settings_t, record), WKR_SETTING_INT},
    {"events", offsetof(wkr_settings_t, events), WKR_SETTING_INT},
    {"key", offsetof(wkr_settings_t, key), WKR_SETTING_KEY},
    {"number", offsetof(wkr_settings_t, number), WKR_SETTING_U64},
    {"threads", offsetof(wkr_settings_t, threads), WKR_SETTING_U32},
    {"peer_uid", offsetof(wkr_settings_t, peer_uid), WKR_SETTING_USER},
    {"request_max", offsetof(wkr_settings_t, request_max), WKR_SETTING_U32},
    {"socket_timeout_ms", offsetof(wkr_settings_t, socket_timeout), WKR_SETTING_U32},
    {"send_buffer_size", offsetof(wkr_settings_t, send_buffer), WKR_SETTING_U32},
    {"receive_buffer_size", offsetof(wkr_settings_t, receive_buffer), WKR_SETTING_U32},
    {"pass_descriptors", offsetof(wkr_settings_t, pass_descriptors), WKR_SETTING_INT},
    {"strict_reload", offsetof(wkr_settings_t, strict_reload), WKR_SETTING_INT},
    {"maximum_requests", offsetof(wkr_settings_t, maximum_requests), WKR_SETTING_U64},
    {"messages", offsetof(wkr_settings_t, messages), WKR_SETTING_INT},
    {"startup_timeout_ms", offsetof(wkr_settings_t, startup_timeout), WKR_SETTING_U32},
    {"queue_timeout_ms", offsetof(wkr_settings_t, queue_timeout), WKR_SETTING_U32},
    {"stack_size", offsetof(wkr_settings_t, stack_size), WKR_SETTING_U32},
    {"request_timeout_ms", offsetof(wkr_settings_t, request_timeout), WKR_SETTING_U32},
    {"interrupt_timeout_ms", offsetof(wkr_settings_t, interrupt_timeout), WKR_SETTING_U32},
    {"deadlock_timeout_ms", offsetof(wkr_settings_t, deadlock_timeout), WKR_SETTING_U32},
    {"shutdown_timeout_ms", offsetof(wkr_settings_t, shutdown_timeout), WKR_SETTING_U32},
    {"restart_interval_ms", offsetof(wkr_settings_t, restart_interval), WKR_SETTING_U64},
    {"rss_limit", offsetof(wkr_settings_t, rss_limit), WKR_SETTING_U64},
    {"stacks_signal", offsetof(wkr_settings_t, stacks_signal), WKR_SETTING_INT},
};
const unsigned wkr_setting_count = sizeof wkr_setting_rows / sizeof wkr_setting_rows[0];

int wkr_setting_put(wkr_settings_t *settings, const wkr_setting_t *row, uint64_t number) {
    void *field = (char *)settings + row->offset;

    switch (row->kind) {
    case WKR_SETTING_INT:
        if (number > INT_MAX)
            return PYGLUE_E_TOO_BIG;
        *(int *)field = (int)number;
        return 0;
    case WKR_SETTING_U32:
        if (number > UINT32_MAX)
            return PYGLUE_E_TOO_BIG;
        *(uint32_t *)field = (uint32_t)number;
        return 0;
    case WKR_SETTING_USER:
        if (number > UINT32_MAX)
            return PYGLUE_E_TOO_BIG;
        *(uid_t *)field = (uid_t)number;
        return 0;
    case WKR_SETTING_U64:
        *(uint64_t *)field = number;
        return 0;
    case WKR_SETTING_KEY:
        break;
    }
    return PYGLUE_E_STATE;
}
