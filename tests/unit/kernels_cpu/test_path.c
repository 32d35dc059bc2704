#include "kernels/cpu/path_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

/* Every path of this machine against double precision. u = 2^-24 is half a unit in the last place
 * of 1; a float result of n roundings of terms t is off by at most n u sum |t| (Higham 2002,
 * lemma 3.1, the second-order part covered by the slack that each bound names). */

static const double u = 0x1p-24;

enum { PATH_COUNT = 4 };

static uint32_t machine_paths(const cn_path *out[PATH_COUNT])
{
    static const char *const names[PATH_COUNT] = {"portable", "avx2", "avx512", "avx512-bf16"};
    uint32_t count = 0;
    for (uint32_t i = 0; i < PATH_COUNT; i++) {
        const cn_path *path = cn_path_choose(names[i]);
        if (path) out[count++] = path;
    }
    assert_true(count >= 1); // portable runs everywhere
    return count;
}

static void on_every_path(void (*test)(const cn_path *path))
{
    const cn_path *paths[PATH_COUNT];
    const uint32_t count = machine_paths(paths);
    for (uint32_t i = 0; i < count; i++) {
        print_message("  %s\n", paths[i]->name);
        test(paths[i]);
    }
}

// ---- numbers

static float bits_to_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t float_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float between(test_rng *rng, float low, float high)
{
    return low + (high - low) * (float)(test_rng_u64(rng) >> 40) * 0x1p-24f;
}

// To the nearest, ties to even: by comparing the two neighbours, not by adding bits.
static uint16_t nearest_bf16(float value)
{
    const uint32_t low = float_to_bits(value) & 0xFFFF0000u;
    if (isnan(value)) return (uint16_t)(low >> 16 | 0x40);
    if (isinf(value)) return (uint16_t)(low >> 16);
    const uint32_t high = low + 0x10000u; // away from zero
    const double magnitude = fabs((double)value), below = fabs((double)bits_to_float(low));
    // The largest finite number is followed by what would be 2^128.
    const float next = bits_to_float(high);
    const double above = isinf(next) ? 0x1p128 : fabs((double)next);
    const double down = magnitude - below, up = above - magnitude;
    const bool take_high = up < down || (up == down && (high >> 16) % 2 == 0);
    return (uint16_t)((take_high ? high : low) >> 16);
}

static float bf16_value(uint16_t half)
{
    return bits_to_float((uint32_t)half << 16);
}

