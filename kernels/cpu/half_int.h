/* kernels/cpu/half_int.h: 16-bit floats to float and back, one at a time.
 *
 * Threads: any, values only.
 * Memory:  none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* IEEE half to float, exactly; the subnormal ones by scaling (2^-24 each). */
static inline float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7FFF;
    uint32_t bits = magnitude >= 0x7C00 ? (magnitude << 13) | 0x7F800000u
                                        : (magnitude << 13) + 0x38000000u;
    float value;
    memcpy(&value, &bits, sizeof value);
    if (magnitude < 0x0400) value = (float)magnitude * 0x1p-24f;
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Float to bf16, to nearest, ties to even; NaN stays NaN. */
static inline uint16_t half_round_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    return (uint16_t)((nan ? bits | 0x400000u : bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}
