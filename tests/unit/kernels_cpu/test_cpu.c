#if defined(CN_TEST_CUDA)
#include "kernels/cuda/cuda.h"
#define TEST_OPS CN_TEST_CUDA
#else
#include "kernels/cpu/cpu.h"
#define TEST_OPS cn_cpu_ops
#endif

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "tests/identity/random_model.h"
#include "tests/unit/cmocka_all.h"

/* Steps, pages and the end of a backend through its own door, with a model of random weights: the CPU's,
 * and, compiled once more with CN_TEST_CUDA, the kernels of the GPU in their emulator.
 * Each test runs with F32 pages and with BF16 pages. A wait that never ends is ended by the alarm.
 */

enum { SLOTS = 4, PAGES = 40, CONTEXT = 256, PROMPT = 37, ALARM_S = 600 };

typedef struct fixture {
    cn_backend *backend;
    random_model model;
    int32_t prompt[PROMPT];
} fixture;

static void fixture_open(fixture *f, cn_dtype dtype)
{
    test_rng rng = test_rng_open("cpu");
    const cn_backend_options options = {.thread_count = 2};
    const cn_kv_options kv = {.page_count = PAGES,
                              .slot_count = SLOTS,
                              .context_tokens_max = CONTEXT,
                              .step_tokens_max = CONTEXT,
                              .step_outputs_max = CONTEXT,
                              .step_deltas_max = PAGES};
    random_model_open(&f->model, &rng, dtype);
    for (int i = 0; i < PROMPT; i++) {
        f->prompt[i] = (int32_t)test_rng_below(&rng, f->model.spec.vocab_count);
    }
    assert_int_equal(TEST_OPS.open(&options, &f->backend, NULL), CN_OK);
    assert_int_equal(TEST_OPS.model_load(f->backend, &f->model.spec, NULL, NULL, NULL), CN_OK);
    assert_int_equal(TEST_OPS.kv_create(f->backend, &kv, NULL), CN_OK);
}

static void fixture_close(fixture *f)
{
    TEST_OPS.close(f->backend);
    random_model_close(&f->model);
}

static void on_both_kinds_of_page(void (*test)(fixture *f))
{
    for (int i = 0; i < 2; i++) {
        fixture f;
        fixture_open(&f, i ? CN_DTYPE_BF16 : CN_DTYPE_F32);
        test(&f);
        fixture_close(&f);
    }
}

static cn_step_output wait_for_output(fixture *f)
{
    cn_step_result result;
    while (!TEST_OPS.step_poll(f->backend, &result)) sched_yield();
    assert_int_equal(result.code, CN_OK);
    return result.output_count ? result.outputs[0] : (cn_step_output){.token = -2};
}

/* One step of one sequence in `slot`; `copy` may be NULL. */
static cn_code submit(fixture *f, uint32_t slot, const int32_t *tokens, uint32_t count,
                      uint32_t context, const cn_page_copy *copy)
{
    const cn_step_seq seq = {{slot}, context, count, true, NULL};
    const cn_step step = {.seqs = &seq,
                          .seq_count = 1,
                          .tokens = tokens,
                          .token_count = count,
                          .copies = copy,
                          .copy_count = copy ? 1 : 0};
    cn_ticket ticket;
    return TEST_OPS.step_submit(f->backend, &step, &ticket);
}

/* Opens a slot on pages first_page, first_page + 1, ... and runs the prompt. */
static cn_step_output begin(fixture *f, uint32_t slot, uint32_t first_page)
{
    const cn_sampling sampling = {
        .temperature = 1, .top_p = 1, .repetition_penalty = 1.2f, .seed = 11, .logprob_count = 5};
    const cn_slot_open open = {{slot}, &sampling, f->prompt, NULL, PROMPT, 0};
    const cn_step_seq seq = {{slot}, 0, PROMPT, true, NULL};
    cn_page_delta deltas[8];
    for (uint32_t i = 0; i < 8; i++) deltas[i] = (cn_page_delta){{slot}, i, {first_page + i}};
    const cn_step step = {.opens = &open,
                          .open_count = 1,
                          .deltas = deltas,
                          .delta_count = 8,
                          .seqs = &seq,
                          .seq_count = 1,
                          .tokens = f->prompt,
                          .token_count = PROMPT};
    cn_ticket ticket;
    assert_int_equal(TEST_OPS.step_submit(f->backend, &step, &ticket), CN_OK);
    return wait_for_output(f);
}

static cn_step_output next(fixture *f, uint32_t slot, int32_t token, uint32_t position)
{
    assert_int_equal(submit(f, slot, &token, 1, position, NULL), CN_OK);
    return wait_for_output(f);
}

