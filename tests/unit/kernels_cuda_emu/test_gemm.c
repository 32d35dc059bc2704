#include "tests/unit/kernels_cuda_emu/device.h"

#include <stdlib.h>

/* Products against double precision, and the bits of a row alone and among others. */

enum { ROWS_MAX = 140, IN_MAX = 544, OUT_MAX = 160 };

typedef struct problem {
    uint32_t rows, in, out;
    cn_cuda_epilogue epilogue;
    uint16_t a[ROWS_MAX][IN_MAX], w[OUT_MAX][IN_MAX];
    float c[ROWS_MAX][OUT_MAX];              // before and after
} problem;

static void make_problem(problem *p, test_rng *rng, uint32_t rows, uint32_t in, uint32_t out, cn_cuda_epilogue e)
{
    p->rows = rows;
    p->in = in;
    p->out = out;
    p->epilogue = e;
    for (uint32_t i = 0; i < in; i++) {
        for (uint32_t r = 0; r < ROWS_MAX; r++) p->a[r][i] = device_half(device_random(rng, 2));
        for (uint32_t o = 0; o < out; o++) p->w[o][i] = device_half(device_random(rng, 1));
    }
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        for (uint32_t o = 0; o < out; o++) p->c[r][o] = device_random(rng, 4);
    }
}

/* Runs the product of rows [first, first + count) of a; SwiGLU's bf16 results go to c as floats. */
static void run(problem *p, uint32_t first, uint32_t count, uint32_t row_max)
{
    const uint32_t a_rows = first + row_max + 7, c_cols = p->out;
    uint16_t *packed = malloc((size_t)p->out * p->in * 2), *a = malloc((size_t)a_rows * p->in * 2);
    float *c = malloc((size_t)row_max * c_cols * 4);
    assert_true(packed && a && c);
    memset(a, 0xFF, (size_t)a_rows * p->in * 2);
    for (uint32_t i = 0; i < p->in; i++) {
        for (uint32_t o = 0; o < p->out; o++) packed[cn_cuda_packed_at(o, i, p->in)] = p->w[o][i];
        for (uint32_t r = first; r < first + count; r++) a[(size_t)r * p->in + i] = p->a[r][i];
    }
    for (uint32_t r = 0; r < row_max; r++) {
        for (uint32_t o = 0; o < c_cols; o++) c[r * c_cols + o] = p->c[first + r][o];
    }
    const uint32_t end = first + count;
    uint32_t *row_count = device_copy(&end, sizeof end);
    void *dw = device_copy(packed, (size_t)p->out * p->in * 2), *da = device_copy(a, (size_t)a_rows * p->in * 2);
    void *dc = device_copy(c, (size_t)row_max * c_cols * 4);
    const cn_cuda_product product = {.w = dw, .a = da, .c = dc, .row_count = row_count, .first_row = first,
                                     .row_max = row_max, .in = p->in, .out = p->out, .c_stride = c_cols,
                                     .epilogue = p->epilogue};
    assert_int_equal(CN_CUDA(gemm_launch)(&product, NULL), cudaSuccess);
    device_wait();
    device_read(c, dc, (size_t)row_max * c_cols * 4);
    for (uint32_t r = 0; r < row_max; r++) {
        for (uint32_t o = 0; o < c_cols; o++) {
            const bool half = p->epilogue == CN_CUDA_SWIGLU && r < count && o < p->out / 2;
            p->c[first + r][o] = half ? device_float(((const uint16_t *)c)[(size_t)r * c_cols + o]) : c[r * c_cols + o];
        }
    }
    cudaFree(row_count);
    cudaFree(dw);
    cudaFree(da);
    cudaFree(dc);
    free(packed);
    free(a);
    free(c);
}

/* The exact sum, and by how much `in` roundings of float may miss it: each at most 2^-24 of the largest
 * partial sum, which is at most the sum of magnitudes. */
static double exact(const problem *p, uint32_t r, uint32_t o, double *bound)
{
    double sum = 0, magnitude = 0;
    for (uint32_t i = 0; i < p->in; i++) {
        const double product = (double)device_float(p->a[r][i]) * device_float(p->w[o][i]);
        sum += product;
        magnitude += fabs(product);
    }
    *bound = magnitude * p->in * 0x1p-24;
    return sum;
}

