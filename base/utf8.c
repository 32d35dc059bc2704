#include "base/utf8.h"

// Length that a lead byte announces, 0 if it cannot lead.
static size_t announced(unsigned char lead)
{
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

// The second byte carries the rules against overlong forms, surrogates and values above U+10FFFF.
static int second_fits(unsigned char lead, unsigned char second)
{
    const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high;
}

// How many of the first `len` bytes fit a sequence of the announced length.
static size_t fitting(const unsigned char *at, size_t len, size_t want)
{
    size_t n = 1;
    while (n < want && n < len) {
        if (n == 1 ? !second_fits(at[0], at[1]) : (at[n] & 0xC0) != 0x80) break;
        n++;
    }
    return n;
}

size_t cn_utf8_len(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    const size_t want = announced(at[0]);
    if (want <= 1) return want;
    return fitting(at, len, want) == want ? want : 0;
}

size_t cn_utf8_bad_len(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    const size_t want = announced(at[0]);
    return want == 0 ? 1 : fitting(at, len, want);
}

size_t cn_utf8_partial_len(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        const size_t start = len - back, want = announced(at[start]);
        if ((at[start] & 0xC0) == 0x80) continue;
        return want > back && fitting(at + start, back, want) == back ? back : 0;
    }
    return 0;
}