static void assert_same(const cn_step_output *a, const cn_step_output *b)
{
    assert_int_equal(a->position, b->position);
    assert_int_equal(a->token, b->token);
    assert_memory_equal(&a->logprob, &b->logprob, sizeof a->logprob);
    assert_int_equal(a->top_count, b->top_count);
    assert_memory_equal(a->top, b->top, a->top_count * sizeof *a->top);
}

enum { ANSWER = 40 };

// The answer one step at a time, with each token given by its id.
static void plain_answer(fixture *f, uint32_t slot, uint32_t first_page, cn_step_output out[ANSWER])
{
    out[0] = begin(f, slot, first_page);
    for (uint32_t i = 1; i < ANSWER; i++) out[i] = next(f, slot, out[i - 1].token, PROMPT + i - 1);
}

static void chain(fixture *f)
{
    const int32_t last = CN_TOKEN_LAST;
    cn_step_output want[ANSWER];
    plain_answer(f, 0, 0, want);
    cn_step_output got = begin(f, 1, 10);
    assert_same(&got, &want[0]);
    assert_int_equal(submit(f, 1, &last, 1, PROMPT, NULL), CN_OK);
    for (uint32_t i = 2; i <= ANSWER; i++) {
        // Two in flight: the second names the token of the first before anybody knows it.
        if (i < ANSWER) assert_int_equal(submit(f, 1, &last, 1, PROMPT + i - 1, NULL), CN_OK);
        if (i < ANSWER) assert_int_equal(submit(f, 1, &last, 1, PROMPT + i, NULL), CN_E_AGAIN);
        got = wait_for_output(f);
        assert_same(&got, &want[i - 1]);
    }
    cn_step_result none;
    assert_false(TEST_OPS.step_poll(f->backend, &none));
}

/* Catches CN_TOKEN_LAST that reads a token too early or of another slot, outputs that the next step
 * overwrites, and a third step that is taken (or that changes something although it was refused).
 */
static void tokens_chain_with_two_steps_in_flight(void **state)
{
    (void)state;
    on_both_kinds_of_page(chain);
}

static void copy_page(fixture *f)
{
    cn_step_output want[ANSWER];
    plain_answer(f, 0, 0, want);
    const cn_step_output first = begin(f, 1, 10);
    assert_same(&first, &want[0]);
    /* Slot 2 shares the two full pages of the prompt with slot 1 and writes on in a copy of the
     * third, while slot 1 goes on with another token in its own. */
    cn_page_delta deltas[8];
    for (uint32_t i = 0; i < 8; i++) deltas[i] = (cn_page_delta){{2}, i, {i < 2 ? 10 + i : 20 + i}};
    const cn_sampling sampling = {
        .temperature = 1, .top_p = 1, .repetition_penalty = 1.2f, .seed = 11, .logprob_count = 5};
    const cn_slot_open open = {{2}, &sampling, f->prompt, &want[0].token, PROMPT, 1};
    const cn_page_copy copy = {{12}, {22}};
    const cn_step_seq seq = {{2}, PROMPT, 1, true, NULL};
    const cn_step step = {.opens = &open,
                          .open_count = 1,
                          .deltas = deltas,
                          .delta_count = 8,
                          .copies = &copy,
                          .copy_count = 1,
                          .seqs = &seq,
                          .seq_count = 1,
                          .tokens = &want[0].token,
                          .token_count = 1};
    cn_ticket ticket;
    assert_int_equal(TEST_OPS.step_submit(f->backend, &step, &ticket), CN_OK);
    cn_step_output got = wait_for_output(f);
    assert_same(&got, &want[1]);
    const int32_t other = (want[0].token + 1) % (int32_t)f->model.spec.vocab_count;
    next(f, 1, other, PROMPT);
    for (uint32_t i = 2; i < ANSWER; i++) {
        got = next(f, 2, want[i - 1].token, PROMPT + i - 1);
        assert_same(&got, &want[i]);
    }
}

/* Catches a copy that comes after the step has written, that misses a layer or head, or that still
 * shares bytes with its original. */
static void copied_pages_go_their_own_way(void **state)
{
    (void)state;
    on_both_kinds_of_page(copy_page);
}

static void move_pages(fixture *f, cn_page_io_kind kind, unsigned char *host, uint64_t page_bytes,
                       uint32_t first_page, uint32_t count)
{
    cn_page_io ops[8];
    cn_ticket ticket;
    for (uint32_t i = 0; i < count; i++)
        ops[i] = (cn_page_io){kind, {first_page + i}, host + i * page_bytes};
    assert_int_equal(TEST_OPS.page_io(f->backend, ops, count, &ticket), CN_OK);
    while (!TEST_OPS.page_io_done(f->backend, ticket)) sched_yield();
}

