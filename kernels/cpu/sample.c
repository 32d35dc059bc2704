#include "kernels/cpu/cpu_int.h"

#include <math.h>
#include <string.h>

/* How it works. The order of cn_sampling in backend.h, on one row of logits. Most rows are greedy or keep a
 * few tokens, so nothing sorts the vocabulary: top_k keeps the k best in a heap, and top_p asks for the
 * best 64, 512, 4,096, ... until they hold enough of the probability. The choice is the largest
 * logit / temperature + Gumbel noise (Gumbel 1954; Maddison et al. 2014), which is a draw from the
 * softmax and needs neither sum nor order. */

typedef struct choice {
    int32_t token;
    float value;
} choice;

// Whether (value, id) comes before another one: larger first, ties by the lower id.
static bool before(float value, int32_t id, float other_value, int32_t other_id)
{
    return value > other_value || (value == other_value && id < other_id);
}

static void swap(float *values, int32_t *ids, uint32_t a, uint32_t b)
{
    const float value = values[a];
    const int32_t id = ids[a];
    values[a] = values[b];
    ids[a] = ids[b];
    values[b] = value;
    ids[b] = id;
}

// Moves the entry at the root of a heap, whose root is the last in order, to where it belongs.
static void sift(float *values, int32_t *ids, uint32_t count)
{
    for (uint32_t at = 0, child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count &&
            before(values[child], ids[child], values[child + 1], ids[child + 1])) child++;
        if (before(values[child], ids[child], values[at], ids[at])) return;
        swap(values, ids, at, child);
    }
}

static void raise(float *values, int32_t *ids, uint32_t at)
{
    for (uint32_t parent; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (!before(values[parent], ids[parent], values[at], ids[at])) return;
        swap(values, ids, at, parent);
    }
}

// The `want` best of n logits, best first, into values and ids.
static uint32_t best_of(const float *logits, uint32_t n, uint32_t want, float *values, int32_t *ids)
{
    uint32_t count = 0;
    if (want > n) want = n;
    for (uint32_t i = 0; i < n; i++) {
        if (count < want) {
            values[count] = logits[i];
            ids[count] = (int32_t)i;
            raise(values, ids, count++);
        } else if (logits[i] > values[0]) {      // of equals the earlier one stays
            values[0] = logits[i];
            ids[0] = (int32_t)i;
            sift(values, ids, count);
        }
    }
    for (uint32_t left = count; left > 1; left--) {
        swap(values, ids, 0, left - 1);
        sift(values, ids, left - 1);
    }
    return count;
}

static int32_t first_equal(const float *logits, uint32_t n, float value)
{
    for (uint32_t i = 0; i < n; i++) {
        if (logits[i] == value) return (int32_t)i;
    }
    return 0;
}

// ---- what changes logits

static void penalise(float *logits, const cn_cpu_settings *s, uint32_t *counts)
{
    const cn_sampling *p = &s->sampling;
    // In a count: occurrences in the answer, and the top bit for any occurrence.
    const uint32_t seen = 1u << 31;
    for (uint32_t i = 0; i < s->history_count; i++) {
        uint32_t *count = &counts[s->history[i]];
        *count = (*count | seen) + (i >= s->prompt_count);
    }
    for (uint32_t i = 0; i < s->history_count; i++) {
        const int32_t token = s->history[i];
        const uint32_t answered = counts[token] & ~seen;
        float *logit = &logits[token];
        if (counts[token] == 0) continue;        // was done
        counts[token] = 0;
        *logit = *logit > 0 ? *logit / p->repetition_penalty : *logit * p->repetition_penalty;
        if (answered) *logit -= p->presence_penalty + p->frequency_penalty * (float)answered;
    }
}

static bool penalises(const cn_sampling *p)
{
    return p->repetition_penalty != 1.0f || p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f;
}

static void change_logits(float *logits, const cn_cpu_settings *s, uint32_t position, uint32_t *counts)
{
    const cn_sampling *p = &s->sampling;
    for (uint32_t i = 0; i < p->bias_count; i++) logits[p->bias_ids[i]] += p->bias_values[i];
    if (position < p->ban_until_position) {
        for (uint32_t i = 0; i < p->ban_count; i++) logits[p->ban_ids[i]] = -INFINITY;
    }
    if (penalises(p)) penalise(logits, s, counts);
}

// ---- logprobs

typedef struct row {
    const cn_path *path;
    const cn_cpu_settings *settings;
    float *logits;
    float *values;               // this thread's scratch
    int32_t *ids;
    uint32_t n, position;
} row;

static void report(const row *r, cn_step_output *out, int32_t token, float max)
{
    const uint32_t wanted = r->settings->sampling.logprob_count;
    out->token = token;
    if (wanted == 0) return;
    const float sum = r->path->row_sum_exp(r->logits, r->n, max, 1.0f);
    const float base = max + (float)log((double)sum);
    out->logprob = r->logits[token] - base;
    const uint32_t top = wanted - 1 < CN_TOP_LOGPROBS_MAX ? wanted - 1 : CN_TOP_LOGPROBS_MAX;
    out->top_count = best_of(r->logits, r->n, top, r->values, r->ids);
    for (uint32_t i = 0; i < out->top_count; i++) {
        out->top[i] = (cn_logprob){r->ids[i], r->values[i] - base};
    }
}

