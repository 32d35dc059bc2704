/* Compiled once per instruction set, with CN_PATH_NAME and CN_PATH_LABEL given by CMake; see vec_int.h. */
#include "kernels/cpu/path_int.h"

#include <math.h>

#include "kernels/cpu/half_int.h"
#include "kernels/cpu/vec_int.h"

/* How it works.
 *
 * Products. A panel holds 16 outputs of the matrix for all inputs; a tile keeps up to CN_TILE_ROWS rows
 * times two panels in registers and walks along the inputs once:
 *
 *        in ──▶                       panel n      panel n+1
 *   row m   │a0 a1 a2 ...      ×    │16 outputs│ │16 outputs│   of input pair k, k+1, ...
 *   row m+1 │a0 a1 a2 ...
 *
 * Each output has one accumulator and adds its inputs in ascending order, so neither the number of
 * rows nor the tiling shows in the bits. Where the matrix has slices, the accumulator begins anew for each,
 * and the sums wait for their neighbours. One row alone is bound by memory: four panels at a time then
 * keep more lines on the way. With bf16 weights there are two forms: widen both members of a pair to
 * float and fuse, or (avx512-bf16) the dot instruction on pairs, with the row rounded to bf16.
 *
 * Attention. A page keeps K transposed, so that its 16 tokens are 16 lanes:
 *
 *   K [head_dim][16 tokens]  (bf16: [head_dim / 2][16][2])        V [16 tokens][head_dim]
 *
 * A score adds its dimensions in ascending order; a split of 256 positions has its own maximum, sum
 * (lane by lane, then the fixed tree) and weighted V (tokens ascending); splits are merged in their
 * order. Which queries share a tile, and whether a split was visited by another thread, does not show. */

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

enum { SLICE_LEVELS = 3 };       // CN_SLICES is 1 << 3

#if defined(CN_PATH_AVX512)
enum { ROWS = CN_TILE_ROWS, QUERIES = 4, VECTORS = 4 };
#else
enum { ROWS = 2, QUERIES = 2, VECTORS = 2 };
#endif

// ---- products

typedef enum form { FORM_F32, FORM_F16, FORM_BF16, FORM_BF16_DOT } form;

INLINE void add_step(form f, int rows, int panels, vf acc[][4], const unsigned char *w,
                     size_t panel_bytes, const float *a, const uint16_t *a16, size_t stride, size_t k)
{
    if (f == FORM_BF16) {
        vf first[4], second[4];
        UNROLL for (int n = 0; n < panels; n++) {
            vf_load_bf16_pairs((const uint16_t *)(w + n * panel_bytes) + k * 32, &first[n], &second[n]);
        }
        UNROLL for (int m = 0; m < rows; m++) {
            const vf even = vf_set(a[m * stride + 2 * k]), odd = vf_set(a[m * stride + 2 * k + 1]);
            UNROLL for (int n = 0; n < panels; n++) {
                acc[m][n] = vf_fma(second[n], odd, vf_fma(first[n], even, acc[m][n]));
            }
        }
        return;
    }
#if defined(CN_PATH_BF16)
    if (f == FORM_BF16_DOT) {
        __m512bh pairs[4];
        UNROLL for (int n = 0; n < panels; n++) {
            pairs[n] = (__m512bh)_mm512_loadu_si512((const uint16_t *)(w + n * panel_bytes) + k * 32);
        }
        UNROLL for (int m = 0; m < rows; m++) {
            int32_t pair;
            memcpy(&pair, a16 + m * stride + 2 * k, sizeof pair);
            const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
            UNROLL for (int n = 0; n < panels; n++) {
                acc[m][n] = _mm512_dpbf16_ps(acc[m][n], pairs[n], both);
            }
        }
        return;
    }
#else
    (void)a16;
#endif
    vf column[4];
    UNROLL for (int n = 0; n < panels; n++) {
        column[n] = f == FORM_F32 ? vf_load((const float *)(w + n * panel_bytes) + k * 16)
                                  : vf_load_f16((const uint16_t *)(w + n * panel_bytes) + k * 16);
    }
    UNROLL for (int m = 0; m < rows; m++) {
        const vf one = vf_set(a[m * stride + k]);
        UNROLL for (int n = 0; n < panels; n++) acc[m][n] = vf_fma(column[n], one, acc[m][n]);
    }
}

