/* SPDX-License-Identifier: Apache-2.0 */
/* What a fuzz target is: one function, called with bytes of a stranger, that must come back.
 * replay.c calls it with the files of the corpus, libFuzzer with what it makes of them. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads all bytes of a text, so that a sanitizer sees one that lies outside. */
static inline unsigned fuzz_touch(const char *bytes, size_t len) {
    unsigned sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += (unsigned char)bytes[i];
    return sum;
}

/* What was promised about accepted input; ends the run where it is not so. */
static inline void fuzz_expect(int is_so) {
    if (!is_so)
        abort();
}

#endif