static double f16_value(uint16_t half)
{
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const double magnitude =
        exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

static void *must_have(size_t bytes)
{
    void *memory = malloc(bytes);
    assert_non_null(memory);
    return memory;
}

static float *random_floats(test_rng *rng, size_t count, float bound)
{
    float *out = must_have(count * sizeof *out);
    for (size_t i = 0; i < count; i++) out[i] = between(rng, -bound, bound);
    return out;
}

// ---- products

typedef struct matrix {
    cn_packed packed;
    double *values; // [out][in], padded as packed is
    void *memory;
} matrix;

/* As path_int.h describes the layout; `out` and `in` are real sizes. The last row and the last
 * column of values are zero where padded. */
static matrix random_matrix(test_rng *rng, cn_dtype dtype, uint32_t out, uint32_t in)
{
    const uint32_t out_pad = cn_path_pad(out), in_pad = (in + 1) & ~1u;
    const size_t count = (size_t)out_pad * in_pad;
    matrix m = {.values = calloc(count, sizeof *m.values), .memory = calloc(count, 4)};
    assert_true(m.values && m.memory);
    for (uint32_t row = 0; row < out; row++) {
        for (uint32_t k = 0; k < in; k++) {
            const size_t panel = (size_t)(row / CN_PANEL) * in_pad * CN_PANEL;
            const size_t plain = panel + (size_t)k * CN_PANEL + row % CN_PANEL;
            const size_t paired =
                panel + (size_t)(k / 2) * 2 * CN_PANEL + row % CN_PANEL * 2 + k % 2;
            double *value = &m.values[(size_t)row * in_pad + k];
            if (dtype == CN_DTYPE_F32) {
                *value = (double)(((float *)m.memory)[plain] = between(rng, -1, 1));
            } else if (dtype == CN_DTYPE_BF16) {
                const uint16_t half = nearest_bf16(between(rng, -1, 1));
                ((uint16_t *)m.memory)[paired] = half;
                *value = (double)bf16_value(half);
            } else { // every exponent up to 1, subnormal numbers too
                const uint16_t half =
                    (uint16_t)(test_rng_below(rng, 0x3C00) | test_rng_below(rng, 2) << 15);
                ((uint16_t *)m.memory)[plain] = half;
                *value = f16_value(half);
            }
        }
    }
    m.packed = (cn_packed){.data = m.memory, .dtype = dtype, .out = out_pad, .in = in_pad};
    return m;
}

static void matrix_free(matrix *m)
{
    free(m->values);
    free(m->memory);
}

typedef struct dot {
    double sum, magnitude;
} dot;

static dot exact_dot(const matrix *m, uint32_t row, const float *a, const uint16_t *a16)
{
    dot d = {0, 0};
    for (uint32_t k = 0; k < m->packed.in; k++) {
        const double term =
            m->values[(size_t)row * m->packed.in + k] * (double)(a16 ? bf16_value(a16[k]) : a[k]);
        d.sum += term;
        d.magnitude += fabs(term);
    }
    return d;
}

/* A path rounds each term at most twice (product and sum where it cannot fuse), so the bound is
 * (2 in + 2) u magnitude; 2^-100 covers what the dot instruction flushes to zero. */
static double dot_bound(const matrix *m, dot d)
{
    return (2.0 * m->packed.in + 2) * u * d.magnitude + 0x1p-100;
}

static void expect_near(float got, double want, double bound, const char *path, const char *what)
{
    if (!(fabs((double)got - want) <= bound)) {
        fail_msg("%s, %s: %.9g, should be %.9g within %.3g", path, what, (double)got, want, bound);
    }
}

/* silu(x) = x / (1 + e^-x): its slope is below 1.1; e^-x is within 2e-7 = 3.4 u (vec_int.h), its
 * argument exact, and three more roundings follow: 8 u with slack. Then one for the product. Where
 * e^-x overflows to infinity the result is 0 instead of less than 89 e^-88 < 1e-36. */
static void check_swiglu(const cn_path *path, const matrix *m, const float *a, const uint16_t *a16,
                         const float *c, uint32_t column)
{
    const uint32_t panel = column / CN_PANEL * 2, lane = column % CN_PANEL;
    const dot gate = exact_dot(m, panel * CN_PANEL + lane, a, a16);
    const dot up = exact_dot(m, (panel + 1) * CN_PANEL + lane, a, a16);
    const double s = gate.sum / (1 + exp(-gate.sum));
    const double s_bound = 1.1 * dot_bound(m, gate) + 8 * u * fabs(s) + 1e-36;
    const double bound =
        s_bound * fabs(up.sum) + (fabs(s) + s_bound) * dot_bound(m, up) + 2 * u * fabs(s * up.sum);
    expect_near(c[column], s * up.sum, bound, path->name, "swiglu");
}

typedef struct shape {
    uint32_t out, in, rows;
} shape;

enum { MARGIN = 32 };
static const float untouched = 12345.0f;

static void check_product(const cn_path *path, test_rng *rng, cn_dtype dtype, cn_epilogue epilogue,
                          shape s)
{
    matrix m = random_matrix(rng, dtype, s.out, s.in);
    const uint32_t stride = cn_path_pad(s.in), c_stride = m.packed.out + MARGIN;
    float *a = random_floats(rng, (size_t)s.rows * stride, 4.0f);
    uint16_t *a16 = must_have((size_t)s.rows * stride * sizeof *a16);
    for (uint32_t row = 0; row < s.rows; row++) {
        for (uint32_t k = s.in; k < stride; k++) a[(size_t)row * stride + k] = 0;
    }
    path->to_bf16(a, a16, s.rows * stride);
    const bool rounds = path->wants_bf16 && dtype == CN_DTYPE_BF16;
    const size_t c_count = (size_t)(s.rows + 1) * c_stride;
    float *c = random_floats(rng, c_count, 8.0f), *before = must_have(c_count * sizeof *c);
    for (size_t i = 0; i < c_count; i++) {
        if (i % c_stride >= m.packed.out || i / c_stride == s.rows) c[i] = untouched;
    }
    memcpy(before, c, c_count * sizeof *c);
    cn_product p = {.w = m.packed,
                    .a = a,
                    .a_bf16 = rounds ? a16 : NULL,
                    .c = c,
                    .rows = s.rows,
                    .a_stride = stride,
                    .c_stride = c_stride,
                    .epilogue = epilogue};
    // Two parts, as two threads would do it; an empty first part is a part too.
    const uint32_t middle = test_rng_below(rng, m.packed.out / CN_PAD + 1) * CN_PAD;
    p.end = middle;
    path->product(&p);
    p.begin = middle;
    p.end = m.packed.out;
    path->product(&p);
    for (uint32_t row = 0; row < s.rows; row++) {
        const float *a_row = a + (size_t)row * stride, *c_row = c + (size_t)row * c_stride;
        const uint16_t *a16_row = rounds ? a16 + (size_t)row * stride : NULL;
        const uint32_t columns = epilogue == CN_SWIGLU ? m.packed.out / 2 : m.packed.out;
        for (uint32_t column = 0; column < columns; column++) {
            if (epilogue == CN_SWIGLU) {
                check_swiglu(path, &m, a_row, a16_row, c_row, column);
                continue;
            }
            const dot d = exact_dot(&m, column, a_row, a16_row);
            const double old =
                epilogue == CN_ADD ? (double)before[(size_t)row * c_stride + column] : 0;
            const double bound = dot_bound(&m, d) + 2 * u * fabs(old + d.sum);
            expect_near(c_row[column], old + d.sum, bound, path->name, "product");
        }
        assert_memory_equal(c_row + columns, before + (size_t)row * c_stride + columns,
                            (c_stride - columns) * sizeof *c);
    }
    assert_memory_equal(c + (size_t)s.rows * c_stride, before + (size_t)s.rows * c_stride,
                        c_stride * sizeof *c);
    free(a);
    free(a16);
    free(c);
    free(before);
    matrix_free(&m);
}

static void products_of(const cn_path *path)
{
    test_rng rng = test_rng_open("products");
    static const shape edges[] = {{1, 1, 1},     {31, 2, 2},   {33, 3, 3},    {64, 300, 8},
                                  {129, 299, 9}, {160, 17, 1}, {200, 64, 40}, {65, 255, 17}};
    for (uint32_t dtype = CN_DTYPE_F32; dtype <= CN_DTYPE_F16; dtype++) {
        for (uint32_t epilogue = CN_STORE; epilogue <= CN_SWIGLU; epilogue++) {
            for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
                check_product(path, &rng, (cn_dtype)dtype, (cn_epilogue)epilogue, edges[i]);
            }
            for (int i = 0; i < 12; i++) {
                const shape s = {1 + test_rng_below(&rng, 200), 1 + test_rng_below(&rng, 300),
                                 1 + test_rng_below(&rng, 40)};
                check_product(path, &rng, (cn_dtype)dtype, (cn_epilogue)epilogue, s);
            }
        }
    }
}

