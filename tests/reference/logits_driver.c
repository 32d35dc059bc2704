/* tests/reference/logits_driver.c: prints what the CPU backend computes for a checkpoint.
 *
 *     logits_driver DIRECTORY PATH KEPT STEPS < token ids
 *
 * PATH is the backend's instruction set, or "best". The answer is one JSON object: of the last KEPT
 * positions of the prompt the log-probability of every token (a backend tells that of one target
 * per position, so the prompt runs once for each token of the vocabulary), and STEPS tokens of the
 * greedy continuation with theirs. Exit code 3: the machine does not have this PATH.
 *
 * Not a program for people; test_logits.py drives it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/wake.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu.h"
#include "model/checkpoint.h"

enum {
    PROMPT_MAX = 4096,
    STEPS_MAX = 512,
    PAGES_MAX = (PROMPT_MAX + STEPS_MAX) / CN_PAGE_TOKENS + 1,
    CHUNK_TOKENS = 100,          // no multiple of a page or a split, on purpose
    EXIT_NO_PATH = 3
};

typedef struct driver {
    cn_checkpoint *checkpoint;
    cn_backend *backend;
    const cn_backend_ops *ops;
    cn_wake wake;
    uint32_t prompt_count, page_count;
    int32_t prompt[PROMPT_MAX];
    cn_page_delta pages[PAGES_MAX];          // entry i of the block table is page i
} driver;

static void check(cn_code code, const cn_err *err)
{
    if (code == CN_OK) return;
    fprintf(stderr, "logits_driver: %s\n", err->text);
    exit(1);
}

static void read_prompt(driver *d)
{
    while (d->prompt_count < PROMPT_MAX && scanf("%d", &d->prompt[d->prompt_count]) == 1) {
        d->prompt_count++;
    }
    if (d->prompt_count > 0) return;
    fprintf(stderr, "logits_driver: stdin has no token ids\n");
    exit(1);
}

static void open_backend(driver *d, const char *path, uint32_t steps)
{
    cn_err err;
    check(cn_wake_open(&d->wake, &err), &err);
    d->ops = &cn_cpu_ops;
    const cn_backend_options options = {
        .thread_count = 1, .path = strcmp(path, "best") == 0 ? NULL : path, .wake = &d->wake};
    const cn_code code = d->ops->open(&options, &d->backend, &err);
    if (code == CN_E_UNSUPPORTED) {
        fprintf(stderr, "logits_driver: %s\n", err.text);
        exit(EXIT_NO_PATH);
    }
    check(code, &err);
    check(d->ops->model_load(d->backend, cn_checkpoint_spec(d->checkpoint), NULL, NULL, &err),
          &err);
    cn_checkpoint_drop_weights(d->checkpoint);
    const uint32_t context = d->prompt_count + steps + 1;
    d->page_count = (context + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    for (uint32_t i = 0; i < d->page_count; i++) d->pages[i] = (cn_page_delta){{0}, i, {i}};
    const cn_kv_options kv = {.page_count = d->page_count,
                              .slot_count = 1,
                              .context_tokens_max = context,
                              .step_tokens_max = CHUNK_TOKENS,
                              .step_outputs_max = CHUNK_TOKENS + 1,
                              .step_deltas_max = d->page_count};
    check(d->ops->kv_create(d->backend, &kv, &err), &err);
}

/* Submits one step and waits; the outputs are valid until the next one. */
static cn_step_result run_step(driver *d, const cn_step *step)
{
    cn_ticket ticket;
    cn_step_result result;
    const cn_err busy = {.text = "the backend refused a step"};
    check(d->ops->step_submit(d->backend, step, &ticket), &busy);
    while (!d->ops->step_poll(d->backend, &result)) {
        cn_wake_prepare(&d->wake);
        if (d->ops->step_poll(d->backend, &result)) {
            cn_wake_cancel(&d->wake);
            break;
        }
        cn_wake_wait(&d->wake, UINT64_MAX);
    }
    const cn_err failed = {.text = "the step failed"};
    check(result.code, &failed);
    return result;
}

/* Begins the sequence anew and runs its prompt in chunks. With targets, logprobs[i] becomes that of
 * targets[i] after token i. Returns the greedy token after the prompt. */
