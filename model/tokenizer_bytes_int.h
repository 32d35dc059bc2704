/* model/tokenizer_bytes_int.h: the alphabet in which byte-level tokenizers write bytes.
 * Printable Latin-1 characters stand for themselves, the other 68 bytes for U+0100 and up in order,
 * so that a token is printable text: a space is U+0120.
 *
 * Threads: any, nothing is kept.
 * Memory:  none. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The character of a byte: 0x21 to 0x143. */
int32_t cn_tokenizer_bytes_char(unsigned char byte);

/* The byte of a character, -1 if it is not of the alphabet. */
int cn_tokenizer_bytes_byte(int32_t c);

/* Writes the bytes of a token, at most `len`, and returns their count; SIZE_MAX if one of its
 * characters is not of the alphabet. `text` is well-formed UTF-8. */
size_t cn_tokenizer_bytes_of(const char *text, size_t len, char *out);

/* The byte that "<0x0A>" names, -1 for any other token. */
int cn_tokenizer_bytes_fallback(const char *text, size_t len);