/* Catches a tile that takes a wrong row, panel or member of a pair, a remainder of rows or panels
 * that is left out, an epilogue on the wrong columns, and writing beyond the part that was asked
 * for. */
static void products_agree_with_double(void **state)
{
    (void)state;
    on_every_path(products_of);
}

// Sums of slices [begin, end) as the header says: neighbours first.
static float tree_of(const float *sums, uint32_t begin, uint32_t end)
{
    const uint32_t middle = begin + (end - begin) / 2;
    if (end - begin == 1) return sums[begin];
    return tree_of(sums, begin, middle) + tree_of(sums, middle, end);
}

static void join_slices(const cn_path *path, test_rng *rng, cn_dtype dtype, uint32_t slice_count, uint32_t rows)
{
    enum { OUT = 96, IN = 120, STRIDE = 128 };
    matrix m = random_matrix(rng, dtype, OUT, IN);
    float *a = random_floats(rng, (size_t)rows * STRIDE, 4.0f);
    float *got = must_have((size_t)rows * OUT * sizeof *got), *sums = must_have(CN_SLICES * OUT * sizeof *sums);
    uint16_t *a16 = must_have((size_t)rows * STRIDE * sizeof *a16);
    m.packed.slice_count = slice_count;
    for (uint32_t i = 0, end = 0; i < slice_count; i++) {
        end += 2 * test_rng_below(rng, (IN - end) / 2 + 1);      // some are empty
        m.packed.slice_ends[i] = i + 1 < slice_count ? end : IN;
    }
    path->to_bf16(a, a16, rows * STRIDE);
    cn_product p = {.w = m.packed, .a = a, .a_bf16 = a16, .c = got, .rows = rows, .a_stride = STRIDE,
                    .c_stride = OUT, .end = OUT, .epilogue = CN_STORE};
    path->product(&p);
    p.w.slice_count = 0;
    p.rows = 1;
    for (uint32_t row = 0; row < rows; row++) {
        float part[STRIDE];
        uint16_t part16[STRIDE];
        for (uint32_t i = 0; i < slice_count; i++) {
            // What is multiplied by 0 adds nothing.
            const uint32_t begin = i ? m.packed.slice_ends[i - 1] : 0, end = m.packed.slice_ends[i];
            memset(part, 0, sizeof part);
            memcpy(part + begin, a + (size_t)row * STRIDE + begin, (end - begin) * sizeof *a);
            path->to_bf16(part, part16, STRIDE);
            p.a = part;
            p.a_bf16 = part16;
            p.c = sums + (size_t)i * OUT;
            path->product(&p);
        }
        for (uint32_t column = 0; column < OUT; column++) {
            float of_column[CN_SLICES];
            for (uint32_t i = 0; i < slice_count; i++) of_column[i] = sums[(size_t)i * OUT + column];
            assert_true(got[(size_t)row * OUT + column] == tree_of(of_column, 0, slice_count));
        }
    }
    free(a);
    free(a16);
    free(got);
    free(sums);
    matrix_free(&m);
}

static void slices_of(const cn_path *path)
{
    test_rng rng = test_rng_open("slices");
    for (uint32_t dtype = CN_DTYPE_F32; dtype <= CN_DTYPE_F16; dtype++) {
        for (uint32_t slice_count = 1; slice_count <= CN_SLICES; slice_count *= 2) {
            for (int i = 0; i < 8; i++) {
                join_slices(path, &rng, (cn_dtype)dtype, slice_count, 1 + test_rng_below(&rng, 20));
            }
        }
    }
}

