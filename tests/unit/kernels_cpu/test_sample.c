#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(CN_TEST_CUDA)
#include "kernels/cuda/cuda.h"
#define TEST_OPS CN_TEST_CUDA
#define SLOW 1                   // a fiber per CUDA thread
#else
#include "kernels/cpu/cpu.h"
#define TEST_OPS cn_cpu_ops
#define SLOW 0
#endif
#include "tests/identity/random_model.h"
#include "tests/unit/cmocka_all.h"

/* Sampling and steps through the backend's own door.
 *
 * A model whose logits the test chooses: one layer that adds nothing (its o and down are zero),
 * token t embedded as 4 in dimension t % 16, norm weights of 1/4, no epsilon. The final norm then
 * makes a 1 of the 4, exactly, and the logits after token t are column t % 16 of the head, to the
 * bit. */

enum {
    DIM = 16,
    VOCAB = 307,
    SLOTS = 64,
    CONTEXT = 512,
    PAGES_PER_SLOT = CONTEXT / CN_PAGE_TOKENS,
    ALARM_S = 600
};

typedef struct world {
    cn_backend *backend;
    cn_wake wake;
    float logits[DIM][VOCAB]; // of what comes after token t: logits[t % DIM]
    float embed[VOCAB][DIM];
    uint32_t bad_token; // its embedding is NaN; 0: none is
} world;

// ---- a backend of any model

static void backend_open(world *w, const cn_model_spec *spec, uint32_t thread_count,
                         uint32_t page_count)
{
    const cn_backend_options options = {.thread_count = thread_count, .wake = &w->wake};
    const cn_kv_options kv = {.page_count = page_count,
                              .slot_count = SLOTS,
                              .context_tokens_max = CONTEXT,
                              .step_tokens_max = 2 * CONTEXT,
                              .step_outputs_max = 2 * CONTEXT,
                              .step_deltas_max = page_count};
    assert_int_equal(cn_wake_open(&w->wake, NULL), CN_OK);
    assert_int_equal(TEST_OPS.open(&options, &w->backend, NULL), CN_OK);
    assert_int_equal(TEST_OPS.model_load(w->backend, spec, NULL, NULL, NULL), CN_OK);
    assert_int_equal(TEST_OPS.kv_create(w->backend, &kv, NULL), CN_OK);
}

static void backend_close(world *w)
{
    TEST_OPS.close(w->backend);
    cn_wake_close(&w->wake);
}

/* Sleeps on the wake as the engine does: a wake-up that is lost ends in the alarm. */
static cn_step_result wait_for_step(world *w)
{
    cn_step_result result;
    while (!TEST_OPS.step_poll(w->backend, &result)) {
        cn_wake_prepare(&w->wake);
        if (TEST_OPS.step_poll(w->backend, &result)) {
            cn_wake_cancel(&w->wake);
            break;
        }
        cn_wake_wait(&w->wake, UINT64_MAX);
    }
    assert_int_equal(result.code, CN_OK);
    return result;
}

static cn_step_result run_step(world *w, const cn_step *step)
{
    cn_ticket ticket;
    assert_int_equal(TEST_OPS.step_submit(w->backend, step, &ticket), CN_OK);
    const cn_step_result result = wait_for_step(w);
    assert_int_equal(result.ticket, ticket);
    return result;
}

// ---- the model with chosen logits

