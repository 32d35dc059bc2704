#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/kernels_emu/planted.h"

/* What the emulator catches: each planted bug must be seen, and without one nothing may be. */

enum { COUNT = 64, ORDERS = 6 };

typedef struct outcome {
    bool right;                  // the numbers
    char fault[512];
    uint64_t conflicts;
} outcome;

static outcome run(planted bug, int order)
{
    float in[COUNT], out[COUNT] = {0};
    float *d_in, *d_out;
    outcome o = {.right = true};
    const uint64_t conflicts = cn_fiber_counted.matrix_conflicts;
    for (int i = 0; i < COUNT; i++) in[i] = (float)(i + 1);
    cn_fiber_order_set(order < 2 ? (cn_fiber_order)order : CN_FIBER_RANDOM, (uint64_t)order);
    assert_int_equal(cudaMalloc((void **)&d_in, sizeof in), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&d_out, sizeof out), cudaSuccess);
    assert_int_equal(cudaMemcpy(d_in, in, sizeof in, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(cn_planted_launch(bug, d_in, d_out, NULL), cudaSuccess);
    if (cudaStreamSynchronize(NULL) == cudaSuccess) {
        assert_int_equal(cudaMemcpy(out, d_out, sizeof out, cudaMemcpyDeviceToHost), cudaSuccess);
    } else {
        // The error stays until the reset, whatever is called.
        assert_int_equal(cudaMemcpy(out, d_out, sizeof out, cudaMemcpyDeviceToHost), cudaErrorLaunchFailure);
        snprintf(o.fault, sizeof o.fault, "%s", cn_runtime_fault());
        cn_runtime_reset();
    }
    for (int i = 0; i < COUNT; i++) o.right = o.right && out[i] == in[i ^ 32];
    o.conflicts = cn_fiber_counted.matrix_conflicts - conflicts;
    cudaFree(d_in);
    cudaFree(d_out);
    return o;
}

static void a_right_kernel_is_right_in_every_order(void **state)
{
    (void)state;
    for (int order = 0; order < ORDERS; order++) {
        const outcome o = run(PLANTED_NONE, order);
        assert_true(o.right);
        assert_string_equal(o.fault, "");
        assert_int_equal(o.conflicts, 0);
    }
}

// A bug need not show in every order: that is why there are several.
static void wrong_numbers_show(void **state)
{
    static const planted bugs[] = {PLANTED_NO_BARRIER, PLANTED_WAIT_COUNT, PLANTED_NO_SYNCWARP};
    (void)state;
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        int wrong = 0;
        for (int order = 0; order < ORDERS; order++) wrong += !run(bugs[i], order).right;
        if (wrong == 0) fail_msg("bug %d was not seen in any order", bugs[i]);
    }
}

static void forbidden_things_are_named(void **state)
{
    static const struct { planted bug; const char *text; } cases[] = {
        {PLANTED_NO_WAIT, "returns with 1 asynchronous copies"},
        {PLANTED_MISALIGNED, "not aligned"},
        {PLANTED_OVERRUN, "bytes into the"},
        {PLANTED_LANE_LEFT, "of which lane 5 has returned"},
        {PLANTED_OUTSIDE_MASK, "shuffle from lane"},
        {PLANTED_OTHER_OPERATION, "where others of the warp wait in"},
        {PLANTED_OTHER_BARRIER, "32 of 64 threads at barrier 1; 32 of 64 threads at barrier 2"},
        {PLANTED_BARRIER_SIZE, "barrier 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int order = 0; order < ORDERS; order++) {
            const outcome o = run(cases[i].bug, order);
            if (!strstr(o.fault, cases[i].text)) {
                fail_msg("bug %d: \"%s\"; should say \"%s\"", cases[i].bug, o.fault, cases[i].text);
            }
            assert_non_null(strstr(o.fault, "kernel planted, block (0, 0, 0)"));
        }
    }
}

static void bank_conflicts_are_counted(void **state)
{
    (void)state;
    // Two warps, four matrices each, eight rows in one bank: seven repetitions.
    assert_int_equal(run(PLANTED_NO_SWIZZLE, 0).conflicts, 2 * 4 * 7);
}

int main(void)
{
    alarm(600);                  // a wait that never ends
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_kernel_is_right_in_every_order),
        cmocka_unit_test(wrong_numbers_show),
        cmocka_unit_test(forbidden_things_are_named),
        cmocka_unit_test(bank_conflicts_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
