#include "model/tokenizer_bytes_int.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "model/tokenizer_unicode_int.h"

// Bytes 0x00-0x20, 0x7F-0xA0 and 0xAD have no printable character of their own.
static bool is_printable(int32_t c)
{
    return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xFF && c != 0xAD);
}

int32_t cn_tokenizer_bytes_char(unsigned char byte)
{
    if (is_printable(byte)) return byte;
    if (byte <= 0x20) return 0x100 + byte;
    return byte == 0xAD ? 0x143 : 0x121 + byte - 0x7F;
}

int cn_tokenizer_bytes_byte(int32_t c)
{
    if (is_printable(c)) return c;
    if (c >= 0x100 && c <= 0x120) return c - 0x100;
    if (c >= 0x121 && c <= 0x142) return c - 0x121 + 0x7F;
    return c == 0x143 ? 0xAD : -1;
}

size_t cn_tokenizer_bytes_of(const char *text, size_t len, char *out)
{
    size_t count = 0;
    for (size_t at = 0, step; at < len; at += step) {
        const int byte = cn_tokenizer_bytes_byte(cn_tokenizer_unicode_at(text + at, &step));
        if (byte < 0) return SIZE_MAX;
        out[count++] = (char)byte;
    }
    return count;
}

static int hex_digit(char c)
{
    if (!isxdigit((unsigned char)c)) return -1;
    return c <= '9' ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

int cn_tokenizer_bytes_fallback(const char *text, size_t len)
{
    if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    // The library reads the two places as a number, which lets "+F" pass for a byte.
    const int high = text[3] == '+' ? 0 : hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}