/* Catches a slice that begins or ends elsewhere, and sums that are joined in another order. */
static void slices_are_joined_as_a_tree(void **state)
{
    (void)state;
    on_every_path(slices_of);
}

static void rows_alone_and_among_others(const cn_path *path)
{
    enum { OUT = 160, IN = 77, ROWS_MAX = 20, STRIDE = 96 };
    test_rng rng = test_rng_open("rows");
    for (uint32_t dtype = CN_DTYPE_F32; dtype <= CN_DTYPE_F16; dtype++) {
        matrix m = random_matrix(&rng, (cn_dtype)dtype, OUT, IN);
        float *a = random_floats(&rng, ROWS_MAX * STRIDE, 4.0f);
        static uint16_t a16[ROWS_MAX * STRIDE];
        static float together[ROWS_MAX * OUT], alone[OUT];
        for (uint32_t row = 0; row < ROWS_MAX; row++) {
            memset(a + row * STRIDE + IN, 0, (STRIDE - IN) * sizeof *a);
        }
        path->to_bf16(a, a16, ROWS_MAX * STRIDE);
        for (uint32_t epilogue = CN_STORE; epilogue <= CN_SWIGLU; epilogue++) {
            for (uint32_t rows = 1; rows <= ROWS_MAX; rows++) {
                memset(together, 0, sizeof together);
                cn_product p = {.w = m.packed,
                                .a = a,
                                .a_bf16 = a16,
                                .c = together,
                                .rows = rows,
                                .a_stride = STRIDE,
                                .c_stride = OUT,
                                .end = OUT,
                                .epilogue = (cn_epilogue)epilogue};
                path->product(&p);
                for (uint32_t row = 0; row < rows; row++) {
                    memset(alone, 0, sizeof alone);
                    p.a = a + row * STRIDE;
                    p.a_bf16 = a16 + row * STRIDE;
                    p.c = alone;
                    p.rows = 1;
                    path->product(&p);
                    assert_memory_equal(alone, together + row * OUT, sizeof alone);
                }
            }
        }
        free(a);
        matrix_free(&m);
    }
}

/* Catches an order of addition that depends on how many rows there are: idea 3 of the design would
 * be broken, and an answer would change with its neighbours. */
static void a_row_has_the_same_bits_alone_and_among_others(void **state)
{
    (void)state;
    on_every_path(rows_alone_and_among_others);
}

// ---- rounding

/* The dot instruction's rounding takes subnormal inputs for zero and gives zero for subnormal
 * results (Intel SDM, VCVTNEPS2BF16); the other paths round them as any number. */
static uint16_t expected_bf16(const cn_path *path, float value)
{
    const uint16_t sign = (uint16_t)(float_to_bits(value) >> 16 & 0x8000);
    if (path->wants_bf16 && fabsf(value) < 0x1p-126f) return sign;
    return nearest_bf16(value);
}

static void roundings_of(const cn_path *path)
{
    enum { BLOCK = 1 << 12 };
    static float in[BLOCK];
    static uint16_t out[BLOCK];
    static const uint16_t tails[] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
    const uint32_t tail_count = sizeof tails / sizeof *tails;
    uint32_t filled = 0;
    for (uint32_t i = 0; i < 65536 * tail_count; i++) {
        in[filled++] = bits_to_float((i / tail_count) << 16 | tails[i % tail_count]);
        if (filled < BLOCK && i + 1 < 65536 * tail_count) continue;
        memset(out, 0x5A, sizeof out);
        path->to_bf16(in, out, filled);
        for (uint32_t j = 0; j < filled; j++) {
            if (out[j] != expected_bf16(path, in[j])) {
                fail_msg("%s: %08x to %04x, should be %04x", path->name, float_to_bits(in[j]),
                         out[j], expected_bf16(path, in[j]));
            }
        }
        filled = 0;
    }
}

/* Catches a tie that goes the wrong way, a carry into the exponent that is lost, a largest number
 * that does not become infinite, and a NaN that becomes infinity: all upper halves, below, at and
 * above the middle. */
static void every_bf16_rounding_is_the_nearest(void **state)
{
    (void)state;
    on_every_path(roundings_of);
}

