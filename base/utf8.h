/* base/utf8.h: how long a UTF-8 sequence is, and whether it is one (RFC 3629, Unicode 15 table 3-7).
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own. */
#pragma once

#include <stddef.h>

/* Bytes of the well-formed sequence at `text` (1 to 4), or 0 if there is none; `len` >= 1. */
size_t cn_utf8_len(const char *text, size_t len);

/* Bytes of the maximal subpart at `text` that a decoder replaces by one U+FFFD (1 to 3), where
 * cn_utf8_len says 0. */
size_t cn_utf8_bad_len(const char *text, size_t len);

/* True-ish length of an incomplete but so far well-formed sequence at the end of `text` (0 to 3):
 * what a streaming decoder holds back. */
size_t cn_utf8_partial_len(const char *text, size_t len);