static void world_open(world *w, uint32_t thread_count)
{
    static const float zeros[3 * DIM * DIM];
    static float quarter[DIM], head[VOCAB][DIM];
    static const float inv_freq[1] = {1};
    const cn_tensor small = {zeros, 2, DIM, CN_DTYPE_F32}, norm = {quarter, 1, DIM, CN_DTYPE_F32};
    const cn_tensor back = {zeros, DIM, 2, CN_DTYPE_F32};
    const cn_layer_weights layer = {.attn_norm = norm,
                                    .q = small,
                                    .k = small,
                                    .v = small,
                                    .o = back,
                                    .mlp_norm = norm,
                                    .gate = small,
                                    .up = small,
                                    .down = back};
    for (uint32_t i = 0; i < DIM; i++) quarter[i] = 0.25f;
    for (uint32_t token = 0; token < VOCAB; token++) {
        for (uint32_t i = 0; i < DIM; i++) {
            w->embed[token][i] = w->bad_token && token == w->bad_token ? NAN
                                 : i == token % DIM                    ? 4.0f
                                                                       : 0;
            head[token][i] = w->logits[i][token];
        }
    }
    const cn_model_spec spec = {
        .layer_count = 1,
        .dim = DIM,
        .head_count = 1,
        .kv_head_count = 1,
        .head_dim = 2,
        .mlp_dim = 2,
        .vocab_count = VOCAB,
        .context_tokens_max = CONTEXT,
        .rope_inv_freq = inv_freq,
        .rope_magnitude = 1,
        .embed = {w->embed, VOCAB, DIM, CN_DTYPE_F32},
        .final_norm = norm,
        .head = {head, VOCAB, DIM, CN_DTYPE_F32},
        .layers = &layer,
    };
    backend_open(w, &spec, thread_count, SLOTS * PAGES_PER_SLOT);
    static cn_page_delta deltas[SLOTS * PAGES_PER_SLOT];
    for (uint32_t i = 0; i < SLOTS * PAGES_PER_SLOT; i++) {
        deltas[i] = (cn_page_delta){{i / PAGES_PER_SLOT}, i % PAGES_PER_SLOT, {i}};
    }
    const int32_t token = 0;
    const cn_step_seq seq = {.slot = {0}, .token_count = 1};
    const cn_step step = {.deltas = deltas,
                          .delta_count = SLOTS * PAGES_PER_SLOT,
                          .seqs = &seq,
                          .seq_count = 1,
                          .tokens = &token,
                          .token_count = 1};
    assert_int_equal(run_step(w, &step).output_count, 0);
}

static world *fresh_world(void)
{
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    return w;
}

static void world_free(world *w)
{
    backend_close(w);
    free(w);
}

static cn_sampling plain(float temperature)
{
    return (cn_sampling){
        .temperature = temperature, .top_p = 1, .repetition_penalty = 1, .logprob_count = 1};
}

static void open_slot(world *w, uint32_t slot, const cn_sampling *sampling, const int32_t *prompt,
                      uint32_t prompt_count, const int32_t *output, uint32_t output_count)
{
    const cn_slot_open open = {{slot}, sampling, prompt, output, prompt_count, output_count};
    const int32_t token = 0;
    const cn_step_seq seq = {.slot = {slot}, .token_count = 1};
    const cn_step step = {.opens = &open,
                          .open_count = 1,
                          .seqs = &seq,
                          .seq_count = 1,
                          .tokens = &token,
                          .token_count = 1};
    run_step(w, &step);
}

/* What follows `token` at `position - 1` of a slot. */
static cn_step_output sample_after(world *w, uint32_t slot, int32_t token, uint32_t position)
{
    const cn_step_seq seq = {
        .slot = {slot}, .context_count = position - 1, .token_count = 1, .sample = true};
    const cn_step step = {.seqs = &seq, .seq_count = 1, .tokens = &token, .token_count = 1};
    const cn_step_result result = run_step(w, &step);
    assert_int_equal(result.output_count, 1);
    assert_true(result.outputs->sampled);
    assert_int_equal(result.outputs->slot.v, slot);
    assert_int_equal(result.outputs->position, position);
    return result.outputs[0];
}

// ---- the model of sampling: sorts, and computes in double

typedef struct history {
    int32_t tokens[CONTEXT];
    uint32_t prompt_count, count;
} history;

typedef struct expected {
    float logits[VOCAB];  // after bias, bans and penalties
    int32_t order[VOCAB]; // by logit, then id
    double log_sum;
    int32_t token;
    bool unsure; // so near a border that float and double may differ
} expected;

static void change(float *logits, const cn_sampling *s, const history *h, uint32_t position)
{
    for (uint32_t i = 0; i < s->bias_count; i++) logits[s->bias_ids[i]] += s->bias_values[i];
    for (uint32_t i = 0; i < s->ban_count && position < s->ban_until_position; i++) {
        logits[s->ban_ids[i]] = -INFINITY;
    }
    for (int32_t token = 0; token < VOCAB; token++) {
        uint32_t seen = 0, answered = 0;
        for (uint32_t i = 0; i < h->count; i++) {
            seen += h->tokens[i] == token;
            answered += h->tokens[i] == token && i >= h->prompt_count;
        }
        if (seen && logits[token] > 0)
            logits[token] /= s->repetition_penalty;
        else if (seen)
            logits[token] *= s->repetition_penalty;
        if (answered) logits[token] -= s->presence_penalty + s->frequency_penalty * (float)answered;
    }
}