static vf silu(vf x)
{
    return vf_div(x, vf_add(vf_set(1.0f), vf_exp(vf_sub(vf_set(0.0f), x))));
}

INLINE void finish_tile(const cn_product *p, int rows, int panels, vf acc[][4], uint32_t row,
                        uint32_t column)
{
    UNROLL for (int m = 0; m < rows; m++) {
        float *c = p->c + (size_t)(row + (uint32_t)m) * p->c_stride;
        if (p->epilogue == CN_SWIGLU) {
            for (int n = 0; n < panels; n += 2) {
                const uint32_t at = (column + (uint32_t)n * CN_PANEL) / 2;
                vf_store(c + at, vf_mul(silu(acc[m][n]), acc[m][n + 1]));
            }
            continue;
        }
        UNROLL for (int n = 0; n < panels; n++) {
            float *at = c + column + n * CN_PANEL;
            vf_store(at, p->epilogue == CN_ADD ? vf_add(vf_load(at), acc[m][n]) : acc[m][n]);
        }
    }
}

// As in a binary counter: a sum joins those of all levels below it that are complete, or waits at its own.
INLINE void join_slice(int rows, int panels, vf acc[][4], vf waiting[][CN_TILE_ROWS][4], uint32_t slice,
                       bool last)
{
    uint32_t level = 0;
    for (; slice >> level & 1; level++) {
        UNROLL for (int m = 0; m < rows; m++) {
            UNROLL for (int n = 0; n < panels; n++) acc[m][n] = vf_add(waiting[level][m][n], acc[m][n]);
        }
    }
    if (last) return;
    UNROLL for (int m = 0; m < rows; m++) {
        UNROLL for (int n = 0; n < panels; n++) waiting[level][m][n] = acc[m][n];
    }
}

INLINE void tile(form f, int rows, int panels, const cn_product *p, uint32_t row, uint32_t column)
{
    const size_t element = f == FORM_F32 ? 4 : 2;
    const size_t panel_bytes = (size_t)p->w.in * CN_PANEL * element;
    const unsigned char *w = (const unsigned char *)p->w.data + column / CN_PANEL * panel_bytes;
    const float *a = p->a + (size_t)row * p->a_stride;
    const uint16_t *a16 = p->a_bf16 ? p->a_bf16 + (size_t)row * p->a_stride : NULL;
    const size_t pair = f == FORM_F32 || f == FORM_F16 ? 1 : 2;      // inputs of one step
    const uint32_t slices = p->w.slice_count ? p->w.slice_count : 1;
    vf acc[CN_TILE_ROWS][4], waiting[SLICE_LEVELS][CN_TILE_ROWS][4];
    size_t k = 0;
    for (uint32_t slice = 0; slice < slices; slice++) {
        const size_t end = (p->w.slice_count ? p->w.slice_ends[slice] : p->w.in) / pair;
        UNROLL for (int m = 0; m < rows; m++) {
            UNROLL for (int n = 0; n < panels; n++) acc[m][n] = vf_set(0.0f);
        }
        for (; k < end; k++) add_step(f, rows, panels, acc, w, panel_bytes, a, a16, p->a_stride, k);
        join_slice(rows, panels, acc, waiting, slice, slice + 1 == slices);
    }
    finish_tile(p, rows, panels, acc, row, column);
}

INLINE void some_rows(form f, const cn_product *p, uint32_t row, uint32_t rows, uint32_t column)
{
    switch (rows) {
    case 1: tile(f, 1, 2, p, row, column); break;
    case 2: tile(f, 2, 2, p, row, column); break;
#if defined(CN_PATH_AVX512)
    case 3: tile(f, 3, 2, p, row, column); break;
    case 4: tile(f, 4, 2, p, row, column); break;
    case 5: tile(f, 5, 2, p, row, column); break;
    case 6: tile(f, 6, 2, p, row, column); break;
    case 7: tile(f, 7, 2, p, row, column); break;
    default: tile(f, 8, 2, p, row, column); break;
#endif
    }
}

