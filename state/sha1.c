#include "state/sha1_int.h"

#include <stdint.h>
#include <string.h>

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void add_block(uint32_t h[5], const unsigned char *block)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    }
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        const uint32_t f = i < 20   ? (d ^ (b & (c ^ d))) + 0x5A827999
                           : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                           : i < 60 ? ((b & c) | (d & (b | c))) + 0x8F1BBCDC
                                    : (b ^ c ^ d) + 0xCA62C1D6;
        const uint32_t next = rotate(a, 5) + f + e + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

void cn_sha1_hex(const void *data, size_t len, char out[CN_SHA1_HEX_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char last[128] = {0};
    const unsigned char *at = data;
    size_t left = len;
    for (; left >= 64; left -= 64, at += 64) add_block(h, at);
    if (left) memcpy(last, at, left);
    last[left] = 0x80;
    const size_t tail = left < 56 ? 64 : 128;        // the length needs the last eight bytes
    for (int i = 0; i < 8; i++) last[tail - 1 - i] = (unsigned char)((uint64_t)len * 8 >> 8 * i);
    for (size_t i = 0; i < tail; i += 64) add_block(h, last + i);
    for (int i = 0; i < 40; i++) out[i] = hex[h[i / 8] >> (28 - i % 8 * 4) & 15];
    out[40] = '\0';
}