static void sort_ids(const float *logits, int32_t *order)
{
    for (int32_t i = 0; i < VOCAB; i++) {
        int32_t at = i;
        for (; at > 0 && logits[order[at - 1]] < logits[i]; at--) order[at] = order[at - 1];
        order[at] = i; // behind its equals, whose ids are lower
    }
}

static double noise(uint64_t seed, uint32_t position, uint32_t id)
{
    uint32_t c[4] = {position, id / 4, 0, 0};
    for (uint32_t round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t c1 = c[1], c3 = c[3];
        c[0] = (uint32_t)(b >> 32) ^ c1 ^ ((uint32_t)seed + round * 0x9E3779B9u);
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c3 ^ ((uint32_t)(seed >> 32) + round * 0xBB67AE85u);
        c[3] = (uint32_t)a;
    }
    return -log(-log(((double)(c[id % 4] >> 9) + 0.5) * 0x1p-23));
}

// How many of the sorted tokens top_k and top_p keep.
static uint32_t count_kept(const expected *e, const cn_sampling *s, bool *unsure)
{
    const uint32_t count = s->top_k && s->top_k < VOCAB ? s->top_k : VOCAB;
    double total = 0, held = 0;
    if (s->top_p >= 1) return count;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count; i++) {
            const double difference =
                (double)e->logits[e->order[i]] - (double)e->logits[e->order[0]];
            const double p = exp(difference / (double)s->temperature);
            if (pass == 0) {
                total += p;
                continue;
            }
            held += p;
            if (fabs(held - (double)s->top_p * total) < 1e-4 * total) *unsure = true;
            if (held >= (double)s->top_p * total) return i + 1;
        }
    }
    return count;
}

static void choose(expected *e, const cn_sampling *s, uint32_t position)
{
    e->token = e->order[0];
    if (s->temperature == 0) return;
    const uint32_t kept = count_kept(e, s, &e->unsure);
    double best = -INFINITY, second = -INFINITY;
    for (uint32_t i = 0; i < kept; i++) {
        const int32_t id = e->order[i];
        const double relative =
            ((double)e->logits[id] - (double)e->logits[e->order[0]]) / (double)s->temperature;
        if (s->min_p > 0 && fabs(relative - log((double)s->min_p)) < 1e-4) e->unsure = true;
        if (s->min_p > 0 && relative < log((double)s->min_p)) continue;
        const double score = relative + noise(s->seed, position, (uint32_t)id);
        if (score > best) {
            second = best;
            best = score;
            e->token = id;
        } else if (score > second)
            second = score;
    }
    if (best - second < 1e-3) e->unsure = true;
}

static expected expect(const world *w, int32_t after, const cn_sampling *s, const history *h,
                       uint32_t position)
{
    expected e = {.unsure = false};
    memcpy(e.logits, w->logits[after % DIM], sizeof e.logits);
    change(e.logits, s, h, position);
    sort_ids(e.logits, e.order);
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) sum += exp((double)e.logits[i] - (double)e.logits[e.order[0]]);
    e.log_sum = (double)e.logits[e.order[0]] + log(sum);
    choose(&e, s, position);
    return e;
}

/* A logprob is a difference of two floats of at most 40 here (two roundings of 2^-19), from a sum
 * of 307 exponentials within 2e-7 each and 25 roundings: 1e-5 holds all of it twice. */
static const double logprob_bound = 1e-5;

static void check_logprob(float got, double want)
{
    if (isinf(want) ? (double)got == want : fabs((double)got - want) <= logprob_bound) return;
    fail_msg("logprob %.9g, should be %.9g", (double)got, want);
}

static void check_output(const cn_step_output *out, const expected *e, const cn_sampling *s)
{
    assert_int_equal(out->code, CN_OK);
    if (!e->unsure) assert_int_equal(out->token, e->token);
    if (s->logprob_count == 0) {
        assert_int_equal(out->top_count, 0);
        return;
    }
    check_logprob(out->logprob, (double)e->logits[out->token] - e->log_sum);
    assert_int_equal(out->top_count, s->logprob_count - 1);
    for (uint32_t i = 0; i < out->top_count; i++) {
        assert_int_equal(out->top[i].token, e->order[i]);
        check_logprob(out->top[i].logprob, (double)e->logits[e->order[i]] - e->log_sum);
    }
}

// ---- random settings against the model

static float between(test_rng *rng, float low, float high)
{
    return low + (high - low) * (float)(test_rng_u64(rng) >> 40) * 0x1p-24f;
}

