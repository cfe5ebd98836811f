/* SPDX-License-Identifier: Apache-2.0 */
/* Which interpreter of an application group runs a request, where each group is spread over
 * several: the one with the fewest running requests, and of equals the first. So a group that never
 * runs more requests at once than it has interpreters never runs two in one. */
#include "eng.h"

struct eng_spread {
    eng_spread_t *next;
    char *name;
    size_t name_len;
    unsigned running[]; /* of part 1, 2, ... */
};

static eng_spread_t *new_spread(unsigned parts, pyglue_str_t group) {
    eng_spread_t *spread = calloc(1, sizeof *spread + parts * sizeof spread->running[0]);

    if (spread != NULL && (spread->name = strndup(group.ptr, group.len)) == NULL) {
        free(spread);
        return NULL;
    }
    if (spread != NULL)
        spread->name_len = group.len;
    return spread;
}

static eng_spread_t *find_or_make_locked(pyglue_engine_t *engine, pyglue_str_t group) {
    eng_spread_t *spread = engine->spreads;

    while (spread != NULL &&
           (spread->name_len != group.len || memcmp(spread->name, group.ptr, group.len) != 0))
        spread = spread->next;
    if (spread == NULL && (spread = new_spread(engine->parts, group)) != NULL) {
        spread->next = engine->spreads;
        engine->spreads = spread;
    }
    return spread;
}

unsigned eng_spread_take(eng_spread_t **result, pyglue_engine_t *engine, pyglue_str_t group) {
    eng_spread_t *spread;
    unsigned least = 0;

    *result = NULL;
    if (engine->parts == 0)
        return 0;
    pthread_mutex_lock(&engine->lock);
    spread = find_or_make_locked(engine, group);
    if (spread != NULL) {
        for (unsigned i = 1; i < engine->parts; i++)
            if (spread->running[i] < spread->running[least])
                least = i;
        spread->running[least]++;
    }
    pthread_mutex_unlock(&engine->lock);
    *result = spread;
    return least + 1; /* without memory for a record the first serves, uncounted */
}

void eng_spread_give(pyglue_engine_t *engine, eng_spread_t *spread, unsigned part) {
    if (spread == NULL)
        return;
    pthread_mutex_lock(&engine->lock);
    spread->running[part - 1]--;
    pthread_mutex_unlock(&engine->lock);
}

void eng_spread_clear(pyglue_engine_t *engine) {
    while (engine->spreads != NULL) {
        eng_spread_t *spread = engine->spreads;

        engine->spreads = spread->next;
        free(spread->name);
        free(spread);
    }
}