INLINE void product_in(form f, const cn_product *p)
{
    uint32_t column = p->begin;
    if (p->rows == 1) {
        for (; column + 4 * CN_PANEL <= p->end; column += 4 * CN_PANEL) tile(f, 1, 4, p, 0, column);
    }
    for (; column < p->end; column += 2 * CN_PANEL) {
        for (uint32_t row = 0; row < p->rows; row += ROWS) {
            const uint32_t left = p->rows - row;
            some_rows(f, p, row, left < ROWS ? left : ROWS, column);
        }
    }
}

static void product(const cn_product *p)
{
    switch (p->w.dtype) {
    case CN_DTYPE_F32: product_in(FORM_F32, p); break;
    case CN_DTYPE_F16: product_in(FORM_F16, p); break;
    case CN_DTYPE_BF16:
#if defined(CN_PATH_BF16)
        product_in(FORM_BF16_DOT, p);
#else
        product_in(FORM_BF16, p);
#endif
        break;
    }
}

static void to_bf16(const float *a, uint16_t *out, uint32_t n)
{
#if defined(CN_PATH_BF16)
    for (uint32_t i = 0; i < n; i += LANES) {
        const __m256bh half = _mm512_cvtneps_pbh(vf_load(a + i));
        _mm256_storeu_si256((void *)(out + i), (__m256i)half);
    }
#else
    for (uint32_t i = 0; i < n; i++) out[i] = half_round_bf16(a[i]);
#endif
}

static void rms_norm(const float *x, const float *w, float *y, uint32_t n, float eps)
{
    const uint32_t whole = n / LANES * LANES;
    vf sum = vf_set(0.0f);
    float last[LANES] = {0};
    for (uint32_t i = 0; i < whole; i += LANES) sum = vf_fma(vf_load(x + i), vf_load(x + i), sum);
    memcpy(last, x + whole, (n - whole) * sizeof *x);
    sum = vf_fma(vf_load(last), vf_load(last), sum);
    const vf scale = vf_set(1.0f / sqrtf(vf_sum(sum) / (float)n + eps));
    for (uint32_t i = 0; i < whole; i += LANES) {
        vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), scale), vf_load(w + i)));
    }
    if (whole == n) return;
    float w_last[LANES] = {0};
    memcpy(w_last, w + whole, (n - whole) * sizeof *w);
    vf_store(last, vf_mul(vf_mul(vf_load(last), scale), vf_load(w_last)));
    memcpy(y + whole, last, (n - whole) * sizeof *y);
}

// ---- attention

/* Scores of `count` queries against `page_count` pages of K, together at most 8 vectors: enough chains
 * of additions, and enough lines on their way from memory, to keep both busy. */
INLINE void score_some(cn_dtype dtype, int count, int page_count, const cn_attention *t, uint32_t query,
                       const unsigned char *const *k, float *scores)
{
    vf acc[8][4];
    const float *q[8];
    UNROLL for (int i = 0; i < count; i++) {
        q[i] = t->q + t->q_offsets[query + (uint32_t)i];
        UNROLL for (int j = 0; j < page_count; j++) acc[i][j] = vf_set(0.0f);
    }
    for (uint32_t d = 0; d < t->head_dim; d += 2) {
        UNROLL for (int j = 0; j < page_count; j++) {
            const size_t at = (size_t)d * CN_PAGE_TOKENS;
            vf first, second;
            if (dtype == CN_DTYPE_BF16) {
                vf_load_bf16_pairs((const uint16_t *)k[j] + at, &first, &second);
            } else {
                first = vf_load((const float *)k[j] + at);
                second = vf_load((const float *)k[j] + at + CN_PAGE_TOKENS);
            }
            UNROLL for (int i = 0; i < count; i++) {
                acc[i][j] = vf_fma(second, vf_set(q[i][d + 1]), vf_fma(first, vf_set(q[i][d]), acc[i][j]));
            }
        }
    }
    UNROLL for (int i = 0; i < count; i++) {
        UNROLL for (int j = 0; j < page_count; j++) {
            vf_store(scores + (size_t)i * CN_SPLIT_TOKENS + (size_t)j * CN_PAGE_TOKENS, acc[i][j]);
        }
    }
}