/* What a weight of that value is in the backend: the GPU keeps bf16. */
static float weight(float value)
{
#if defined(CN_TEST_CUDA)
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= 0xFFFF0000u;
    memcpy(&value, &bits, sizeof bits);
#endif
    return value;
}

/* Half of the columns in quarters, so that equals are everywhere. */
static void fill_logits(world *w, test_rng *rng)
{
    for (uint32_t column = 0; column < DIM; column++) {
        for (uint32_t id = 0; id < VOCAB; id++) {
            const float value = between(rng, -6, 6);
            w->logits[column][id] = column % 2 ? weight(value) : roundf(value * 4) / 4;
        }
    }
}

typedef struct settings {
    cn_sampling s;
    int32_t bias_ids[8], ban_ids[8];
    float bias_values[8];
} settings;

// A few different ids in `out`.
static uint32_t some_ids(test_rng *rng, int32_t out[8])
{
    const uint32_t count = test_rng_below(rng, 9), first = test_rng_below(rng, VOCAB);
    for (uint32_t i = 0; i < count; i++) out[i] = (int32_t)((first + i * 37) % VOCAB);
    return count;
}

static void random_settings(test_rng *rng, settings *out)
{
    static const float temperatures[] = {0, 0.3f, 1, 1, 1.7f};
    static const uint32_t ks[] = {0, 0, 1, 2, 40, 306, 307, 1000};
    static const float ps[] = {1, 1, 0.001f, 0.5f, 0.9f, 0.99f};
    static const float penalties[] = {0, 0, 0.5f, 1.5f, -0.7f};
    cn_sampling *s = &out->s;
    *s = plain(temperatures[test_rng_below(rng, 5)]);
    s->top_k = ks[test_rng_below(rng, 8)];
    s->top_p = ps[test_rng_below(rng, 6)];
    s->min_p = test_rng_below(rng, 2) ? between(rng, 0, 0.3f) : 0;
    s->repetition_penalty = test_rng_below(rng, 2) ? between(rng, 0.8f, 1.6f) : 1;
    s->presence_penalty = penalties[test_rng_below(rng, 5)];
    s->frequency_penalty = penalties[test_rng_below(rng, 5)];
    s->seed = test_rng_u64(rng);
    s->logprob_count = test_rng_below(rng, CN_TOP_LOGPROBS_MAX + 2);
    s->bias_ids = out->bias_ids;
    s->bias_values = out->bias_values;
    s->ban_ids = out->ban_ids;
    s->bias_count = some_ids(rng, out->bias_ids);
    for (uint32_t i = 0; i < s->bias_count; i++) out->bias_values[i] = between(rng, -10, 10);
    s->ban_count = some_ids(rng, out->ban_ids);
    s->ban_until_position = test_rng_below(rng, 80);
}

/* Catches whatever makes the choice or a logprob other than cn_sampling in backend.h says: order of
 * the changes, counts of penalties over prompt and answer, bans one position too long or short,
 * which tokens top_k, top_p and min_p keep, ties, and noise of a wrong seed, position or token.
 * Every token is known before it is drawn. */
static void random_settings_agree_with_sorting_model(void **state)
{
    enum { ROUNDS = SLOW ? 25 : 250, ANSWER = 12 };
    (void)state;
    test_rng rng = test_rng_open("sample");
    world *w = fresh_world();
    fill_logits(w, &rng);
    world_open(w, 2);
    uint32_t unsure = 0;
    for (int round = 0; round < ROUNDS; round++) {
        settings set;
        history h = {.prompt_count = 1 + test_rng_below(&rng, 40)};
        random_settings(&rng, &set);
        h.count = h.prompt_count + test_rng_below(&rng, 20); // an answer so far: a resumed turn
        for (uint32_t i = 0; i < h.count; i++)
            h.tokens[i] = (int32_t)test_rng_below(&rng, i % 2 ? VOCAB : 9);
        const uint32_t slot = test_rng_below(&rng, SLOTS);
        open_slot(w, slot, &set.s, h.tokens, h.prompt_count, h.tokens + h.prompt_count,
                  h.count - h.prompt_count);
        for (int i = 0; i < ANSWER; i++) {
            const int32_t last = h.tokens[h.count - 1];
            const expected e = expect(w, last, &set.s, &h, h.count);
            const cn_step_output out = sample_after(w, slot, last, h.count);
            check_output(&out, &e, &set.s);
            unsure += e.unsure;
            h.tokens[h.count++] = out.token;
        }
    }
    // Borders are met by equal logits and a few thousandths of the gaps; far from every tenth draw. They
    // come a round at a time, so few rounds may have more of them.
    assert_in_range(unsure, 0, ROUNDS * ANSWER / (SLOW ? 3 : 10));
    world_free(w);
}

