#include "dataplane/inet_sum.h"

#include <string.h>

/* How it works. One's complement addition is associative, commutes with swapping bytes, and a sum of
 * wide words folds to the sum of their 16-bit halves, since 2^16 is 1 modulo 2^16 - 1. So 32-bit words
 * are added into 64-bit lanes, which cannot overflow below 2^32 words, and the lanes are folded once.
 * Four independent lanes let the compiler use vectors and the processor overlap the additions.
 * The result differs from 0 whenever a byte does, as the definition wants: folding never makes 0 of
 * something else. */
uint16_t cn_inet_sum_fold(const void *data, int len)
{
    const uint8_t *at = data;
    uint64_t lanes[4] = {0};
    for (; len >= 32; at += 32, len -= 32) {
        uint32_t words[8];
        memcpy(words, at, sizeof words);
        for (int i = 0; i < 4; i++) lanes[i] += (uint64_t)words[i] + words[i + 4];
    }
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++) sum += (lanes[i] & UINT32_MAX) + (lanes[i] >> 32);
    for (; len > 0; at += 4, len -= 4) {
        uint32_t word = 0;
        memcpy(&word, at, len < 4 ? (size_t)len : 4);
        sum += word;
    }
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}
