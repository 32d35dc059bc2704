/* appliance/nearest.h: which known word somebody meant who typed an unknown one.
 *
 * Threads: any, nothing is kept.
 * Memory:  none. */
#pragma once

#include <stdint.h>

/* The name with the fewest edits to `word` (Levenshtein 1966), or NULL if none is near: more than
 * half of its letters would have to change. */
const char *cn_nearest_find(const char *word, const char *const *names, uint32_t count);

/* Writes on stderr that `word` is unknown, and what is right. `what` begins the sentence ("unknown
 * command "), and `program` is what the names follow on a command line ("cairn session"). */
void cn_nearest_refuse(const char *what, const char *program, const char *word,
                       const char *const *names, uint32_t count);