// All queries from `query` on against `page_count` pages, which is 1 or 4.
INLINE void score_pages(cn_dtype dtype, int page_count, const cn_attention *t, uint32_t query,
                        const unsigned char *const *k, float *scores)
{
    uint32_t at = query;
    for (; page_count == 1 && at + 8 <= t->query_count; at += 8) {
        score_some(dtype, 8, 1, t, at, k, scores + (size_t)at * CN_SPLIT_TOKENS);
    }
    for (; page_count == 1 && at + 4 <= t->query_count; at += 4) {
        score_some(dtype, 4, 1, t, at, k, scores + (size_t)at * CN_SPLIT_TOKENS);
    }
    for (; at + 2 <= t->query_count; at += 2) {
        score_some(dtype, 2, page_count, t, at, k, scores + (size_t)at * CN_SPLIT_TOKENS);
    }
    for (; at < t->query_count; at++) {
        score_some(dtype, 1, page_count, t, at, k, scores + (size_t)at * CN_SPLIT_TOKENS);
    }
}

/* acc += sum over tokens of p * V, for `count` queries and `vectors` times 16 dimensions from `d`. */
INLINE void weigh_some(cn_dtype dtype, int count, int vectors, uint32_t tokens, const unsigned char *v,
                       size_t v_stride, uint32_t d, const float *p, float *acc, size_t acc_stride)
{
    vf sum[4][4];
    UNROLL for (int i = 0; i < count; i++) {
        UNROLL for (int j = 0; j < vectors; j++) {
            sum[i][j] = vf_load(acc + (size_t)i * acc_stride + d + (uint32_t)j * LANES);
        }
    }
    for (uint32_t token = 0; token < tokens; token++) {
        vf row[4];
        const size_t at = token * v_stride + d;
        UNROLL for (int j = 0; j < vectors; j++) {
            row[j] = dtype == CN_DTYPE_BF16 ? vf_load_bf16((const uint16_t *)v + at + j * LANES)
                                            : vf_load((const float *)v + at + j * LANES);
        }
        UNROLL for (int i = 0; i < count; i++) {
            const vf weight = vf_set(p[(size_t)i * CN_SPLIT_TOKENS + token]);
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vf_fma(row[j], weight, sum[i][j]);
        }
    }
    UNROLL for (int i = 0; i < count; i++) {
        UNROLL for (int j = 0; j < vectors; j++) {
            vf_store(acc + (size_t)i * acc_stride + d + (uint32_t)j * LANES, sum[i][j]);
        }
    }
}

INLINE void weigh_rows(cn_dtype dtype, int count, uint32_t tokens, const unsigned char *v,
                       size_t v_stride, uint32_t dims, const float *p, float *acc, size_t acc_stride)
{
    uint32_t d = 0;
    for (; d + VECTORS * LANES <= dims; d += VECTORS * LANES) {
        weigh_some(dtype, count, VECTORS, tokens, v, v_stride, d, p, acc, acc_stride);
    }
    for (; d < dims; d += LANES) weigh_some(dtype, count, 1, tokens, v, v_stride, d, p, acc, acc_stride);
}

typedef struct work {
    float *scores;               // [query][CN_SPLIT_TOKENS]: scores, then weights
    float *acc;                  // [query][pad]: weighted V of this split
    float *total;                // [query][pad]: merged so far
    float *max, *sum;            // [query] of this split
    float *total_max, *total_sum;
    float *v_copy;               // a page of V with padded rows, where head_dim is odd-sized
    size_t pad;
} work;

static work lay_out(const cn_attention *t)
{
    work w = {.pad = cn_path_pad(t->head_dim), .scores = t->scratch};
    w.acc = w.scores + (size_t)CN_QUERY_TILE * CN_SPLIT_TOKENS;
    w.total = w.acc + CN_QUERY_TILE * w.pad;
    w.max = w.total + CN_QUERY_TILE * w.pad;
    w.sum = w.max + CN_QUERY_TILE;
    w.total_max = w.sum + CN_QUERY_TILE;
    w.total_sum = w.total_max + CN_QUERY_TILE;
    w.v_copy = w.total_sum + CN_QUERY_TILE;
    return w;
}

