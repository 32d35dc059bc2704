/* state/sha1_int.h: SHA-1 (RFC 3174), because it is the one digest that a script in Redis can
 * compute and a sender can know before. It tells two of our own records apart; nothing secret rests
 * on it.
 *
 * Threads: any, nothing is kept.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stddef.h>

enum { CN_SHA1_HEX_BYTES = 41 };

/* The digest as 40 lower-case hex digits and a 0. */
void cn_sha1_hex(const void *data, size_t len, char out[CN_SHA1_HEX_BYTES]);
