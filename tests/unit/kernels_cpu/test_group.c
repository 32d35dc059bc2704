#include "kernels/cpu/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/cpu_int.h"
#include "tests/identity/random_model.h"
#include "tests/unit/cmocka_all.h"

/* A model shared by 1, 2, 4 and 8 ranks, through the door of the backend. A wait that never ends is ended
 * by the alarm. */

enum { SLOTS = 3, PAGES = 60, CONTEXT = 300, PROMPT = 37, ANSWER = 12, ALARM_S = 600, PAGES_EACH = 20 };

static const uint32_t rank_counts[] = {1, 2, 4, 8};

static cn_backend *open_backend(const random_model *model, uint32_t ranks, cn_numerics numerics)
{
    const cn_backend_options options = {.rank_count = ranks, .numerics = numerics, .thread_count = 2};
    const cn_kv_options kv = {.page_count = PAGES, .slot_count = SLOTS, .context_tokens_max = CONTEXT,
                              .step_tokens_max = CONTEXT, .step_outputs_max = CONTEXT + SLOTS,
                              .step_deltas_max = PAGES};
    cn_backend *backend;
    cn_err err = {0};
    assert_int_equal(cn_cpu_ops.open(&options, &backend, &err), CN_OK);
    if (cn_cpu_ops.model_load(backend, &model->spec, NULL, NULL, &err) != CN_OK) fail_msg("%s", err.text);
    if (cn_cpu_ops.kv_create(backend, &kv, &err) != CN_OK) fail_msg("%s", err.text);
    return backend;
}

static cn_step_result wait_for_step(cn_backend *backend)
{
    cn_step_result result;
    while (!cn_cpu_ops.step_poll(backend, &result)) sched_yield();
    return result;
}

/* The prompt, with its own tokens as targets; slot s has the pages from s * PAGES_EACH on. */
static cn_step_result begin(cn_backend *backend, uint32_t slot, const int32_t *prompt)
{
    const cn_sampling sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1.2f, .seed = 11,
                                  .logprob_count = 5};
    const cn_slot_open open = {{slot}, &sampling, prompt, NULL, PROMPT, 0};
    const cn_step_seq seq = {{slot}, 0, PROMPT, true, prompt};
    cn_page_delta deltas[PAGES_EACH];
    for (uint32_t i = 0; i < PAGES_EACH; i++) {
        deltas[i] = (cn_page_delta){{slot}, i, {slot * PAGES_EACH + i}};
    }
    const cn_step step = {.opens = &open, .open_count = 1, .deltas = deltas,
                          .delta_count = CONTEXT / CN_PAGE_TOKENS, .seqs = &seq, .seq_count = 1,
                          .tokens = prompt, .token_count = PROMPT};
    cn_ticket ticket;
    assert_int_equal(cn_cpu_ops.step_submit(backend, &step, &ticket), CN_OK);
    return wait_for_step(backend);
}

static cn_code submit_next(cn_backend *backend, uint32_t slot, uint32_t position)
{
    const int32_t last = CN_TOKEN_LAST;
    const cn_step_seq seq = {{slot}, position, 1, true, NULL};
    const cn_step step = {.seqs = &seq, .seq_count = 1, .tokens = &last, .token_count = 1};
    cn_ticket ticket;
    return cn_cpu_ops.step_submit(backend, &step, &ticket);
}

static void move_pages(cn_backend *backend, cn_page_io_kind kind, unsigned char *host, uint32_t first,
                       uint32_t count)
{
    cn_kv_info info;
    cn_page_io ops[3];
    cn_ticket ticket;
    cn_cpu_ops.kv_info(backend, &info);
    for (uint32_t i = 0; i < count; i++) ops[i] = (cn_page_io){kind, {first + i}, host + i * info.page_bytes};
    assert_int_equal(cn_cpu_ops.page_io(backend, ops, count, &ticket), CN_OK);
    while (!cn_cpu_ops.page_io_done(backend, ticket)) sched_yield();
}