/* Catches a tie that the higher id wins, in one vector, across vectors and in the remainder. */
static void greedy_takes_the_lowest_of_equals(void **state)
{
    static const int32_t equals[DIM][2] = {{0, 1},   {0, 306}, {15, 16},   {305, 306}, {303, 304},
                                           {3, 200}, {31, 32}, {100, 116}, {287, 288}, {16, 304}};
    (void)state;
    world *w = fresh_world();
    for (uint32_t i = 0; i < DIM; i++) {
        for (uint32_t id = 0; id < VOCAB; id++) w->logits[i][id] = -1 - (float)(id % 7);
        w->logits[i][equals[i][0]] = w->logits[i][equals[i][1]] = 2.5f;
    }
    world_open(w, 1);
    const cn_sampling greedy = plain(0);
    open_slot(w, 5, &greedy, NULL, 0, NULL, 0);
    for (int32_t i = 0; i < 10; i++) assert_int_equal(sample_after(w, 5, i, 1).token, equals[i][0]);
    world_free(w);
}

// ---- distribution

/* Upper point of chi-square that a right sampler exceeds once in a million (Wilson and Hilferty
 * 1931). */
static double chi_square_limit(double degrees)
{
    const double step = 2 / (9 * degrees);
    return degrees * pow(1 - step + 4.753 * sqrt(step), 3);
}

static void draw_all(world *w, int32_t after, float temperature, uint32_t rounds,
                     uint32_t counts[VOCAB])
{
    cn_sampling s[SLOTS];
    cn_slot_open opens[SLOTS];
    cn_step_seq seqs[SLOTS];
    int32_t tokens[SLOTS];
    for (uint32_t i = 0; i < SLOTS; i++) {
        s[i] = plain(temperature);
        s[i].seed = 1000 + i;
        s[i].logprob_count = 0;
        opens[i] = (cn_slot_open){.slot = {i}, .sampling = &s[i]};
        tokens[i] = after;
    }
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < SLOTS; i++) {
            seqs[i] = (cn_step_seq){
                .slot = {i}, .context_count = round, .token_count = 1, .sample = true};
        }
        const cn_step step = {.opens = opens,
                              .open_count = round ? 0 : SLOTS,
                              .seqs = seqs,
                              .seq_count = SLOTS,
                              .tokens = tokens,
                              .token_count = SLOTS};
        const cn_step_result result = run_step(w, &step);
        assert_int_equal(result.output_count, SLOTS);
        for (uint32_t i = 0; i < SLOTS; i++) counts[result.outputs[i].token]++;
    }
}

/* Catches a temperature that is applied twice or not at all, and noise that is correlated between
 * seeds, positions or tokens. Seeds are fixed: the figure is the same in every run. */
static void draws_follow_the_softmax(void **state)
{
    enum { ROUNDS = SLOW ? 20 : 320 }; // times 64 slots: 20,480 draws
    static const float temperatures[] = {0.5f, 1.0f, 2.0f};
    (void)state;
    test_rng rng = {7};
    world *w = fresh_world();
    fill_logits(w, &rng);
    for (int id = 0; id < VOCAB; id++) w->logits[1][id] = weight(w->logits[1][id] * 0.4f);
    world_open(w, 2);
    for (int t = 0; t < 3; t++) {
        uint32_t counts[VOCAB] = {0};
        draw_all(w, 1, temperatures[t], ROUNDS, counts);
        double sum = 0, chi = 0, rest = 0, rest_seen = 0;
        for (int id = 0; id < VOCAB; id++) sum += exp((double)(w->logits[1][id] / temperatures[t]));
        int cells = 0;
        for (int id = 0; id < VOCAB; id++) {
            const double want =
                SLOTS * ROUNDS * exp((double)(w->logits[1][id] / temperatures[t])) / sum;
            if (want < 8) { // rare ones share a cell
                rest += want;
                rest_seen += counts[id];
                continue;
            }
            chi += (counts[id] - want) * (counts[id] - want) / want;
            cells++;
        }
        if (rest > 0) {
            chi += (rest_seen - rest) * (rest_seen - rest) / rest;
            cells++;
        }
        print_message("temperature %g: chi-square %.1f of %d cells, limit %.1f\n",
                      (double)temperatures[t], chi, cells, chi_square_limit(cells - 1));
        assert_true(chi < chi_square_limit(cells - 1));
    }
    world_free(w);
}

