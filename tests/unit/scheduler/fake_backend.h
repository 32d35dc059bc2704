/* tests/unit/scheduler/fake_backend.h: a backend whose pages hold token ids.
 * The "model" hashes every token from position 0 on, read through the block table of the slot, so a
 * page that is wrong, stale, shared too early or written by somebody else gives another next token
 * than the reference, which hashes the plain list. Steps and copies of pages wait until the test lets
 * them run; a copy happens as late as the contract allows, when it is found to be done.
 *
 * Threads: one.
 * Memory:  fixed arrays; the bounds are asserted. */
#pragma once

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "kernels/backend.h"

#ifndef FAKE_SCALE               // a test may ask for a larger device
#define FAKE_SCALE 1
#endif

enum {
    FAKE_PAGES = 64 * FAKE_SCALE,
    FAKE_SLOTS = 8 * FAKE_SCALE,
    FAKE_TABLE = 64,
    FAKE_STEP = 64 * FAKE_SCALE,
    FAKE_DELTAS = 1024 * FAKE_SCALE,
    FAKE_VOCAB = 50,
    FAKE_EOS = 7,
    FAKE_OUTPUTS = FAKE_STEP + FAKE_SLOTS
};

typedef struct fake_slot {
    cn_sampling sampling;
    int32_t bans[4];
    uint32_t table[FAKE_TABLE];
    int32_t last;
} fake_slot;

typedef struct fake_step {
    cn_slot_open opens[FAKE_SLOTS];
    cn_sampling samplings[FAKE_SLOTS];
    int32_t bans[FAKE_SLOTS][4];
    cn_page_delta deltas[FAKE_DELTAS];
    cn_page_copy copies[FAKE_SLOTS];
    cn_step_seq seqs[FAKE_SLOTS];
    int32_t targets[FAKE_STEP];
    int32_t tokens[FAKE_STEP];
    cn_step step;
    cn_ticket ticket;
} fake_step;

typedef struct fake_backend {
    cn_backend base;
    int32_t pages[FAKE_PAGES][CN_PAGE_TOKENS];
    fake_slot slots[FAKE_SLOTS];
    fake_step steps[2];
    uint32_t oldest, count;
    uint32_t runnable;           // steps that the test lets run
    cn_ticket tickets;
    cn_step_output outputs[FAKE_OUTPUTS];
    cn_page_io io[FAKE_PAGES];
    uint32_t io_count;           // 0: no batch under way
    cn_ticket io_ticket, io_after;
    bool io_stuck;               // copies wait
    uint64_t step_count, token_count;
    uint32_t page_count;
    cn_code fail;                // of the next step that runs
    int32_t poison;              // a sampled token that counts as not finite, -1: none
} fake_backend;

static inline uint64_t fake_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

static inline int32_t fake_choose(uint64_t hash, uint64_t seed, uint32_t position, bool may_end)
{
    const int32_t token = (int32_t)(fake_mix(fake_mix(hash, seed), position) % FAKE_VOCAB);
    return token == FAKE_EOS && !may_end ? FAKE_EOS + 1 : token;
}

static inline float fake_logprob(uint64_t hash, int32_t token)
{
    return -(float)(fake_mix(hash, (uint64_t)token) % 1000) / 100.0f;
}

static void fake_kv_info(const cn_backend *backend, cn_kv_info *out)
{
    (void)backend;
    *out = (cn_kv_info){.page_bytes = sizeof(int32_t) * CN_PAGE_TOKENS,
                        .page_held_bytes = sizeof(int32_t) * CN_PAGE_TOKENS, .layout_version = 1,
                        .numerics = "fake"};
}

static cn_code fake_kv_create(cn_backend *backend, const cn_kv_options *options, cn_err *err)
{
    fake_backend *f = (fake_backend *)backend;
    (void)err;
    CN_ASSERT(options->page_count <= FAKE_PAGES && options->slot_count <= FAKE_SLOTS);
    CN_ASSERT(options->step_tokens_max <= FAKE_STEP);
    f->page_count = options->page_count;
    memset(f->pages, 0x55, sizeof f->pages);
    return CN_OK;
}

static cn_code fake_submit(cn_backend *backend, const cn_step *step, cn_ticket *out)
{
    fake_backend *f = (fake_backend *)backend;
    if (f->count == 2) return CN_E_AGAIN;
    fake_step *to = &f->steps[(f->oldest + f->count++) % 2];
    CN_ASSERT(step->open_count <= FAKE_SLOTS && step->delta_count <= FAKE_DELTAS);
    CN_ASSERT(step->seq_count >= 1 && step->seq_count <= FAKE_SLOTS);
    CN_ASSERT(step->token_count <= FAKE_STEP && step->copy_count <= FAKE_SLOTS);
    to->step = *step;
    for (uint32_t i = 0; i < step->open_count; i++) {
        to->opens[i] = step->opens[i];
        to->samplings[i] = *step->opens[i].sampling;
        CN_ASSERT(to->samplings[i].ban_count <= 4);
        for (uint32_t b = 0; b < to->samplings[i].ban_count; b++) {
            to->bans[i][b] = to->samplings[i].ban_ids[b];
        }
    }
    if (step->delta_count) memcpy(to->deltas, step->deltas, step->delta_count * sizeof *to->deltas);
    if (step->copy_count) memcpy(to->copies, step->copies, step->copy_count * sizeof *to->copies);
    memcpy(to->seqs, step->seqs, step->seq_count * sizeof *to->seqs);
    memcpy(to->tokens, step->tokens, step->token_count * sizeof *to->tokens);
    uint32_t at = 0;
    for (uint32_t i = 0; i < step->seq_count; i++) {
        const cn_step_seq *s = &step->seqs[i];
        for (uint32_t j = 0; j < s->token_count; j++) to->targets[at + j] = s->targets ? s->targets[j] : -1;
        at += s->token_count;
    }
    CN_ASSERT(at == step->token_count);
    *out = to->ticket = ++f->tickets;
    return CN_OK;
}