static void norms_of(const cn_path *path)
{
    test_rng rng = test_rng_open("norms");
    for (uint32_t n = 1; n <= 300; n++) {
        float *x = random_floats(&rng, n, n % 3 ? 1.0f : 1e4f), *w = random_floats(&rng, n, 2.0f);
        float *y = must_have(n * sizeof *y);
        const float eps = n % 2 ? 1e-5f : 1e-6f;
        double squares = 0;
        for (uint32_t i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
        const double scale = 1 / sqrt(squares / n + (double)eps);
        path->rms_norm(x, w, y, n, eps);
        for (uint32_t i = 0; i < n; i++) {
            // Half of the sum's error (2 n / 16 + 5 roundings, all terms positive) and eight more.
            const double want = (double)x[i] * scale * (double)w[i];
            const double bound = (n / 16.0 + 16) * u * fabs(want) + 0x1p-140;
            expect_near(y[i], want, bound, path->name, "rms_norm");
        }
        path->rms_norm(x, w, x, n, eps); // in place is used for q and k
        assert_memory_equal(x, y, n * sizeof *y);
        free(x);
        free(w);
        free(y);
    }
}

/* Catches a remainder that is left out of the sum or scaled with the wrong weight; blocks are
 * exactly as long as the row, so reading beyond it is found by the sanitizer. */
static void norms_agree_with_double(void **state)
{
    (void)state;
    on_every_path(norms_of);
}

// ---- attention

/* One sequence in pages that are taken in random order from a poisoned pool: what no token was
 * written to is NaN, and so is what belongs to other layers and heads. */
typedef struct context {
    uint32_t token_count, head_dim;
    cn_dtype dtype;
    double *k, *v; // [token][head_dim]
    unsigned char *pages;
    cn_page_id *table;
    uint64_t page_bytes, k_offset, v_offset;
} context;

static const uint16_t poison = 0x7FC1; // NaN as bf16, and twice as float

static void put_value(const context *c, unsigned char *block, size_t at, float value, double *kept)
{
    if (c->dtype == CN_DTYPE_BF16) {
        const uint16_t half = nearest_bf16(value);
        memcpy(block + at * 2, &half, 2);
        *kept = (double)bf16_value(half);
    } else {
        memcpy(block + at * 4, &value, 4);
        *kept = (double)value;
    }
}

static context random_context(test_rng *rng, uint32_t token_count, uint32_t head_dim,
                              cn_dtype dtype)
{
    context c = {.token_count = token_count, .head_dim = head_dim, .dtype = dtype};
    const uint64_t block_bytes =
        (uint64_t)CN_PAGE_TOKENS * head_dim * (dtype == CN_DTYPE_BF16 ? 2 : 4);
    const uint32_t used = (token_count + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS,
                   page_count = used + 3;
    c.page_bytes = 5 * block_bytes;
    c.k_offset = block_bytes;
    c.v_offset = 3 * block_bytes;
    c.pages = must_have(page_count * c.page_bytes);
    c.table = must_have(page_count * sizeof *c.table);
    c.k = must_have((size_t)token_count * head_dim * sizeof *c.k);
    c.v = must_have((size_t)token_count * head_dim * sizeof *c.v);
    for (size_t i = 0; i < page_count * c.page_bytes; i += 2) memcpy(c.pages + i, &poison, 2);
    for (uint32_t i = 0; i < page_count; i++) c.table[i].v = i;
    for (uint32_t i = 0; i < page_count; i++) {
        const uint32_t j = i + test_rng_below(rng, page_count - i);
        const cn_page_id other = c.table[j];
        c.table[j] = c.table[i];
        c.table[i] = other;
    }
    for (uint32_t token = 0; token < token_count; token++) {
        unsigned char *page = c.pages + c.table[token / CN_PAGE_TOKENS].v * c.page_bytes;
        const size_t t = token % CN_PAGE_TOKENS;
        for (uint32_t d = 0; d < head_dim; d++) {
            const size_t paired = (size_t)d / 2 * 2 * CN_PAGE_TOKENS + t * 2 + d % 2;
            const size_t k_at = dtype == CN_DTYPE_BF16 ? paired : (size_t)d * CN_PAGE_TOKENS + t;
            const size_t at = (size_t)token * head_dim + d;
            put_value(&c, page + c.k_offset, k_at, between(rng, -2, 2), &c.k[at]);
            put_value(&c, page + c.v_offset, t * head_dim + d, between(rng, -2, 2), &c.v[at]);
        }
    }
    return c;
}

static void context_free(context *c)
{
    free(c->k);
    free(c->v);
    free(c->pages);
    free(c->table);
}

/* A score has 2 dims roundings of terms that sum to S in magnitude, and so has the maximum; e^x is
 * within 4 u. So a weight is off by w = 2 * 2 dims u S + 6 u relatively, the sums over a split of
 * 256 by 512 more roundings, and every later split adds 10 (two exponentials, four operations). All
 * of it once for the numerator and once for the denominator. */
static void check_attention(const cn_path *path, const context *c, const float *q,
                            uint32_t position, const float *got)
{
    double scores[1024], max = -INFINITY, magnitude = 0, sum = 0;
    assert_true(position < 1024);
    for (uint32_t token = 0; token <= position; token++) {
        double size = 0;
        scores[token] = 0;
        for (uint32_t d = 0; d < c->head_dim; d++) {
            const double term = (double)q[d] * c->k[(size_t)token * c->head_dim + d];
            scores[token] += term;
            size += fabs(term);
        }
        if (scores[token] > max) max = scores[token];
        if (size > magnitude) magnitude = size;
    }
    for (uint32_t token = 0; token <= position; token++) {
        scores[token] = exp(scores[token] - max);
        sum += scores[token];
    }
    const double splits = position / CN_SPLIT_TOKENS + 1;
    const double weight = 4.0 * c->head_dim * u * magnitude + 6 * u;
    const double relative = 2 * (weight + (2 * CN_SPLIT_TOKENS + 10 * splits) * u);
    for (uint32_t d = 0; d < c->head_dim; d++) {
        double want = 0, size = 0;
        for (uint32_t token = 0; token <= position; token++) {
            const double term = scores[token] / sum * c->v[(size_t)token * c->head_dim + d];
            want += term;
            size += fabs(term);
        }
        expect_near(got[d], want, relative * size, path->name, "attention");
    }
}

enum { GAP = 3 }; // floats between two results, which nobody may touch

static cn_attention attention_of(const context *c, const float *q, float *out, uint32_t count,
                                 uint32_t group, uint32_t first_position)
{
    cn_attention t = {.q = q,
                      .out = out,
                      .query_count = count,
                      .head_dim = c->head_dim,
                      .pages = c->pages,
                      .table = c->table,
                      .page_bytes = c->page_bytes,
                      .k_offset = c->k_offset,
                      .v_offset = c->v_offset,
                      .dtype = c->dtype};
    for (uint32_t i = 0; i < count; i++) {
        t.q_offsets[i] = i * c->head_dim;
        t.out_offsets[i] = GAP + i * (c->head_dim + GAP);
        t.positions[i] = first_position + i / group;
    }
    t.split_end = t.positions[count - 1] / CN_SPLIT_TOKENS + 1;
    const size_t scratch = cn_path_attention_scratch(c->head_dim);
    t.scratch = must_have(scratch * sizeof *t.scratch);
    for (size_t i = 0; i < scratch; i++) t.scratch[i] = NAN;
    return t;
}

/* Split by split, as threads share a long context, then merged: the same bits as in one go. */
static void check_by_split(const cn_path *path, cn_attention t, const float *whole)
{
    const size_t entry = t.head_dim + 2, splits = t.split_end;
    float *partial = must_have(splits * t.query_count * entry * sizeof *partial);
    float *out = must_have(t.head_dim * sizeof *out);
    for (uint32_t split = (uint32_t)splits; split-- > 0;) {
        t.partial = partial + split * t.query_count * entry;
        t.split_begin = split;
        t.split_end = split + 1;
        path->attention(&t);
    }
    for (uint32_t i = 0; i < t.query_count; i++) {
        path->merge(partial + i * entry, t.query_count * entry, (uint32_t)splits, t.head_dim, out);
        assert_memory_equal(out, whole + t.out_offsets[i], t.head_dim * sizeof *out);
    }
    free(partial);
    free(out);
}

static void check_tile(const cn_path *path, test_rng *rng, cn_dtype dtype, uint32_t head_dim,
                       uint32_t group, uint32_t rows, uint32_t last_position)
{
    const uint32_t first = last_position + 1 >= rows ? last_position + 1 - rows : 0;
    const uint32_t count = (last_position - first + 1) * group;
    context c = random_context(rng, last_position + 1, head_dim, dtype);
    // Scaled as the backend does, so that weights are spread and not one of them takes all.
    float *q = random_floats(rng, (size_t)count * head_dim, 2.0f / sqrtf((float)head_dim));
    const size_t out_count = GAP + (size_t)count * (head_dim + GAP);
    float *out = must_have(out_count * sizeof *out), *alone = must_have(out_count * sizeof *alone);
    for (size_t i = 0; i < out_count; i++) out[i] = untouched;
    cn_attention t = attention_of(&c, q, out, count, group, first);
    path->attention(&t);
    for (uint32_t i = 0; i < count; i++) {
        check_attention(path, &c, q + t.q_offsets[i], t.positions[i], out + t.out_offsets[i]);
        cn_attention one = attention_of(&c, q + t.q_offsets[i], alone, 1, 1, t.positions[i]);
        path->attention(&one);
        assert_memory_equal(alone + GAP, out + t.out_offsets[i], head_dim * sizeof *out);
        for (uint32_t j = 1; j <= GAP; j++) assert_true(out[t.out_offsets[i] - j] == untouched);
        free(one.scratch);
    }
    if (t.positions[0] == t.positions[count - 1]) check_by_split(path, t, out);
    free(t.scratch);
    free(q);
    free(out);
    free(alone);
    context_free(&c);
}

static void attention_of_path(const cn_path *path)
{
    static const uint32_t dims[] = {2, 4, 6, 14, 16, 18, 32, 34, 48, 64, 80, 100, 128, 130, 256};
    static const uint32_t groups[] = {1, 2, 4, 7, 8};
    static const uint32_t ends[] = {0,   1,   14,  15,  16,  17,  100, 254,
                                    255, 256, 257, 270, 511, 512, 515, 767};
    test_rng rng = test_rng_open("attention");
    for (uint32_t i = 0; i < 90; i++) {
        const uint32_t group = groups[i % 5], rows_max = CN_QUERY_TILE / group;
        // Every third is one token alone: decoding, and what is shared by split.
        const uint32_t rows = i % 3 == 0 ? 1 : 1 + test_rng_below(&rng, rows_max);
        check_tile(path, &rng, i % 2 ? CN_DTYPE_BF16 : CN_DTYPE_F32, dims[i % 15], group, rows,
                   ends[test_rng_below(&rng, sizeof ends / sizeof *ends)]);
    }
}

/* Catches a token that is not seen, seen too early, or read before it was written (it is NaN); a
 * page or head that is mistaken for another; a remainder of head_dim that reads its neighbour; and
 * bits that depend on which queries share a tile or on how the splits were shared out. */
static void attention_agrees_with_double(void **state)
{
    (void)state;
    on_every_path(attention_of_path);
}

// ---- exponential and logarithm

static void check_exp(const cn_path *path, float x)
{
    const float got = path->row_sum_exp(&x, 1, 0.0f, 1.0f);
    const long double want = expl((long double)x);
    if (isnan(x) ? isnan(got)
        : want > (long double)0x1.fffffep127
            ? isinf(got) && got > 0
            : fabsl((long double)got - want) <= 2e-7L * want + 0x1p-149L)
        return;
    fail_msg("%s: e^%.9g is %.9g, should be %.9Lg", path->name, (double)x, (double)got, want);
}

static void exponentials_of(const cn_path *path)
{
    static const float edges[] = {0.0f,     -0.0f,  1.0f,      -1.0f,   88.7f,    88.72f,  88.8f,
                                  89.0f,    128.0f, 179.0f,    180.0f,  1000.0f,  1e9f,    1e30f,
                                  INFINITY, -87.0f, -88.0f,    -103.0f, -103.97f, -104.0f, -105.0f,
                                  -1000.0f, -1e30f, -INFINITY, NAN,     1e-30f};
    test_rng rng = test_rng_open("exp");
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) check_exp(path, edges[i]);
    for (int i = 0; i < 100000; i++) check_exp(path, between(&rng, -110, 95));
}

/* Catches an error of e^x above what vec_int.h promises (2e-7), and an exponent field that
 * overflows. */
static void exp_is_within_its_bound(void **state)
{
    (void)state;
    on_every_path(exponentials_of);
}

static void sums_of(const cn_path *path)
{
    test_rng rng = test_rng_open("sums");
    for (uint32_t n = 1; n <= 400; n++) {
        float *x = random_floats(&rng, n, 30.0f);
        const float scale = between(&rng, 0.2f, 3.0f);
        bool finite;
        const float max = path->row_max(x, n, &finite);
        long double want = 0, bound = 0;
        for (uint32_t i = 0; i < n; i++) {
            const long double argument =
                ((long double)x[i] - (long double)max) * (long double)scale;
            // The argument has two roundings, each of which is a relative error of e^argument.
            want += expl(argument);
            bound += expl(argument) * (2.1L * fabsl(argument) + 4) * (long double)u;
        }
        bound += (n / 16 + 6) * (long double)u * want;
        const float got = path->row_sum_exp(x, n, max, scale);
        expect_near(got, (double)want, (double)bound, path->name, "row_sum_exp");
        free(x);
    }
}

/* Catches a remainder of a row that is left out or counted with what lies behind it. */
static void sums_agree_with_long_double(void **state)
{
    (void)state;
    on_every_path(sums_of);
}

static void maxima_of(const cn_path *path)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    test_rng rng = test_rng_open("maxima");
    for (uint32_t n = 1; n <= 100; n++) {
        float *x = random_floats(&rng, n, 1e30f);
        bool finite = false;
        for (uint32_t i = 0; i < n; i++) {
            const float old = x[i];
            float want = x[0];
            for (uint32_t j = 1; j < n; j++) want = x[j] > want ? x[j] : want;
            assert_true(path->row_max(x, n, &finite) == want && finite);
            for (int j = 0; j < 3; j++) {
                x[i] = bad[j];
                path->row_max(x, n, &finite);
                assert_false(finite);
            }
            x[i] = 0x1.fffffep127f;
            assert_true(path->row_max(x, n, &finite) == x[i] && finite);
            x[i] = old;
        }
        free(x);
    }
}

