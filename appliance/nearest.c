#include "appliance/nearest.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES_MAX = 63 };

// Edits that make one word of the other; a longer `name` counts as far away.
static uint32_t distance(const char *word, const char *name)
{
    uint32_t row[NAME_BYTES_MAX + 1];
    const size_t len = strlen(name);
    if (len > NAME_BYTES_MAX) return UINT32_MAX;
    for (uint32_t j = 0; j <= len; j++) row[j] = j;
    for (uint32_t i = 0; word[i]; i++) {
        uint32_t diagonal = row[0];
        row[0] = i + 1;
        for (uint32_t j = 0; j < len; j++) {
            const uint32_t change = diagonal + (word[i] != name[j]);
            const uint32_t skip = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = change < skip ? change : skip;
        }
    }
    return row[len];
}

const char *cn_nearest_find(const char *word, const char *const *names, uint32_t count)
{
    const char *nearest = NULL;
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t d = distance(word, names[i]);
        if (d >= least) continue;
        least = d;
        nearest = names[i];
    }
    return nearest && least <= strlen(nearest) / 2 ? nearest : NULL;
}

void cn_nearest_refuse(const char *what, const char *program, const char *word,
                       const char *const *names, uint32_t count)
{
    const char *nearest = cn_nearest_find(word, names, count);
    fprintf(stderr, "cairn: %s%.40s; ", what, word);
    if (nearest) fprintf(stderr, "is this meant: %s %s\n", program, nearest);
    else fprintf(stderr, "`%s --help` lists them\n", program);
}