static void round_trip(fixture *f)
{
    cn_kv_info info;
    cn_step_output want[ANSWER];
    TEST_OPS.kv_info(f->backend, &info);
    unsigned char *pages = malloc(3 * info.page_bytes), *garbage = malloc(3 * info.page_bytes);
    assert_true(pages && garbage);
    plain_answer(f, 0, 0, want);
    begin(f, 1, 10);
    move_pages(f, CN_PAGE_READ, pages, info.page_bytes, 10, 3);
    memset(garbage, 0xFF, 3 * info.page_bytes); // NaN everywhere
    move_pages(f, CN_PAGE_WRITE, garbage, info.page_bytes, 10, 3);
    cn_step_output got = next(f, 1, want[0].token, PROMPT);
    assert_int_equal(got.code, CN_E_NUMERIC); // so the pages are really what is read
    move_pages(f, CN_PAGE_WRITE, pages, info.page_bytes, 10, 3);
    got = begin(f, 1, 20);
    move_pages(f, CN_PAGE_WRITE, pages, info.page_bytes, 20, 3);
    for (uint32_t i = 1; i < ANSWER; i++) {
        got = next(f, 1, want[i - 1].token, PROMPT + i - 1);
        assert_same(&got, &want[i]);
    }
    free(pages);
    free(garbage);
}

/* Catches pages that come back with other bits, at the wrong place, or before the step that wrote
 * them. */
static void pages_move_out_and_back(void **state)
{
    (void)state;
    on_both_kinds_of_page(round_trip);
}

static void wait_for_steps(fixture *f, uint64_t count)
{
    cn_backend_stats stats = {0};
    while (stats.steps < count) {
        TEST_OPS.stats(f->backend, &stats);
        sched_yield();
    }
}

// Two more steps are submitted and done while the result of the first is looked at.
static void hold_outputs(fixture *f)
{
    cn_step_result result;
    begin(f, 0, 0);
    assert_int_equal(submit(f, 0, f->prompt, 1, PROMPT, NULL), CN_OK);
    assert_int_equal(submit(f, 0, f->prompt, 1, PROMPT + 1, NULL), CN_OK);
    while (!TEST_OPS.step_poll(f->backend, &result)) sched_yield();
    assert_int_equal(result.output_count, 1);
    const cn_step_output kept = result.outputs[0];
    assert_int_equal(kept.position, PROMPT + 1);
    assert_int_equal(submit(f, 0, f->prompt, 1, PROMPT + 2, NULL), CN_OK);
    assert_int_equal(submit(f, 0, f->prompt, 1, PROMPT + 3, NULL), CN_E_AGAIN);
    wait_for_steps(f, 4);
    assert_same(&result.outputs[0], &kept);
}

/* Catches a step that writes its outputs over those that the last poll lent out. */
static void outputs_stay_until_the_next_poll(void **state)
{
    (void)state;
    on_both_kinds_of_page(hold_outputs);
}

static void leave_in_flight(fixture *f)
{
    begin(f, 0, 0);
    assert_int_equal(submit(f, 0, f->prompt, PROMPT, PROMPT, NULL), CN_OK);
    assert_int_equal(submit(f, 0, f->prompt, PROMPT, 2 * PROMPT, NULL), CN_OK);
}

/* Catches a close that frees what the device thread still works on, or that waits for a poll. */
static void close_waits_for_work_in_flight(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) on_both_kinds_of_page(leave_in_flight);
}

/* Catches a close that stumbles over what was never made, and errors that do not say what would be
 * right. */
static void half_open_backends_close(void **state)
{
    (void)state;
    cn_err err;
    cn_backend *backend;
    cn_backend_options options = {.thread_count = 1};
    assert_int_equal(TEST_OPS.open(&options, &backend, &err), CN_OK);
    TEST_OPS.close(backend);
    TEST_OPS.close(NULL);
#if !defined(CN_TEST_CUDA)
    options.path = "mmx";
    assert_int_equal(TEST_OPS.open(&options, &backend, &err), CN_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "\"mmx\""));
    assert_null(backend);
    options = (cn_backend_options){.thread_count = 257};
    assert_int_equal(TEST_OPS.open(&options, &backend, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "257; must be 0 to 256"));
#else
    (void)err;
#endif
}

int main(void)
{
    alarm(ALARM_S);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_chain_with_two_steps_in_flight),
        cmocka_unit_test(copied_pages_go_their_own_way),
        cmocka_unit_test(pages_move_out_and_back),
        cmocka_unit_test(outputs_stay_until_the_next_poll),
        cmocka_unit_test(close_waits_for_work_in_flight),
        cmocka_unit_test(half_open_backends_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
