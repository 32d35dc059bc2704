#include "kernels/cuda/cuda.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "kernels/emu/runtime.h"
#include "tests/identity/random_model.h"
#include "tests/unit/cmocka_all.h"

/* What only the CUDA backend has: which calls a steady state makes, errors of the device, schedules. That it
 * computes and samples right, tests/unit/kernels_cpu and tests/identity test on it as well. */

enum { SLOTS = 4, PAGES = 40, CONTEXT = 320, PROMPT = 20 };

typedef struct fixture {
    cn_backend *backend;
    random_model model;
    int32_t prompt[PROMPT];
} fixture;

static const cn_kv_options kv = {.page_count = PAGES, .slot_count = SLOTS, .context_tokens_max = CONTEXT,
                                 .step_tokens_max = 64, .step_outputs_max = 64, .step_deltas_max = PAGES};

static void fixture_open(fixture *f)
{
    const cn_backend_options options = {0};
    test_rng rng = {42};
    random_model_open(&f->model, &rng, CN_DTYPE_BF16);
    for (int i = 0; i < PROMPT; i++) f->prompt[i] = (int32_t)test_rng_below(&rng, f->model.spec.vocab_count);
    assert_int_equal(cn_cuda_emu_ops.open(&options, &f->backend, NULL), CN_OK);
    assert_int_equal(cn_cuda_emu_ops.model_load(f->backend, &f->model.spec, NULL, NULL, NULL), CN_OK);
    assert_int_equal(cn_cuda_emu_ops.kv_create(f->backend, &kv, NULL), CN_OK);
}

static void fixture_close(fixture *f)
{
    cn_cuda_emu_ops.close(f->backend);
    random_model_close(&f->model);
}

static cn_step_result finish(fixture *f)
{
    cn_step_result result;
    while (!cn_cuda_emu_ops.step_poll(f->backend, &result)) sched_yield();
    return result;
}

// Opens slots 0 .. count - 1, ten pages each, and runs the prompt in each.
static cn_step_result begin(fixture *f, uint32_t count)
{
    const cn_sampling sampling = {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1.1f, .seed = 5};
    cn_slot_open opens[SLOTS];
    cn_page_delta deltas[SLOTS * 10];
    cn_step_seq seqs[SLOTS];
    int32_t tokens[SLOTS * PROMPT];
    for (uint32_t i = 0; i < count; i++) {
        opens[i] = (cn_slot_open){{i}, &sampling, f->prompt, NULL, PROMPT, 0};
        seqs[i] = (cn_step_seq){{i}, 0, PROMPT - i, true, NULL};
        for (uint32_t j = 0; j < 10; j++) deltas[i * 10 + j] = (cn_page_delta){{i}, j, {i * 10 + j}};
    }
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(tokens + used, f->prompt, seqs[i].token_count * sizeof *tokens);
        used += seqs[i].token_count;
    }
    const cn_step step = {.opens = opens, .open_count = count, .deltas = deltas, .delta_count = count * 10,
                          .seqs = seqs, .seq_count = count, .tokens = tokens, .token_count = used};
    cn_ticket ticket;
    assert_int_equal(cn_cuda_emu_ops.step_submit(f->backend, &step, &ticket), CN_OK);
    return finish(f);
}

// One more token in each of the slots; they begin at positions PROMPT - i.
static void decode(fixture *f, uint32_t count, uint32_t round)
{
    cn_step_seq seqs[SLOTS];
    int32_t tokens[SLOTS];
    for (uint32_t i = 0; i < count; i++) {
        seqs[i] = (cn_step_seq){{i}, PROMPT - i + round, 1, true, NULL};
        tokens[i] = CN_TOKEN_LAST;
    }
    const cn_step step = {.seqs = seqs, .seq_count = count, .tokens = tokens, .token_count = count};
    cn_ticket ticket;
    assert_int_equal(cn_cuda_emu_ops.step_submit(f->backend, &step, &ticket), CN_OK);
}

/* Catches a step that allocates, synchronises or launches kernels one by one once its graphs are there. The
 * waiter's wait for an event is on its own thread. */
static void a_steady_state_makes_three_calls_per_step(void **state)
{
    enum { WARM = 6, STEPS = 60 };
    static const cn_runtime_call allowed[] = {CN_RUNTIME_cudaMemcpyAsync, CN_RUNTIME_cudaGraphLaunch,
                                              CN_RUNTIME_cudaEventRecord, CN_RUNTIME_cudaEventSynchronize};
    (void)state;
    fixture f;
    uint64_t before[CN_RUNTIME_CALL_COUNT];
    fixture_open(&f);
    begin(&f, 3);
    for (uint32_t i = 0; i < WARM + STEPS; i++) {
        if (i == WARM) {
            for (int call = 0; call < CN_RUNTIME_CALL_COUNT; call++) before[call] = cn_runtime_called((cn_runtime_call)call);
        }
        decode(&f, 3, i);
        assert_int_equal(finish(&f).code, CN_OK);
    }
    for (int call = 0; call < CN_RUNTIME_CALL_COUNT; call++) {
        uint64_t want = 0;
        for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) want += allowed[i] == (cn_runtime_call)call ? STEPS : 0;
        const uint64_t got = cn_runtime_called((cn_runtime_call)call) - before[call];
        if (got != want) {
            fail_msg("%s: %llu calls in %d steps; should be %llu", cn_runtime_call_name((cn_runtime_call)call),
                     (unsigned long long)got, STEPS, (unsigned long long)want);
        }
    }
    fixture_close(&f);
}