static uint64_t fake_hash(const fake_backend *f, const fake_slot *slot, uint32_t count)
{
    uint64_t hash = 1;
    for (uint32_t p = 0; p < count; p++) {
        hash = fake_mix(hash, (uint32_t)f->pages[slot->table[p / 16]][p % 16]);
    }
    return hash;
}

static uint32_t fake_run_seq(fake_backend *f, const cn_step_seq *s, const int32_t *tokens,
                             const int32_t *targets, cn_step_output *out)
{
    fake_slot *slot = &f->slots[s->slot.v];
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->token_count; i++) {
        const uint32_t p = s->context_count + i;
        const int32_t id = tokens[i] == CN_TOKEN_LAST ? slot->last : tokens[i];
        CN_ASSERT(id >= 0 && id < FAKE_VOCAB);
        CN_ASSERT(p / 16 < FAKE_TABLE && slot->table[p / 16] < f->page_count);
        f->pages[slot->table[p / 16]][p % 16] = id;
        if (targets[i] >= 0) {
            out[n++] = (cn_step_output){.slot = s->slot, .position = p + 1, .token = targets[i],
                                        .logprob = fake_logprob(fake_hash(f, slot, p + 1), targets[i])};
        }
    }
    if (!s->sample) return n;
    const uint32_t position = s->context_count + s->token_count;
    const uint64_t hash = fake_hash(f, slot, position);
    const bool may_end = slot->sampling.ban_count == 0 || position >= slot->sampling.ban_until_position;
    slot->last = fake_choose(hash, slot->sampling.seed, position, may_end);
    const bool poisoned = slot->last == f->poison;
    out[n++] = (cn_step_output){.slot = s->slot, .position = position, .sampled = true,
                                .token = poisoned ? -1 : slot->last,
                                .code = poisoned ? CN_E_NUMERIC : CN_OK,
                                .logprob = fake_logprob(hash, slot->last)};
    return n;
}

static bool fake_poll(cn_backend *backend, cn_step_result *out)
{
    fake_backend *f = (fake_backend *)backend;
    if (f->count == 0 || f->runnable == 0) return false;
    const fake_step *step = &f->steps[f->oldest];
    uint32_t at = 0, n = 0;
    for (uint32_t i = 0; i < step->step.open_count; i++) {
        fake_slot *slot = &f->slots[step->opens[i].slot.v];
        memset(slot, 0xFF, sizeof *slot);
        slot->sampling = step->samplings[i];
    }
    for (uint32_t i = 0; i < step->step.delta_count; i++) {
        f->slots[step->deltas[i].slot.v].table[step->deltas[i].index] = step->deltas[i].page.v;
    }
    for (uint32_t i = 0; i < step->step.copy_count; i++) {
        memcpy(f->pages[step->copies[i].to.v], f->pages[step->copies[i].from.v], sizeof f->pages[0]);
    }
    for (uint32_t i = 0; i < step->step.seq_count; i++) {
        n += fake_run_seq(f, &step->seqs[i], step->tokens + at, step->targets + at, f->outputs + n);
        at += step->seqs[i].token_count;
    }
    *out = (cn_step_result){.ticket = step->ticket, .code = f->fail, .outputs = f->outputs,
                            .output_count = n, .busy_ns = 1000};
    f->fail = CN_OK;
    f->oldest = (f->oldest + 1) % 2;
    f->count--;
    f->runnable--;
    f->step_count++;
    f->token_count += step->step.token_count;
    return true;
}

static cn_code fake_page_io(cn_backend *backend, const cn_page_io *ops, uint32_t count, cn_ticket *out)
{
    fake_backend *f = (fake_backend *)backend;
    if (f->io_count > 0) return CN_E_AGAIN;
    CN_ASSERT(count > 0 && count <= FAKE_PAGES);
    for (uint32_t i = 0; i < count; i++) {
        CN_ASSERT(ops[i].page.v < f->page_count);
        f->io[i] = ops[i];
        if (ops[i].kind == CN_PAGE_READ) memset(ops[i].host, 0x33, sizeof f->pages[0]);
    }
    f->io_count = count;
    f->io_after = f->tickets;
    *out = ++f->io_ticket;
    return CN_OK;
}

static bool fake_page_io_done(cn_backend *backend, cn_ticket ticket)
{
    fake_backend *f = (fake_backend *)backend;
    if (f->io_count > 0 && !f->io_stuck && f->tickets - f->count >= f->io_after) {
        for (uint32_t i = 0; i < f->io_count; i++) {
            int32_t *page = f->pages[f->io[i].page.v];
            if (f->io[i].kind == CN_PAGE_READ) memcpy(f->io[i].host, page, sizeof f->pages[0]);
            else memcpy(page, f->io[i].host, sizeof f->pages[0]);
        }
        f->io_count = 0;
    }
    return f->io_count == 0 || ticket < f->io_ticket;
}

static const cn_backend_ops fake_ops = {
    .name = "fake",
    .kv_info = fake_kv_info,
    .kv_create = fake_kv_create,
    .step_submit = fake_submit,
    .step_poll = fake_poll,
    .page_io = fake_page_io,
    .page_io_done = fake_page_io_done,
};

static inline void fake_backend_init(fake_backend *f)
{
    memset(f, 0, sizeof *f);
    f->base.ops = &fake_ops;
    f->poison = -1;
}
