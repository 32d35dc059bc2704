/* appliance/nearest.h: which known word somebody meant who typed an unknown one.
 *
 * Threads: any, nothing is kept.
 * Memory:  none. */
#pragma once

#include <stdint.h>

/* The name with the fewest edits to `word` (Levenshtein 1966), or NULL if none is near: more than
 * half of its letters would have to change. */
const char *cn_nearest_find(const char *word, const char *const *names, uint32_t count);