// ---- the choice

static choice largest(const float *scores, const int32_t *ids, uint32_t count, choice best)
{
    for (uint32_t i = 0; i < count; i++) {
        const int32_t id = ids ? ids[i] : (int32_t)i;
        if (best.token < 0 || before(scores[i], id, best.value, best.token)) best = (choice){id, scores[i]};
    }
    return best;
}

/* How many of the sorted candidates hold `top_p` of the probability; values are logits, `total` the sum
 * over all that count. 0: these do not suffice. */
static uint32_t cut_top_p(const row *r, const float *values, uint32_t count, float max, float scale,
                          float total)
{
    float held = 0;
    const float enough = r->settings->sampling.top_p * total;
    for (uint32_t i = 0; i < count; i++) {
        held += r->path->row_sum_exp(values + i, 1, max, scale);
        if (held >= enough) return i + 1;
    }
    return 0;
}

// The candidates that top_k and top_p leave, best first.
static uint32_t candidates(const row *r, float max, float scale)
{
    const cn_sampling *p = &r->settings->sampling;
    if (p->top_k > 0) {
        const uint32_t count = best_of(r->logits, r->n, p->top_k, r->values, r->ids);
        if (p->top_p >= 1.0f) return count;
        const float total = r->path->row_sum_exp(r->values, count, max, scale);
        const uint32_t kept = cut_top_p(r, r->values, count, max, scale, total);
        return kept ? kept : count;
    }
    const float total = r->path->row_sum_exp(r->logits, r->n, max, scale);
    for (uint32_t want = 64;; want *= 8) {
        const uint32_t count = best_of(r->logits, r->n, want, r->values, r->ids);
        const uint32_t kept = cut_top_p(r, r->values, count, max, scale, total);
        if (kept || count == r->n) return kept ? kept : count;
    }
}

static int32_t draw(const row *r, float max)
{
    enum { BLOCK = 1024 };
    const cn_sampling *p = &r->settings->sampling;
    const cn_path *path = r->path;
    const float scale = 1.0f / p->temperature;
    const float lowest = p->min_p > 0 ? (float)log((double)p->min_p) : -INFINITY;
    const bool filtered = p->top_k > 0 || p->top_p < 1.0f;
    const uint32_t count = filtered ? candidates(r, max, scale) : r->n;
    const float *logits = filtered ? r->values : r->logits;
    choice best = {-1, 0};
    for (uint32_t at = 0; at < count; at += BLOCK) {
        float scores[BLOCK];
        const uint32_t n = count - at < BLOCK ? count - at : BLOCK;
        for (uint32_t i = 0; i < n; i++) {
            scores[i] = (logits[at + i] - max) * scale;
            if (scores[i] < lowest) scores[i] = -INFINITY;
        }
        const int32_t *ids = filtered ? r->ids + at : NULL;
        path->add_gumbel(scores, scores, n, p->seed, r->position, ids, (int32_t)at);
        choice block = largest(scores, ids, n, (choice){-1, 0});
        if (!filtered) block.token += (int32_t)at;
        if (best.token < 0 || before(block.value, block.token, best.value, best.token)) best = block;
    }
    return best.token;
}

void cn_sample_row(cn_cpu_rank *rank, const cn_cpu_step *step, const cn_cpu_wanted *wanted, float *logits,
                   uint32_t thread, cn_step_output *outputs)
{
    const cn_cpu_scratch *s = &rank->scratch;
    const cn_step_seq *seq = &step->seqs[wanted->seq];
    cn_cpu_slot *slot = &rank->cpu->slots[seq->slot.v];
    cn_cpu_settings *settings = &slot->settings[slot->used];
    const row r = {rank->path, settings, logits, s->values[thread], s->ids[thread],
                   rank->model.spec.vocab_count, wanted->position};
    bool finite;
    float max = rank->path->row_max(logits, r.n, &finite);
    const cn_step_output empty = {.slot = seq->slot, .position = wanted->position, .token = -1,
                                  .code = finite ? CN_OK : CN_E_NUMERIC};
    if (wanted->target >= 0) {
        *outputs = empty;
        if (finite) report(&r, outputs, wanted->target, max);
        outputs++;
    }
    if (!wanted->sample) return;
    *outputs = empty;
    outputs->sampled = true;
    slot->last_token = -1;
    if (!finite) return;
    change_logits(logits, settings, wanted->position, s->counts[thread]);
    max = rank->path->row_max(logits, r.n, &finite);
    const bool greedy = settings->sampling.temperature == 0.0f;
    const int32_t token = greedy ? first_equal(logits, r.n, max) : draw(&r, max);
    report(&r, outputs, token, max);
    slot->last_token = token;
    if (penalises(&settings->sampling)) settings->history[settings->history_count++] = token;
}