static cn_logprob run_prompt(driver *d, const int32_t *targets, float *logprobs)
{
    const cn_sampling greedy = {.top_p = 1, .repetition_penalty = 1, .logprob_count = 1};
    const cn_slot_open open = {.sampling = &greedy, .prompt = d->prompt,
                               .prompt_count = d->prompt_count};
    cn_logprob next = {.token = -1};
    for (uint32_t at = 0; at < d->prompt_count; at += CHUNK_TOKENS) {
        const uint32_t left = d->prompt_count - at;
        const cn_step_seq seq = {.context_count = at,
                                 .token_count = left < CHUNK_TOKENS ? left : CHUNK_TOKENS,
                                 .sample = left <= CHUNK_TOKENS,
                                 .targets = targets ? targets + at : NULL};
        const cn_step step = {.opens = &open, .open_count = at == 0,
                              .deltas = d->pages, .delta_count = at == 0 ? d->page_count : 0,
                              .seqs = &seq, .seq_count = 1,
                              .tokens = d->prompt + at, .token_count = seq.token_count};
        const cn_step_result result = run_step(d, &step);
        for (uint32_t i = 0; i < result.output_count; i++) {
            const cn_step_output *out = &result.outputs[i];
            if (out->sampled) next = (cn_logprob){out->token, out->logprob};
            else logprobs[out->position - 1] = out->logprob;
        }
    }
    return next;
}

static cn_logprob run_token(driver *d, int32_t token, uint32_t position)
{
    const cn_step_seq seq = {.context_count = position, .token_count = 1, .sample = true};
    const cn_step step = {.seqs = &seq, .seq_count = 1, .tokens = &token, .token_count = 1};
    const cn_step_result result = run_step(d, &step);
    return (cn_logprob){result.outputs[0].token, result.outputs[0].logprob};
}

// One row per token of the vocabulary, one column per position.
static void print_logprobs(driver *d, uint32_t kept)
{
    const uint32_t vocab_count = cn_checkpoint_spec(d->checkpoint)->vocab_count;
    static int32_t targets[PROMPT_MAX];
    static float logprobs[PROMPT_MAX];
    printf("\"logprobs\": [");
    for (uint32_t token = 0; token < vocab_count; token++) {
        for (uint32_t i = 0; i < d->prompt_count; i++) {
            targets[i] = i < d->prompt_count - kept ? -1 : (int32_t)token;
        }
        run_prompt(d, targets, logprobs);
        printf(token ? ",\n[" : "[");
        for (uint32_t i = d->prompt_count - kept; i < d->prompt_count; i++) {
            printf("%s%.9g", i > d->prompt_count - kept ? "," : "", (double)logprobs[i]);
        }
        printf("]");
    }
    printf("]");
}

static void print_greedy(driver *d, uint32_t steps)
{
    cn_logprob next = run_prompt(d, NULL, NULL);
    printf("\"greedy\": [");
    for (uint32_t i = 0; i < steps; i++) {
        printf("%s[%d,%.9g]", i ? "," : "", next.token, (double)next.logprob);
        next = run_token(d, next.token, d->prompt_count + i);
    }
    printf("]");
}

static uint32_t read_count(const char *text, uint32_t max)
{
    const unsigned long value = strtoul(text, NULL, 10);
    if (value >= 1 && value <= max) return (uint32_t)value;
    fprintf(stderr, "logits_driver: %s: must be 1 to %u\n", text, max);
    exit(1);
}

int main(int argc, char **argv)
{
    static driver d;
    cn_err err;
    cn_kv_info info;
    if (argc != 5) {
        fprintf(stderr, "logits_driver: needs DIRECTORY PATH KEPT STEPS\n");
        return 1;
    }
    read_prompt(&d);
    const uint32_t kept = read_count(argv[3], d.prompt_count);
    const uint32_t steps = read_count(argv[4], STEPS_MAX);
    check(cn_checkpoint_open(argv[1], &d.checkpoint, &err), &err);
    open_backend(&d, argv[2], steps);
    d.ops->kv_info(d.backend, &info);
    printf("{\"numerics\": \"%s\",\n", info.numerics);
    print_logprobs(&d, kept);
    printf(",\n");
    print_greedy(&d, steps);
    printf("}\n");
    d.ops->close(d.backend);
    cn_wake_close(&d.wake);
    cn_checkpoint_close(d.checkpoint);
    return 0;
}