static uint32_t valid_tokens(uint32_t position, uint32_t begin)
{
    if (position < begin) return 0;
    const uint32_t count = position - begin + 1;
    return count < CN_SPLIT_TOKENS ? count : CN_SPLIT_TOKENS;
}

// Scores of one query become weights; tokens that it may not see weigh nothing.
static void soften(work *w, uint32_t query, uint32_t valid)
{
    float *s = w->scores + (size_t)query * CN_SPLIT_TOKENS;
    const vf lowest = vf_set(-INFINITY), zero = vf_set(0.0f);
    vf max = lowest, sum = zero;
    for (uint32_t i = 0; i < valid; i += LANES) {
        const uint32_t n = valid - i < LANES ? valid - i : LANES;
        max = vf_max(max, n < LANES ? vf_first(vf_load(s + i), lowest, n) : vf_load(s + i));
    }
    w->max[query] = vf_max_lane(max);
    const vf base = vf_set(w->max[query]);
    for (uint32_t i = 0; i < valid; i += LANES) {
        const uint32_t n = valid - i < LANES ? valid - i : LANES;
        vf e = vf_exp(vf_sub(vf_load(s + i), base));
        if (n < LANES) e = vf_first(e, zero, n);
        vf_store(s + i, e);
        sum = vf_add(sum, e);
    }
    // What lies behind is read beside queries of the tile that see more.
    const uint32_t end = (valid + LANES - 1) / LANES * LANES;
    memset(s + end, 0, (CN_SPLIT_TOKENS - end) * sizeof *s);
    w->sum[query] = vf_sum(sum);
}

// V of a page with rows that can be read in whole vectors.
static const unsigned char *v_rows(const cn_attention *t, work *w, const unsigned char *v,
                                   uint32_t tokens, size_t *stride)
{
    const size_t element = t->dtype == CN_DTYPE_BF16 ? 2 : 4;
    *stride = t->head_dim;
    if (t->head_dim % LANES == 0) return v;
    *stride = w->pad;
    for (uint32_t token = 0; token < tokens; token++) {
        unsigned char *row = (unsigned char *)w->v_copy + token * w->pad * element;
        memset(row, 0, w->pad * element);
        memcpy(row, v + (size_t)token * t->head_dim * element, t->head_dim * element);
    }
    return (const unsigned char *)w->v_copy;
}

INLINE void weigh_page(cn_dtype dtype, const cn_attention *t, work *w, uint32_t first, uint32_t tokens,
                       const unsigned char *v, uint32_t offset)
{
    size_t stride;
    const unsigned char *rows = v_rows(t, w, v, tokens, &stride);
    const uint32_t dims = (t->head_dim + LANES - 1) / LANES * LANES;
    uint32_t query = first;
    for (; query + QUERIES <= t->query_count; query += QUERIES) {
        weigh_rows(dtype, QUERIES, tokens, rows, stride, dims,
                   w->scores + (size_t)query * CN_SPLIT_TOKENS + offset, w->acc + query * w->pad, w->pad);
    }
    for (; query < t->query_count; query++) {
        weigh_rows(dtype, 1, tokens, rows, stride, dims,
                   w->scores + (size_t)query * CN_SPLIT_TOKENS + offset, w->acc + query * w->pad, w->pad);
    }
}

INLINE void prefetch(const unsigned char *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at);
}

/* One split for all queries that see some of it. Queries are in the order of their positions, so these
 * are the last ones, from `first` on. */