/* Catches a NaN or an infinity that goes unseen in any lane or remainder, and a finite row that is
 * refused. */
static void row_max_tells_what_is_not_finite(void **state)
{
    (void)state;
    on_every_path(maxima_of);
}

// ---- noise

/* Philox4x32-10 as the paper's figure 2 says it (Salmon et al. 2011), written without a look at
 * path.c. */
static void reference_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t l0 = counter[0], r0 = counter[1], l1 = counter[2], r1 = counter[3];
    for (uint32_t round = 0; round < 10; round++) {
        const uint32_t k0 = key[0] + round * 0x9E3779B9u, k1 = key[1] + round * 0xBB67AE85u;
        const uint64_t product0 = (uint64_t)0xD2511F53u * l0, product1 = (uint64_t)0xCD9E8D57u * l1;
        l0 = (uint32_t)(product1 >> 32) ^ r0 ^ k0;
        r0 = (uint32_t)product1;
        l1 = (uint32_t)(product0 >> 32) ^ r1 ^ k1;
        r1 = (uint32_t)product0;
    }
    out[0] = l0;
    out[1] = r0;
    out[2] = l1;
    out[3] = r1;
}

/* The known answers that Random123 publishes for philox4x32 with 10 rounds. */
static void reference_philox_gives_the_known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
        {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344},
         {0xA4093822, 0x299F31D0},
         {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        reference_philox(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].answer, sizeof out);
    }
}