typedef struct heard {
    cn_step_output prompt[PROMPT + 1], answer[ANSWER];
    unsigned char *pages;        // three of them, after the prompt
    uint64_t page_bytes;
    char numerics[32];
} heard;

static void run(const random_model *model, const int32_t *prompt, uint32_t ranks, cn_numerics numerics,
                heard *out)
{
    cn_kv_info info;
    cn_backend *backend = open_backend(model, ranks, numerics);
    memset(out, 0, sizeof *out);
    cn_cpu_ops.kv_info(backend, &info);
    const cn_step_result first = begin(backend, 1, prompt);
    assert_int_equal(first.code, CN_OK);
    assert_int_equal(first.output_count, PROMPT + 1);
    memcpy(out->prompt, first.outputs, sizeof out->prompt);
    memcpy(out->numerics, info.numerics, sizeof out->numerics);
    out->page_bytes = info.page_bytes;
    out->pages = calloc(3, info.page_bytes);
    assert_non_null(out->pages);
    move_pages(backend, CN_PAGE_READ, out->pages, PAGES_EACH, 3);
    for (uint32_t i = 0; i < ANSWER; i++) {
        assert_int_equal(submit_next(backend, 1, PROMPT + i), CN_OK);
        out->answer[i] = wait_for_step(backend).outputs[0];
    }
    cn_cpu_ops.close(backend);
}

static void assert_same(const heard *a, const heard *b)
{
    assert_memory_equal(a->prompt, b->prompt, sizeof a->prompt);
    assert_memory_equal(a->answer, b->answer, sizeof a->answer);
    assert_int_equal(a->page_bytes, b->page_bytes);
    assert_memory_equal(a->pages, b->pages, 3 * a->page_bytes);
    assert_string_equal(a->numerics, b->numerics);
}

static void on_all_models(void (*test)(const random_model *model, const int32_t *prompt))
{
    test_rng rng = test_rng_open("group");
    for (uint32_t i = 0; i < 2 * RANDOM_MODEL_SHARED_SHAPES; i++) {
        random_model model;
        int32_t prompt[PROMPT];
        random_model_open_as(&model, &rng, i % 2 ? CN_DTYPE_BF16 : CN_DTYPE_F32,
                             RANDOM_MODEL_SHAPES + i / 2);
        for (int j = 0; j < PROMPT; j++) prompt[j] = (int32_t)test_rng_below(&rng, model.spec.vocab_count);
        test(&model, prompt);
        random_model_close(&model);
    }
}

static void compare_rank_counts(const random_model *model, const int32_t *prompt)
{
    heard want, got;
    run(model, prompt, 1, CN_NUMERICS_SHARD_INVARIANT, &want);
    for (size_t i = 1; i < sizeof rank_counts / sizeof *rank_counts; i++) {
        run(model, prompt, rank_counts[i], CN_NUMERICS_SHARD_INVARIANT, &got);
        assert_same(&want, &got);
        free(got.pages);
    }
    free(want.pages);
}

/* Catches a rank with the wrong part of a matrix or of a page, a sum in another order, a page that is put
 * together wrongly, and numerics that are named alike or apart when the bits are not. */
static void ranks_do_not_show_under_shard_invariant(void **state)
{
    (void)state;
    on_all_models(compare_rank_counts);
}

static void repeat_per_rank(const random_model *model, const int32_t *prompt)
{
    heard alone, want, got;
    run(model, prompt, 1, CN_NUMERICS_PER_RANK, &alone);
    for (size_t i = 1; i < sizeof rank_counts / sizeof *rank_counts; i++) {
        run(model, prompt, rank_counts[i], CN_NUMERICS_PER_RANK, &want);
        run(model, prompt, rank_counts[i], CN_NUMERICS_PER_RANK, &got);
        assert_same(&want, &got);
        assert_string_not_equal(want.numerics, alone.numerics);
        assert_int_equal(want.page_bytes, alone.page_bytes);
        free(want.pages);
        free(got.pages);
    }
    free(alone.pages);
}

/* Catches sums whose order depends on which rank came first, and pages of different bits under one name. */
static void runs_repeat_per_rank(void **state)
{
    (void)state;
    on_all_models(repeat_per_rank);
}

