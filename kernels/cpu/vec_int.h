/* kernels/cpu/vec_int.h: sixteen float lanes, in whatever registers the path has.
 * path.c is compiled once per path with that path's flags; everything arithmetic is written once over
 * this. fma is fused where the path has it and rounds twice on `portable`, always the same way: the
 * compiler may not contract (-ffp-contract=off).
 *
 * Threads: any, values only.
 * Memory:  registers. */
#pragma once

#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

#if defined(CN_PATH_AVX512)

#include <immintrin.h>

typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_set(float x) { return _mm512_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vi vf_to_int(vf a) { return _mm512_cvtps_epi32(a); }
static inline vf vi_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
static inline vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_shl(vi a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
static inline vi vi_sar(vi a, int n) { return _mm512_srai_epi32(a, (unsigned)n); }
static inline vf vf_from_bits(vi a) { return _mm512_castsi512_ps(a); }
static inline vi vf_bits(vf a) { return _mm512_castps_si512(a); }
/* Lanes below `n` of a, b in the others. */
static inline vf vf_first(vf a, vf b, uint32_t n)
{
    return _mm512_mask_blend_ps((__mmask16)((1u << n) - 1), b, a);
}
static inline vf vf_load_bf16(const uint16_t *p)
{
    const __m256i half = _mm256_loadu_si256((const void *)p);
    return vf_from_bits(vi_shl(_mm512_cvtepu16_epi32(half), 16));
}
static inline vf vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

#elif defined(CN_PATH_AVX2)

#include <immintrin.h>

typedef struct { __m256 a, b; } vf;
typedef struct { __m256i a, b; } vi;

static inline vf vf_set(float x) { return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline vf vf_load(const float *p) { return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
#define CN_BOTH(type, op) ((type){op(x.a, y.a), op(x.b, y.b)})
static inline vf vf_add(vf x, vf y) { return CN_BOTH(vf, _mm256_add_ps); }
static inline vf vf_sub(vf x, vf y) { return CN_BOTH(vf, _mm256_sub_ps); }
static inline vf vf_mul(vf x, vf y) { return CN_BOTH(vf, _mm256_mul_ps); }
static inline vf vf_div(vf x, vf y) { return CN_BOTH(vf, _mm256_div_ps); }
static inline vf vf_max(vf x, vf y) { return CN_BOTH(vf, _mm256_max_ps); }
static inline vf vf_min(vf x, vf y) { return CN_BOTH(vf, _mm256_min_ps); }
static inline vi vi_add(vi x, vi y) { return CN_BOTH(vi, _mm256_add_epi32); }
static inline vi vi_sub(vi x, vi y) { return CN_BOTH(vi, _mm256_sub_epi32); }
static inline vi vi_and(vi x, vi y) { return CN_BOTH(vi, _mm256_and_si256); }
#undef CN_BOTH
static inline vf vf_fma(vf x, vf y, vf z)
{
    return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline vf vf_round(vf x)
{
    return (vf){_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
static inline vi vf_to_int(vf x) { return (vi){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
static inline vf vi_to_float(vi x) { return (vf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
static inline vi vi_set(int32_t x) { return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
static inline vi vi_load(const void *p)
{
    return (vi){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
static inline vi vi_shl(vi x, int n) { return (vi){_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
static inline vi vi_sar(vi x, int n) { return (vi){_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)}; }
static inline vf vf_from_bits(vi x) { return (vf){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
static inline vi vf_bits(vf x) { return (vi){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
static inline vf vf_first(vf x, vf y, uint32_t n)
{
    const __m256i low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i limit = _mm256_set1_epi32((int)n);
    const __m256i high = _mm256_add_epi32(low, _mm256_set1_epi32(8));
    return (vf){_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, low))),
                _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, high)))};
}
static inline vf vf_load_bf16(const uint16_t *p)
{
    const __m128i low = _mm_loadu_si128((const void *)p), high = _mm_loadu_si128((const void *)(p + 8));
    return vf_from_bits(vi_shl((vi){_mm256_cvtepu16_epi32(low), _mm256_cvtepu16_epi32(high)}, 16));
}
static inline vf vf_load_f16(const uint16_t *p)
{
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)),
                _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8)))};
}

#else

#include <math.h>

#include "kernels/cpu/half_int.h"

typedef struct { float v[LANES]; } vf;
typedef struct { int32_t v[LANES]; } vi;

#define CN_EACH(type, expression)                                                                  \
    type out;                                                                                      \
    for (int i = 0; i < LANES; i++) out.v[i] = (expression);                                       \
    return out
static inline vf vf_set(float x) { CN_EACH(vf, x); }
static inline vf vf_load(const float *p) { CN_EACH(vf, p[i]); }
static inline void vf_store(float *p, vf x) { memcpy(p, x.v, sizeof x.v); }
static inline vf vf_add(vf x, vf y) { CN_EACH(vf, x.v[i] + y.v[i]); }
static inline vf vf_sub(vf x, vf y) { CN_EACH(vf, x.v[i] - y.v[i]); }
static inline vf vf_mul(vf x, vf y) { CN_EACH(vf, x.v[i] * y.v[i]); }
static inline vf vf_div(vf x, vf y) { CN_EACH(vf, x.v[i] / y.v[i]); }
static inline vf vf_max(vf x, vf y) { CN_EACH(vf, x.v[i] > y.v[i] ? x.v[i] : y.v[i]); }
static inline vf vf_min(vf x, vf y) { CN_EACH(vf, x.v[i] < y.v[i] ? x.v[i] : y.v[i]); }
static inline vf vf_fma(vf x, vf y, vf z) { CN_EACH(vf, x.v[i] * y.v[i] + z.v[i]); }
static inline vf vf_round(vf x) { CN_EACH(vf, rintf(x.v[i])); }
/* Out of range and NaN give what the vector instructions give, instead of undefined behaviour. */
static inline vi vf_to_int(vf x)
{
    CN_EACH(vi, x.v[i] > -2147483648.0f && x.v[i] < 2147483648.0f ? (int32_t)rintf(x.v[i]) : INT32_MIN);
}
static inline vf vi_to_float(vi x) { CN_EACH(vf, (float)x.v[i]); }
static inline vi vi_set(int32_t x) { CN_EACH(vi, x); }
static inline vi vi_load(const void *p)
{
    vi out;
    memcpy(out.v, p, sizeof out.v);
    return out;
}
static inline vi vi_add(vi x, vi y) { CN_EACH(vi, (int32_t)((uint32_t)x.v[i] + (uint32_t)y.v[i])); }
static inline vi vi_sub(vi x, vi y) { CN_EACH(vi, (int32_t)((uint32_t)x.v[i] - (uint32_t)y.v[i])); }
static inline vi vi_and(vi x, vi y) { CN_EACH(vi, x.v[i] & y.v[i]); }
static inline vi vi_shl(vi x, int n) { CN_EACH(vi, (int32_t)((uint32_t)x.v[i] << n)); }
static inline vi vi_sar(vi x, int n) { CN_EACH(vi, x.v[i] >> n); }
static inline vf vf_from_bits(vi x)
{
    vf out;
    memcpy(&out, &x, sizeof out);
    return out;
}
static inline vi vf_bits(vf x)
{
    vi out;
    memcpy(&out, &x, sizeof out);
    return out;
}
static inline vf vf_first(vf x, vf y, uint32_t n) { CN_EACH(vf, (uint32_t)i < n ? x.v[i] : y.v[i]); }
static inline vf vf_load_bf16(const uint16_t *p)
{
    vi bits;
    for (int i = 0; i < LANES; i++) bits.v[i] = (int32_t)((uint32_t)p[i] << 16);
    return vf_from_bits(bits);
}
static inline vf vf_load_f16(const uint16_t *p) { CN_EACH(vf, half_to_float(p[i])); }
#undef CN_EACH

#endif

/* 16 pairs of bf16: their first and their second members. */
static inline void vf_load_bf16_pairs(const uint16_t *p, vf *first, vf *second)
{
    const vi pairs = vi_load(p);
    *first = vf_from_bits(vi_shl(pairs, 16));
    *second = vf_from_bits(vi_and(pairs, vi_set((int32_t)0xFFFF0000u)));
}

/* Adds the lanes, always in the same tree: halves, quarters, ... */
static inline float vf_sum(vf a)
{
    float v[LANES];
    vf_store(v, a);
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    }
    return v[0];
}

static inline float vf_max_lane(vf a)
{
    float v[LANES];
    vf_store(v, a);
    for (int i = 1; i < LANES; i++) v[0] = v[i] > v[0] ? v[i] : v[0];
    return v[0];
}

/* e^x. x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor polynomial of degree 7 (truncation
 * 4e-9 relative), 2^n by two exponent fields, so that the result may be subnormal-small. Relative
 * error below 2e-7; below -104 it is 0, above 88.7 infinite. NaN stays NaN. */
static inline vf vf_exp(vf x)
{
    // Beyond 89 the exponent fields would overflow. Of a NaN, max and min give their second argument.
    const vf clamped = vf_min(vf_set(89.0f), vf_max(vf_set(-104.0f), x));
    const vf n = vf_round(vf_mul(clamped, vf_set(1.44269504088896341f)));
    const vf high = vf_fma(n, vf_set(-0.693359375f), clamped);
    const vf r = vf_fma(n, vf_set(2.12194440e-4f), high);
    vf p = vf_set(1.0f / 5040.0f);
    p = vf_fma(p, r, vf_set(1.0f / 720.0f));
    p = vf_fma(p, r, vf_set(1.0f / 120.0f));
    p = vf_fma(p, r, vf_set(1.0f / 24.0f));
    p = vf_fma(p, r, vf_set(1.0f / 6.0f));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    const vi e = vf_to_int(n), half = vi_sar(e, 1), bias = vi_set(127);
    const vf scale_a = vf_from_bits(vi_shl(vi_add(half, bias), 23));
    const vf scale_b = vf_from_bits(vi_shl(vi_add(vi_sub(e, half), bias), 23));
    return vf_mul(vf_mul(p, scale_a), scale_b);
}

/* ln x for normal x > 0. x = 2^e m with m in [sqrt 1/2, sqrt 2); ln m = 2 atanh((m-1)/(m+1)) by its
 * series to degree 11, relative error below 3e-7 also next to 1. */
static inline vf vf_log(vf x)
{
    const vi offset = vi_sub(vf_bits(x), vi_set(0x3F3504F3));        // sqrt 1/2
    const vi e = vi_sar(offset, 23);
    const vf m = vf_from_bits(vi_sub(vf_bits(x), vi_shl(e, 23)));
    const vf t = vf_div(vf_sub(m, vf_set(1.0f)), vf_add(m, vf_set(1.0f))), t2 = vf_mul(t, t);
    vf p = vf_set(2.0f / 11.0f);
    p = vf_fma(p, t2, vf_set(2.0f / 9.0f));
    p = vf_fma(p, t2, vf_set(2.0f / 7.0f));
    p = vf_fma(p, t2, vf_set(2.0f / 5.0f));
    p = vf_fma(p, t2, vf_set(2.0f / 3.0f));
    p = vf_fma(p, t2, vf_set(2.0f));
    return vf_fma(vi_to_float(e), vf_set(0.693147180559945f), vf_mul(p, t));
}
