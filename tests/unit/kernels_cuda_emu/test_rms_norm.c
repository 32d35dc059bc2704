#include "tests/unit/kernels_cuda_emu/device.h"

#include <math.h>

/* RMSNorm against double precision, in every order of threads, in company and alone. */

enum { ROWS = 5, STRIDE_MAX = 1056 };

static void check_norm(test_rng *rng, uint32_t dim)
{
    const uint32_t stride = cn_cuda_pad(dim, 32), rows = 1 + test_rng_below(rng, ROWS), there = rows + 2;
    static float x[(ROWS + 2) * STRIDE_MAX], w[STRIDE_MAX];
    static uint16_t y[(ROWS + 2) * STRIDE_MAX];
    for (uint32_t r = 0; r < there; r++) {
        for (uint32_t c = 0; c < stride; c++) x[r * stride + c] = c < dim ? device_random(rng, 3) : 0;
    }
    for (uint32_t c = 0; c < stride; c++) w[c] = c < dim ? device_random(rng, 2) : 0;
    float *dx = device_copy(x, sizeof(float) * there * stride), *dw = device_copy(w, sizeof(float) * stride);
    uint16_t *dy = device_take(sizeof(uint16_t) * there * stride);
    uint32_t *count = device_copy(&rows, sizeof rows);
    assert_int_equal(CN_CUDA(rms_norm_launch)(dx, dw, dy, count, there, dim, stride, 1e-5f, NULL), cudaSuccess);
    device_wait();
    device_read(y, dy, sizeof(uint16_t) * there * stride);
    for (uint32_t r = 0; r < rows; r++) {
        double sum = 0;
        for (uint32_t c = 0; c < dim; c++) sum += (double)x[r * stride + c] * x[r * stride + c];
        const double scale = 1 / sqrt(sum / dim + 1e-5);
        for (uint32_t c = 0; c < stride; c++) {
            // bf16 has 8 bits: half a unit in the last place is 2^-8, and some of float's roundings.
            const double want = x[r * stride + c] * scale * (c < dim ? w[c] : 0);
            device_near(device_float(y[r * stride + c]), want, fabs(want) * (0x1p-8 + 1e-5));
        }
    }
    // Rows that are not there stay poison.
    for (uint32_t i = rows * stride; i < there * stride; i++) assert_int_equal(y[i], 0xFFFF);
    cudaFree(dx);
    cudaFree(dw);
    cudaFree(dy);
    cudaFree(count);
}

/* Catches columns that are skipped or counted twice, a missing barrier, and padding that counts. */
static void norms_agree_with_double(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("rms_norm");
    for (int order = 0; order < 3; order++) {
        cn_fiber_order_set((cn_fiber_order)order, 7);
        check_norm(&rng, 32);
        check_norm(&rng, 72);
        check_norm(&rng, 1 + test_rng_below(&rng, STRIDE_MAX - 32));
        check_norm(&rng, 1040);
    }
}

/* Catches launchers that run with a shape that the kernel does not serve. */
static void wrong_shapes_are_refused(void **state)
{
    (void)state;
    assert_int_equal(CN_CUDA(rms_norm_launch)(NULL, NULL, NULL, NULL, 1, 40, 40, 0, NULL), cudaErrorInvalidValue);
    assert_int_equal(CN_CUDA(rms_norm_launch)(NULL, NULL, NULL, NULL, 1, 65, 64, 0, NULL), cudaErrorInvalidValue);
    assert_int_equal(CN_CUDA(rms_norm_launch)(NULL, NULL, NULL, NULL, 0, 64, 64, 0, NULL), cudaErrorInvalidValue);
}

int main(void)
{
    alarm(600);                  // a wait that never ends
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_agree_with_double),
        cmocka_unit_test(wrong_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