/* Another group goes on where the first stopped: pages written by `from` ranks, read by `to`. */
static void hand_over(const random_model *model, const int32_t *prompt, uint32_t from, uint32_t to)
{
    cn_backend *source = open_backend(model, from, CN_NUMERICS_SHARD_INVARIANT);
    cn_backend *target = open_backend(model, to, CN_NUMERICS_SHARD_INVARIANT);
    cn_kv_info info;
    cn_cpu_ops.kv_info(source, &info);
    unsigned char *pages = malloc(3 * info.page_bytes);
    assert_non_null(pages);
    begin(source, 0, prompt);
    move_pages(source, CN_PAGE_READ, pages, 0, 3);
    begin(target, 2, prompt);    // for the slot's settings and its first token; its pages are replaced
    move_pages(target, CN_PAGE_WRITE, pages, 2 * PAGES_EACH, 3);
    for (uint32_t i = 0; i < ANSWER; i++) {
        assert_int_equal(submit_next(source, 0, PROMPT + i), CN_OK);
        assert_int_equal(submit_next(target, 2, PROMPT + i), CN_OK);
        cn_step_output want = wait_for_step(source).outputs[0], got = wait_for_step(target).outputs[0];
        got.slot = want.slot;
        assert_memory_equal(&want, &got, sizeof want);
    }
    memset(pages, 0xFF, 3 * info.page_bytes);        // NaN everywhere: so they are what is read
    move_pages(target, CN_PAGE_WRITE, pages, 2 * PAGES_EACH, 3);
    assert_int_equal(submit_next(target, 2, PROMPT + ANSWER), CN_OK);
    assert_int_equal(wait_for_step(target).outputs[0].code, CN_E_NUMERIC);
    free(pages);
    cn_cpu_ops.close(source);
    cn_cpu_ops.close(target);
}

static void hand_over_between_all(const random_model *model, const int32_t *prompt)
{
    hand_over(model, prompt, 8, 1);
    hand_over(model, prompt, 1, 8);
    hand_over(model, prompt, 4, 2);
}

/* Catches a part of a page that goes to the wrong rank, or to one of two that hold it. */
static void pages_move_between_groups(void **state)
{
    (void)state;
    on_all_models(hand_over_between_all);
}

/* Catches an abort that leaves a rank or the step waiting, outputs of a step that failed, and pages that can no
 * longer be saved, or only seem to be. */
static void an_aborted_group_fails_its_steps(void **state)
{
    random_model model;
    int32_t prompt[PROMPT] = {0};
    test_rng rng = test_rng_open("abort");
    (void)state;
    random_model_open_as(&model, &rng, CN_DTYPE_BF16, RANDOM_MODEL_SHAPES);
    for (uint32_t ranks = 2; ranks <= 8; ranks *= 2) {
        cn_backend *backend = open_backend(&model, ranks, CN_NUMERICS_DEFAULT);
        cn_collective *end = ((cn_cpu *)backend)->ranks[ranks - 1].end;
        cn_kv_info info;
        cn_cpu_ops.kv_info(backend, &info);
        unsigned char *before = malloc(2 * info.page_bytes), *after = calloc(2, info.page_bytes);
        assert_true(before && after);
        assert_int_equal(begin(backend, 0, prompt).code, CN_OK);
        move_pages(backend, CN_PAGE_READ, before, 0, 2);         // the full ones
        assert_int_equal(submit_next(backend, 0, PROMPT), CN_OK);
        assert_int_equal(submit_next(backend, 0, PROMPT + 1), CN_OK);
        end->ops->abort(end);
        wait_for_step(backend);
        wait_for_step(backend);  // one of the two may have been done before
        assert_int_equal(submit_next(backend, 0, PROMPT + 2), CN_OK);
        const cn_step_result result = wait_for_step(backend);
        assert_int_equal(result.code, CN_E_IO);
        assert_int_equal(result.output_count, 0);
        move_pages(backend, CN_PAGE_READ, after, 0, 2);
        assert_memory_equal(before, after, 2 * info.page_bytes);
        free(before);
        free(after);
        cn_cpu_ops.close(backend);
    }
    random_model_close(&model);
}