static uint32_t reference_word(uint64_t seed, uint32_t position, uint32_t id)
{
    const uint32_t counter[4] = {position, id / 4, 0, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];
    reference_philox(counter, key, out);
    return out[id % 4];
}

/* -log(-log(uniform)) of the 23 high bits of a word, centred between the ends: exact as a float. */
static long double reference_noise(uint32_t word)
{
    return -logl(-logl(((long double)(word >> 9) + 0.5L) * 0x1p-23L));
}

/* vec_int.h promises a logarithm within 3e-7 relatively: the inner one moves the result by 3e-7,
 * the outer one by 3e-7 of it; then one rounding of the sum. */
static void check_noise(const cn_path *path, float x, float got, uint64_t seed, uint32_t position,
                        uint32_t id)
{
    const long double noise = reference_noise(reference_word(seed, position, id)),
                      want = (long double)x + noise;
    const long double bound = 3e-7L * (1 + fabsl(noise)) + (long double)u * fabsl(want);
    expect_near(got, (double)want, (double)bound, path->name, "noise");
}

static void noise_of(const cn_path *path)
{
    enum { N = 203 };
    test_rng rng = test_rng_open("noise");
    const float zero[4] = {0};
    float four[4];
    path->add_gumbel(zero, four, 4, 0, 0, NULL, 0); // the first known answer, word by word
    for (uint32_t i = 0; i < 4; i++) check_noise(path, 0, four[i], 0, 0, i);
    for (int round = 0; round < 300; round++) {
        const uint64_t seed = test_rng_u64(&rng);
        const uint32_t position = test_rng_below(&rng, round % 2 ? 200 : UINT32_MAX);
        const int32_t first_id = (int32_t)test_rng_below(&rng, 150000);
        int32_t ids[N];
        float out[N], shuffled[N], *x = random_floats(&rng, N, 20.0f);
        path->add_gumbel(x, out, N, seed, position, NULL, first_id);
        for (uint32_t i = 0; i < N; i++) {
            check_noise(path, x[i], out[i], seed, position, (uint32_t)first_id + i);
            ids[i] = first_id + (int32_t)((i * 64) % N); // a permutation: 203 is odd
        }
        float *permuted = random_floats(&rng, N, 1.0f);
        for (uint32_t i = 0; i < N; i++) permuted[i] = x[ids[i] - first_id];
        path->add_gumbel(permuted, shuffled, N, seed, position, ids, 0);
        for (uint32_t i = 0; i < N; i++) assert_true(shuffled[i] == out[ids[i] - first_id]);
        path->add_gumbel(x, x, N, seed, position, NULL, first_id); // in place
        assert_memory_equal(x, out, sizeof out);
        free(x);
        free(permuted);
    }
}