/* Catches noise that depends on the slot or on what was drawn before, and a seed that is not used.
 */
static void seeds_repeat_and_differ(void **state)
{
    enum { DRAWS = 40 };
    (void)state;
    test_rng rng = test_rng_open("seeds");
    world *w = fresh_world();
    fill_logits(w, &rng);
    world_open(w, 2);
    int32_t drawn[3][DRAWS];
    for (uint32_t i = 0; i < 3; i++) {
        cn_sampling s = plain(3);
        s.seed = i < 2 ? 0x123456789ABCull : 0x123556789ABCull; // differ in the high word alone
        open_slot(w, 7 * i, &s, NULL, 0, NULL, 0);
        for (uint32_t j = 0; j < DRAWS; j++) drawn[i][j] = sample_after(w, 7 * i, 1, j + 1).token;
    }
    assert_memory_equal(drawn[0], drawn[1], sizeof drawn[0]);
    uint32_t same = 0;
    for (uint32_t j = 0; j < DRAWS; j++) same += drawn[0][j] == drawn[2][j];
    assert_in_range(same, 0, DRAWS / 2); // nearly flat over 307 tokens: about one is expected
    world_free(w);
}

// ---- faults

static cn_step_result run_pair(world *w, int32_t first, int32_t second, uint32_t position)
{
    const int32_t tokens[] = {first, second};
    const cn_step_seq seqs[] = {
        {.slot = {3}, .context_count = position, .token_count = 1, .sample = true},
        {.slot = {4}, .context_count = position, .token_count = 1, .sample = true},
    };
    const cn_step step = {.seqs = seqs, .seq_count = 2, .tokens = tokens, .token_count = 2};
    const cn_step_result result = run_step(w, &step);
    assert_int_equal(result.output_count, 2);
    return result;
}

/* Catches a NaN that spreads to the neighbour in a tile, that is sampled as a token, or that stays
 * in the slot after the next open; and a row of it that reaches a sum or a comparison without end.
 */
static void nan_ends_its_own_sequence_only(void **state)
{
    enum { BAD = 21, STEPS = 8 };
    (void)state;
    test_rng rng = test_rng_open("nan");
    world *w = fresh_world();
    fill_logits(w, &rng);
    w->bad_token = BAD;
    world_open(w, 2);
    cn_sampling s = plain(0.8f);
    s.logprob_count = 3;
    s.repetition_penalty = 1.1f;
    const int32_t prompt[] = {1};
    open_slot(w, 3, &s, prompt, 1, NULL, 0);
    open_slot(w, 4, &s, prompt, 1, NULL, 0);
    history h = {.tokens = {1}, .prompt_count = 1, .count = 1};
    for (uint32_t i = 0; i < STEPS; i++) {
        const int32_t last = h.tokens[h.count - 1];
        const expected e = expect(w, last, &s, &h, i + 1);
        const cn_step_result r = run_pair(w, i == 0 ? BAD : i % 2 ? CN_TOKEN_LAST : 2, last, i);
        // K and V of the bad token stay in the sequence's pages, so it never recovers.
        assert_int_equal(r.outputs[0].code, CN_E_NUMERIC);
        assert_int_equal(r.outputs[0].token, -1);
        assert_int_equal(r.outputs[0].slot.v, 3);
        assert_int_equal(r.outputs[1].slot.v, 4);
        check_output(&r.outputs[1], &e, &s);
        h.tokens[h.count++] = r.outputs[1].token == BAD ? 2 : r.outputs[1].token;
        if (r.outputs[1].token == BAD) break;
    }
    // The slot serves the next sequence; its first token replaces the one that was bad.
    open_slot(w, 3, &s, prompt, 1, NULL, 0);
    const history fresh = {.tokens = {1}, .prompt_count = 1, .count = 1};
    const expected e = expect(w, 1, &s, &fresh, 1);
    const cn_step_output out = sample_after(w, 3, 1, 1);
    check_output(&out, &e, &s);
    world_free(w);
}

int main(void)
{
    alarm(ALARM_S);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_settings_agree_with_sorting_model),
        cmocka_unit_test(greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(seeds_repeat_and_differ),
        cmocka_unit_test(nan_ends_its_own_sequence_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