static cn_code refuse_some(cn_cpu_rank *rank, void *self, cn_err *err)
{
    const uint32_t *mask = self;
    if (!(*mask >> rank->index & 1)) return CN_OK;
    return cn_err_set(err, CN_E_MEMORY, "rank %u", rank->index);
}

/* Catches a rank whose failure is lost, and a text that is another rank's. */
static void the_first_rank_that_fails_is_named(void **state)
{
    const cn_backend_options options = {.rank_count = 8, .thread_count = 1};
    cn_backend *backend;
    (void)state;
    assert_int_equal(cn_cpu_ops.open(&options, &backend, NULL), CN_OK);
    for (uint32_t mask = 0; mask < 1u << 8; mask += 1 + mask / 8) {
        cn_err err = {0};
        char want[16] = "";
        const cn_code code = cn_group_prepare((cn_cpu *)backend, refuse_some, &mask, &err);
        if (mask) snprintf(want, sizeof want, "rank %d", __builtin_ctz(mask));
        assert_int_equal(code, mask ? CN_E_MEMORY : CN_OK);
        assert_string_equal(err.text, want);
    }
    cn_cpu_ops.close(backend);
}

// Opens a backend of `ranks`, loads the model and makes room for `page_count` pages; the first error.
static cn_code try_open(const random_model *model, uint32_t ranks, uint32_t page_count, cn_err *err)
{
    const cn_backend_options options = {.rank_count = ranks, .thread_count = 1};
    const cn_kv_options kv = {.page_count = page_count, .slot_count = 1, .context_tokens_max = CONTEXT,
                              .step_tokens_max = 17, .step_outputs_max = 17, .step_deltas_max = 1};
    cn_backend *backend;
    cn_code code = cn_cpu_ops.open(&options, &backend, err);
    if (code == CN_OK) code = cn_cpu_ops.model_load(backend, &model->spec, NULL, NULL, err);
    if (code == CN_OK) code = cn_cpu_ops.kv_create(backend, &kv, err);
    cn_cpu_ops.close(backend);
    return code;
}

/* Catches groups that are opened although they cannot be, errors that do not say why, and a close that
 * stumbles over what was not made. 2^31 pages are more than the address space of a process. */
static void impossible_groups_are_refused(void **state)
{
    random_model model;
    test_rng rng = test_rng_open("refused");
    cn_err err;
    (void)state;
    random_model_open_as(&model, &rng, CN_DTYPE_F32, 0);
    assert_int_equal(try_open(&model, 3, 1, &err), CN_E_INVALID);
    assert_string_equal(err.text, "devices.tensor_parallel: 3; must be 1, 2, 4 or 8");
    assert_int_equal(try_open(&model, 16, 1, &err), CN_E_INVALID);
    assert_string_equal(err.text, "devices.tensor_parallel: 16; must be 1, 2, 4 or 8");
    assert_int_equal(try_open(&model, 8, 1, &err), CN_E_UNSUPPORTED);
    assert_string_equal(err.text, "devices.tensor_parallel: 8; must divide the model's 4 heads "
                                  "(num_attention_heads)");
    assert_int_equal(try_open(&model, 4, INT32_MAX, &err), CN_E_MEMORY);
    assert_string_equal(err.text, "kv.bytes: no memory for 2147483647 pages of 4096 bytes on rank 0");
    assert_int_equal(try_open(&model, 4, 1, &err), CN_OK);
    random_model_close(&model);
}

int main(void)
{
    alarm(ALARM_S);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_do_not_show_under_shard_invariant),
        cmocka_unit_test(runs_repeat_per_rank),
        cmocka_unit_test(pages_move_between_groups),
        cmocka_unit_test(an_aborted_group_fails_its_steps),
        cmocka_unit_test(the_first_rank_that_fails_is_named),
        cmocka_unit_test(impossible_groups_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