INLINE void visit_split(cn_dtype dtype, const cn_attention *t, work *w, uint32_t split, uint32_t first)
{
    const uint32_t begin = split * CN_SPLIT_TOKENS;
    const uint32_t most = valid_tokens(t->positions[t->query_count - 1], begin);
    const size_t v_bytes = (size_t)CN_PAGE_TOKENS * t->head_dim * (dtype == CN_DTYPE_BF16 ? 2 : 4);
    const unsigned char *pages[CN_SPLIT_TOKENS / CN_PAGE_TOKENS], *k[CN_SPLIT_TOKENS / CN_PAGE_TOKENS];
    const uint32_t page_count = (most + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    for (uint32_t i = 0; i < page_count; i++) {
        pages[i] = t->pages + t->table[begin / CN_PAGE_TOKENS + i].v * t->page_bytes;
        k[i] = pages[i] + t->k_offset;
    }
    uint32_t done = 0;
    // A few queries, as when decoding, take several pages at a time.
    for (; t->query_count - first < 4 && done + 4 <= page_count; done += 4) {
        score_pages(dtype, 4, t, first, k + done, w->scores + (size_t)done * CN_PAGE_TOKENS);
    }
    for (; done < page_count; done++) {
        score_pages(dtype, 1, t, first, k + done, w->scores + (size_t)done * CN_PAGE_TOKENS);
    }
    for (uint32_t query = first; query < t->query_count; query++) {
        soften(w, query, valid_tokens(t->positions[query], begin));
        memset(w->acc + query * w->pad, 0, w->pad * sizeof(float));
    }
    for (uint32_t i = 0; i < page_count; i++) {
        const uint32_t at = i * CN_PAGE_TOKENS;
        const uint32_t tokens = most - at < CN_PAGE_TOKENS ? most - at : CN_PAGE_TOKENS;
        if (i + 1 < page_count) prefetch(pages[i + 1] + t->v_offset, v_bytes);
        weigh_page(dtype, t, w, first, tokens, pages[i] + t->v_offset, at);
    }
}

static float exp_of(float x)
{
    float lanes[LANES];
    vf_store(lanes, vf_exp(vf_set(x)));
    return lanes[0];
}

// (max, sum, acc) of a later split joins what was merged so far.
static void join(float *total_max, float *total_sum, float *total, float max, float sum,
                 const float *acc, size_t dims)
{
    const float top = max > *total_max ? max : *total_max;
    const float keep = exp_of(*total_max - top), take = exp_of(max - top);
    for (size_t d = 0; d < dims; d += LANES) {
        vf_store(total + d, vf_fma(vf_load(acc + d), vf_set(take),
                                   vf_mul(vf_load(total + d), vf_set(keep))));
    }
    *total_sum = *total_sum * keep + sum * take;
    *total_max = top;
}

static void write_result(const float *total, float sum, float *out, uint32_t head_dim)
{
    uint32_t d = 0;
    for (; d + LANES <= head_dim; d += LANES) vf_store(out + d, vf_div(vf_load(total + d), vf_set(sum)));
    if (d == head_dim) return;
    float last[LANES];
    vf_store(last, vf_div(vf_load(total + d), vf_set(sum)));
    memcpy(out + d, last, (head_dim - d) * sizeof *out);
}

static void leave_partial(const cn_attention *t, const work *w, uint32_t split)
{
    const size_t entry = t->head_dim + 2;
    for (uint32_t query = 0; query < t->query_count; query++) {
        float *to = t->partial + ((size_t)(split - t->split_begin) * t->query_count + query) * entry;
        to[0] = w->max[query];
        to[1] = w->sum[query];
        memcpy(to + 2, w->acc + query * w->pad, t->head_dim * sizeof *to);
    }
}

static void merge_split(const cn_attention *t, work *w, uint32_t split, uint32_t first)
{
    for (uint32_t query = first; query < t->query_count; query++) {
        float *total = w->total + query * w->pad;
        if (split == 0) {
            w->total_max[query] = w->max[query];
            w->total_sum[query] = w->sum[query];
            memcpy(total, w->acc + query * w->pad, w->pad * sizeof *total);
        } else {
            join(&w->total_max[query], &w->total_sum[query], total, w->max[query], w->sum[query],
                 w->acc + query * w->pad, w->pad);
        }
    }
}

static void attention(const cn_attention *t)
{
    work w = lay_out(t);
    for (uint32_t split = t->split_begin, first = 0; split < t->split_end; split++) {
        while (first < t->query_count && t->positions[first] < split * CN_SPLIT_TOKENS) first++;
        if (first == t->query_count) break;
        if (t->dtype == CN_DTYPE_BF16) visit_split(CN_DTYPE_BF16, t, &w, split, first);
        else visit_split(CN_DTYPE_F32, t, &w, split, first);
        if (t->partial) leave_partial(t, &w, split);
        else merge_split(t, &w, split, first);
    }
    for (uint32_t query = 0; query < t->query_count && !t->partial; query++) {
        write_result(w.total + query * w.pad, w.total_sum[query], t->out + t->out_offsets[query],
                     t->head_dim);
    }
}

static void merge(const float *partial, uint64_t stride, uint32_t split_count, uint32_t head_dim,
                  float *out)
{
    float total[512] = {0}, acc[512] = {0}, max = partial[0], sum = partial[1];
    memcpy(total, partial + 2, head_dim * sizeof *total);
    for (uint32_t split = 1; split < split_count; split++) {
        const float *from = partial + split * stride;
        memcpy(acc, from + 2, head_dim * sizeof *acc);
        join(&max, &sum, total, from[0], from[1], acc, cn_path_pad(head_dim));
    }
    write_result(total, sum, out, head_dim);
}

// ---- rows of logits

static float row_max(const float *logits, uint32_t n, bool *finite)
{
    vf max = vf_set(-INFINITY), check = vf_set(0.0f);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vf x = vf_load(logits + i);
        max = vf_max(max, x);
        check = vf_fma(x, vf_set(0.0f), check);      // NaN as soon as one is not finite
    }
    float best = vf_max_lane(max), sum = vf_sum(check);
    for (; i < n; i++) {
        if (logits[i] > best) best = logits[i];
        sum += logits[i] * 0.0f;
    }
    *finite = sum == 0.0f;
    return best;
}

