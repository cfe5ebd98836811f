/* SPDX-License-Identifier: Apache-2.0 */
/* Free buffers of this child: a bounded stack, so that the next request finds warm memory. */
#include "glue_buffer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FREE_MAX 64 /* beyond, memory goes back to the system */

static struct {
    pthread_mutex_t lock; /* guards all below */
    void *free;           /* each begins with a pointer to the next */
    int count;
} here = {.lock = PTHREAD_MUTEX_INITIALIZER};

void *glue_buffer_get(void) {
    void *buffer;

    pthread_mutex_lock(&here.lock);
    buffer = here.free;
    if (buffer != NULL) {
        memcpy(&here.free, buffer, sizeof here.free);
        here.count--;
    }
    pthread_mutex_unlock(&here.lock);
    return buffer != NULL ? buffer : malloc(GLUE_BUFFER);
}

void glue_buffer_put(void *buffer) {
    int is_kept;

    if (buffer == NULL)
        return;
    pthread_mutex_lock(&here.lock);
    is_kept = here.count < FREE_MAX;
    if (is_kept) {
        memcpy(buffer, &here.free, sizeof here.free);
        here.free = buffer;
        here.count++;
    }
    pthread_mutex_unlock(&here.lock);
    if (!is_kept)
        free(buffer);
}