/* Catches noise that is not the published generator's, that depends on where in the row a token
 * stands or on which others were asked for, and a logarithm that is off. */
static void noise_is_philox_through_gumbel(void **state)
{
    (void)state;
    on_every_path(noise_of);
}

static void noise_ends_of(const cn_path *path)
{
    static const struct {
        uint32_t position, id;
        bool high;
    } ends[] = {{479, 78295, true}, {513, 27522, true}, {598, 119239, true},
                {49, 67778, false}, {89, 12065, false}, {206, 100745, false}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const uint32_t word = reference_word(0, ends[i].position, ends[i].id);
        const float zero = 0;
        float noise;
        assert_int_equal(word >> 8, ends[i].high ? 0xFFFFFF : 0);
        path->add_gumbel(&zero, &noise, 1, 0, ends[i].position, NULL, (int32_t)ends[i].id);
        check_noise(path, 0, noise, 0, ends[i].position, ends[i].id);
    }
}

/* Catches a uniform that rounds to 1 or 0: its noise would be 88 or less than nothing, and one
 * token in 2^24, however unlikely, would win whenever its word comes up; a large vocabulary meets
 * that every hundred tokens. The words were found by search. */
static void noise_at_both_ends_is_bounded(void **state)
{
    (void)state;
    on_every_path(noise_ends_of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree_with_double),
        cmocka_unit_test(slices_are_joined_as_a_tree),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_among_others),
        cmocka_unit_test(every_bf16_rounding_is_the_nearest),
        cmocka_unit_test(norms_agree_with_double),
        cmocka_unit_test(attention_agrees_with_double),
        cmocka_unit_test(exp_is_within_its_bound),
        cmocka_unit_test(sums_agree_with_long_double),
        cmocka_unit_test(row_max_tells_what_is_not_finite),
        cmocka_unit_test(reference_philox_gives_the_known_answers),
        cmocka_unit_test(noise_is_philox_through_gumbel),
        cmocka_unit_test(noise_at_both_ends_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