static float row_sum_exp(const float *logits, uint32_t n, float max, float scale)
{
    const vf base = vf_set(max), factor = vf_set(scale);
    vf sum = vf_set(0.0f);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        sum = vf_add(sum, vf_exp(vf_mul(vf_sub(vf_load(logits + i), base), factor)));
    }
    if (i < n) {
        float last[LANES] = {0};
        memcpy(last, logits + i, (n - i) * sizeof *logits);
        const vf e = vf_exp(vf_mul(vf_sub(vf_load(last), base), factor));
        sum = vf_add(sum, vf_first(e, vf_set(0.0f), n - i));
    }
    return vf_sum(sum);
}

/* Philox4x32-10 (Salmon et al. 2011), keyed by the seed; the counter is position and token / 4, and the
 * token's remainder picks the word. */
static void philox(uint64_t seed, uint32_t position, uint32_t group, uint32_t out[4])
{
    uint32_t c0 = position, c1 = group, c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)c0 * 0xD2511F53u, b = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

// Uniform in (0, 1), never 0 or 1: 23 bits, centred. One bit more would not fit a float beside the
// half: the largest would round to 1, whose noise is without bound.
static float uniform(uint32_t word) { return ((float)(word >> 9) + 0.5f) * 0x1p-23f; }

static void add_gumbel(const float *x, float *out, uint32_t n, uint64_t seed, uint32_t position,
                       const int32_t *ids, int32_t first_id)
{
    uint32_t words[4] = {0}, group = UINT32_MAX;
    for (uint32_t at = 0; at < n; at += LANES) {
        const uint32_t count = n - at < LANES ? n - at : LANES;
        float u[LANES], sum[LANES] = {0};
        for (uint32_t i = 0; i < LANES; i++) {
            const uint32_t id = i >= count ? 0 : (uint32_t)(ids ? ids[at + i] : first_id + (int32_t)(at + i));
            if (id / 4 != group) philox(seed, position, group = id / 4, words);
            u[i] = uniform(words[id % 4]);
        }
        memcpy(sum, x + at, count * sizeof *sum);
        const vf zero = vf_set(0.0f), e = vf_sub(zero, vf_log(vf_load(u)));
        vf_store(sum, vf_sub(vf_load(sum), vf_log(e)));
        memcpy(out + at, sum, count * sizeof *sum);
    }
}

#if defined(CN_PATH_BF16)
#define WANTS_BF16 true
#else
#define WANTS_BF16 false
#endif

const cn_path CN_PATH_NAME = {
    .name = CN_PATH_LABEL,
    .wants_bf16 = WANTS_BF16,
    .product = product,
    .to_bf16 = to_bf16,
    .rms_norm = rms_norm,
    .attention = attention,
    .merge = merge,
    .row_max = row_max,
    .row_sum_exp = row_sum_exp,
    .add_gumbel = add_gumbel,
};