static void check(const problem *before, const problem *after)
{
    for (uint32_t r = 0; r < before->rows; r++) {
        for (uint32_t o = 0; o < (before->epilogue == CN_CUDA_SWIGLU ? before->out / 2 : before->out); o++) {
            double bound, up_bound;
            if (before->epilogue == CN_CUDA_SWIGLU) {
                const uint32_t at = o / 8 * 16 + o % 8;
                const double gate = exact(before, r, at, &bound), up = exact(before, r, at + 8, &up_bound);
                const double silu = gate / (1 + exp(-gate)), want = silu * up;
                // silu's slope is below 1.1; 2^-8 is the rounding to bf16, 1e-6 what float exp2 and / add.
                device_near(after->c[r][o], want,
                            1.1 * bound * fabs(up) + fabs(silu) * up_bound + fabs(want) * (0x1p-8 + 1e-6) + 1e-12);
                continue;
            }
            const double sum = exact(before, r, o, &bound);
            const double base = before->epilogue == CN_CUDA_ADD ? before->c[r][o] : 0;
            device_near(after->c[r][o], base + sum, bound + (fabs(base) + fabs(sum)) * 0x1p-23);
        }
    }
}

static problem before, after, alone;

/* Catches a wrong fragment, a slice that is skipped, rows beyond the count that are written. */
static void products_agree_with_double(void **state)
{
    static const struct { uint32_t rows, in, out; } shapes[] = {
        {1, 32, 32}, {3, 96, 64}, {8, 288, 32}, {9, 64, 96}, {16, 544, 32}, {29, 320, 64}, {33, 96, 160}, {140, 288, 32}};
    (void)state;
    test_rng rng = test_rng_open("gemm");
    for (int e = CN_CUDA_STORE; e <= CN_CUDA_SWIGLU; e++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            cn_fiber_order_set((cn_fiber_order)(i % 3), i);
            make_problem(&before, &rng, shapes[i].rows, shapes[i].in, shapes[i].out, (cn_cuda_epilogue)e);
            after = before;
            const uint32_t row_max = shapes[i].rows < 130 ? shapes[i].rows + 3 : shapes[i].rows;
            run(&after, 0, shapes[i].rows, row_max);
            check(&before, &after);
            for (uint32_t r = shapes[i].rows; r < row_max; r++) {
                assert_memory_equal(after.c[r], before.c[r], shapes[i].out * sizeof(float));
            }
        }
    }
}

/* Catches an order of addition that depends on the kernel, on the number of rows or on the place of a row. */
static void rows_have_the_same_bits_in_any_company(void **state)
{
    static const uint32_t companies[] = {1, 7, 8, 13, 27, 32, 33, 100};
    (void)state;
    test_rng rng = test_rng_open("gemm_rows");
    for (int e = CN_CUDA_STORE; e <= CN_CUDA_SWIGLU; e++) {
        make_problem(&before, &rng, ROWS_MAX, 352, 32, (cn_cuda_epilogue)e);
        after = before;
        run(&after, 0, ROWS_MAX, ROWS_MAX);
        for (size_t i = 0; i < sizeof companies / sizeof *companies; i++) {
            const uint32_t count = companies[i], first = test_rng_below(&rng, ROWS_MAX - count + 1);
            const uint32_t columns = e == CN_CUDA_SWIGLU ? 16 : 32;
            alone = before;
            run(&alone, first, count, count);
            for (uint32_t r = first; r < first + count; r++) {
                assert_memory_equal(alone.c[r], after.c[r], columns * sizeof(float));
            }
        }
    }
}

/* Catches a kernel that reads weights more than once (each of few rows is one pass over them). */
static void few_rows_read_the_weights_once(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("gemm_bytes");
    make_problem(&before, &rng, 16, 512, 128, CN_CUDA_STORE);
    const uint64_t bytes = cn_fiber_counted.stream_bytes, mma = cn_fiber_counted.mma;
    run(&before, 0, 16, 16);
    assert_int_equal(cn_fiber_counted.stream_bytes - bytes, 512 * 128 * 2);
    assert_int_equal(cn_fiber_counted.mma - mma, 512 / 16 * (128 / 16) * (16 / 8));
}

int main(void)
{
    alarm(600);                  // a wait that never ends
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree_with_double),
        cmocka_unit_test(rows_have_the_same_bits_in_any_company),
        cmocka_unit_test(few_rows_read_the_weights_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
