/* dataplane/stop_string.h: finds stop strings in text that arrives in pieces.
 * What might be the beginning of a stop string is held back until the text says otherwise, so
 * nothing of a stop string is ever sent. Where the pieces are cut makes no difference to what is
 * found: the string that is complete first wins, of several that end together the longest.
 *
 * Threads: one per scan; a set may be shared once it is made.
 * Memory:  in the arena given to init; push allocates nothing but what `out` needs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

typedef struct cn_stop_string {
    const char *text;
    uint32_t len;                // >= 1
    const uint32_t *fallback;    // [n]: longest proper prefix that is a suffix of the first n bytes
} cn_stop_string;

typedef struct cn_stop_string_set {
    const cn_stop_string *strings;
    uint32_t count;
} cn_stop_string_set;

typedef struct cn_stop_string_scan {
    const cn_stop_string_set *set;
    uint32_t *matched;           // [string]: bytes of it that the text ends with now
    uint32_t held_string;        // the text held back is the first held_len bytes of this one
    uint32_t held_len;
} cn_stop_string_scan;

enum { CN_STOP_STRING_NONE = -1 };

/* Prepares `count` strings with their lengths (each >= 1), which must stay in place.
 * Errors: CN_E_MEMORY. */
cn_code cn_stop_string_set_init(cn_stop_string_set *set, const char *const *texts,
                                const uint32_t *lens, uint32_t count, cn_arena *arena);
cn_code cn_stop_string_scan_init(cn_stop_string_scan *scan, const cn_stop_string_set *set,
                                 cn_arena *arena);

/* Takes a piece of whole UTF-8 characters and appends what is certain to be text. Returns the index
 * of the stop string that was found, or CN_STOP_STRING_NONE. When one is found, all text before it
 * is in `out`, with it if `include`, and what follows is dropped. */
int32_t cn_stop_string_push(cn_stop_string_scan *scan, const char *piece, size_t len, bool include,
                            cn_buf *out);

/* The text has ended without a stop string: appends what was held back. */
void cn_stop_string_finish(cn_stop_string_scan *scan, cn_buf *out);