/* Catches work that is only right because of when it happens to run: every schedule gives the same tokens. */
static void schedules_do_not_show(void **state)
{
    enum { ROUNDS = 20 };
    int32_t tokens[4][ROUNDS][2];
    (void)state;
    for (int schedule = 0; schedule < 4; schedule++) {
        fixture f;
        cn_runtime_schedule_set(schedule < 2 ? (cn_runtime_schedule)schedule : CN_RUNTIME_RANDOM, (uint64_t)schedule);
        fixture_open(&f);
        begin(&f, 2);
        // Two in flight, so that the pinned memory of three steps is in use.
        decode(&f, 2, 0);
        for (uint32_t i = 0; i < ROUNDS; i++) {
            decode(&f, 2, i + 1);
            const cn_step_result result = finish(&f);
            assert_int_equal(result.output_count, 2);
            for (int j = 0; j < 2; j++) tokens[schedule][i][j] = result.outputs[j].token;
        }
        finish(&f);
        fixture_close(&f);
        assert_memory_equal(tokens[schedule], tokens[0], sizeof tokens[0]);
    }
    cn_runtime_schedule_set(CN_RUNTIME_LAZY, 0);
}

/* Opens a backend, whose `skip`-th call of this function fails for want of memory. False: there are not as many
 * calls, and all went well. */
static bool fails_to_open(const random_model *model, cn_runtime_call call, uint32_t skip)
{
    const cn_backend_options options = {0};
    cn_err err = {0};
    cn_backend *backend = NULL;
    cn_runtime_fail(call, skip, cudaErrorMemoryAllocation);
    cn_code code = cn_cuda_emu_ops.open(&options, &backend, &err);
    if (code == CN_OK) code = cn_cuda_emu_ops.model_load(backend, &model->spec, NULL, NULL, &err);
    if (code == CN_OK) code = cn_cuda_emu_ops.kv_create(backend, &kv, &err);
    cn_runtime_fail(call, 0, cudaSuccess);
    cn_cuda_emu_ops.close(backend);
    if (code == CN_OK) return false;
    assert_int_equal(code, CN_E_MEMORY);
    assert_non_null(strstr(err.text, "out of memory"));
    return true;
}

/* Catches a half-open backend that leaks or crashes, whichever call it is that fails. */
static void every_allocation_may_fail(void **state)
{
    static const struct { cn_runtime_call call; uint32_t at_least; } calls[] = {
        {CN_RUNTIME_cudaMalloc, 30}, {CN_RUNTIME_cudaHostAlloc, 10}, {CN_RUNTIME_cudaMemcpy, 5},
        {CN_RUNTIME_cudaMemcpyAsync, 10}, {CN_RUNTIME_cudaMemsetAsync, 10},
        {CN_RUNTIME_cudaStreamCreateWithFlags, 2}, {CN_RUNTIME_cudaEventCreateWithFlags, 5}};
    (void)state;
    test_rng rng = {7};
    random_model model;
    random_model_open(&model, &rng, CN_DTYPE_BF16);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        uint32_t failed = 0;
        while (fails_to_open(&model, calls[i].call, failed)) failed++;
        assert_in_range(failed, calls[i].at_least, 1000);
    }
    random_model_close(&model);
}

/* Catches an error of the device after which the backend hangs, or answers as if nothing were. */
static void after_an_error_every_step_fails(void **state)
{
    static const cn_runtime_call calls[] = {CN_RUNTIME_cudaMemcpyAsync, CN_RUNTIME_cudaGraphLaunch,
                                            CN_RUNTIME_cudaEventRecord, CN_RUNTIME_cudaEventSynchronize};
    (void)state;
    fixture f;
    fixture_open(&f);
    begin(&f, 2);
    decode(&f, 2, 0);
    assert_int_equal(finish(&f).code, CN_OK);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        cn_runtime_fail(calls[i], 0, cudaErrorLaunchFailure);
        decode(&f, 2, 1);
        const cn_step_result result = finish(&f);
        assert_int_equal(result.code, CN_E_INTERNAL);
        assert_int_equal(result.output_count, 0);
    }
    fixture_close(&f);
}

/* Catches heads that the kernels do not have. */
static void wide_heads_are_refused(void **state)
{
    (void)state;
    fixture f;
    const cn_backend_options options = {0};
    cn_err err = {0};
    test_rng rng = {3};
    random_model_open(&f.model, &rng, CN_DTYPE_BF16);
    f.model.spec.head_dim = 256;
    assert_int_equal(cn_cuda_emu_ops.open(&options, &f.backend, NULL), CN_OK);
    assert_int_equal(cn_cuda_emu_ops.model_load(f.backend, &f.model.spec, NULL, NULL, &err), CN_E_UNSUPPORTED);
    assert_string_equal(err.text, "head_dim: 256; the cuda backend serves up to 128");
    fixture_close(&f);
}

/* Catches a probe that says yes where there is no device. */
static void no_device_is_said(void **state)
{
    char text[128];
    cn_err err = {0};
    cn_backend *backend;
    const cn_backend_options options = {0};
    (void)state;
    assert_int_equal(cn_cuda_emu_ops.probe(text, sizeof text, &err), CN_OK);
    assert_non_null(strstr(text, "emulated"));
    cn_runtime_fail(CN_RUNTIME_cudaGetDeviceCount, 0, cudaErrorInvalidValue);
    assert_int_equal(cn_cuda_emu_ops.open(&options, &backend, &err), CN_E_UNSUPPORTED);
    assert_null(backend);
    assert_non_null(strstr(err.text, "no device (invalid argument); needed are"));
}

int main(void)
{
    alarm(600);                  // a wait that never ends
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_steady_state_makes_three_calls_per_step),
        cmocka_unit_test(schedules_do_not_show),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(after_an_error_every_step_fails),
        cmocka_unit_test(wide_heads_are_refused),
        cmocka_unit_test(no_device_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
