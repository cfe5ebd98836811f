/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a target over the files named on the command line, each one whole and cut at each length:
 * the corpus as an ordinary test, with any compiler. Memory is exact, so a sanitizer sees
 * overreads. */
#include "fuzz.h"

#include <stdio.h>

static void run(const uint8_t *bytes, size_t size) {
    uint8_t *exact = malloc(size ? size : 1);

    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int argc, char **argv) {
    static uint8_t bytes[65536];

    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        size_t size;

        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        for (size_t cut = 0; cut <= size; cut++)
            run(bytes, cut);
    }
    return 0;
}
