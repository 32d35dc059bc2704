#include "scheduler/batch_int.h"

#include <stdlib.h>

#include "base/assert.h"

cn_code cn_batch_open(cn_batch *batch, uint32_t slot_count, uint32_t step_tokens,
                      uint32_t delta_capacity)
{
    *batch = (cn_batch){
        .opens = calloc(slot_count, sizeof(cn_slot_open)),
        .deltas = calloc(delta_capacity, sizeof(cn_page_delta)),
        .copies = calloc(slot_count, sizeof(cn_page_copy)),
        .seqs = calloc(slot_count, sizeof(cn_step_seq)),
        .tokens = calloc(step_tokens, sizeof(int32_t)),
        .targets = calloc(step_tokens, sizeof(int32_t)),
        .samplings = calloc(slot_count, sizeof(cn_sampling)),
        .delta_capacity = delta_capacity,
        .tokens_max = step_tokens,
    };
    bool ok = batch->opens && batch->deltas && batch->copies && batch->seqs && batch->tokens &&
              batch->targets && batch->samplings;
    for (int i = 0; i < CN_BATCH_IN_FLIGHT_MAX; i++) {
        batch->records[i].entries = calloc(slot_count, sizeof(cn_batch_entry));
        ok = ok && batch->records[i].entries;
    }
    batch->step = (cn_step){.opens = batch->opens, .deltas = batch->deltas,
                            .copies = batch->copies, .seqs = batch->seqs,
                            .tokens = batch->tokens};
    return ok ? CN_OK : CN_E_MEMORY;
}

void cn_batch_close(cn_batch *batch)
{
    for (int i = 0; i < CN_BATCH_IN_FLIGHT_MAX; i++) free(batch->records[i].entries);
    free(batch->opens);
    free(batch->deltas);
    free(batch->copies);
    free(batch->seqs);
    free(batch->tokens);
    free(batch->targets);
    free(batch->samplings);
}

void cn_batch_open_slot(cn_batch *batch, const cn_sequence *s)
{
    const cn_generation *g = s->generation;
    const uint32_t at = batch->step.open_count++;
    cn_sampling *sampling = &batch->samplings[at];
    *sampling = g->sampling;
    sampling->seed += s->choice;
    sampling->ban_ids = g->stop_ids;
    sampling->ban_count = g->tokens_min > 0 ? g->stop_count : 0;
    sampling->ban_until_position = g->prompt_count + g->tokens_min;
    batch->opens[at] = (cn_slot_open){
        .slot = s->slot,
        .sampling = sampling,
        .prompt = g->prompt,
        .prompt_count = g->prompt_count,
        .output = cn_sequence_output(s),
        .output_count = s->output_count,
    };
}

void cn_batch_add_delta(cn_batch *batch, const cn_sequence *s, uint32_t index)
{
    CN_ASSERT(batch->step.delta_count < batch->delta_capacity);
    batch->deltas[batch->step.delta_count++] = (cn_page_delta){s->slot, index, s->pages[index]};
}

void cn_batch_add_copy(cn_batch *batch, cn_page_id from, cn_page_id to)
{
    batch->copies[batch->step.copy_count++] = (cn_page_copy){from, to};
}

/* Which prompt tokens the step is asked about: those that follow the given positions and were not
 * reported before (a preempted sequence computes its past a second time). */
static const int32_t *fill_targets(cn_batch *batch, const cn_sequence *s, uint32_t token_count)
{
    const cn_generation *g = s->generation;
    int32_t *targets = batch->targets + batch->step.token_count;
    if (!cn_sequence_reports(s)) return NULL;
    for (uint32_t i = 0; i < token_count; i++) {
        const uint32_t next = s->submitted_count + i + 1;
        const bool wanted = next >= s->reported_count && next < g->prompt_count;
        targets[i] = wanted ? g->prompt[next] : -1;
    }
    return targets;
}

void cn_batch_add_tokens(cn_batch *batch, cn_sequence *s, uint32_t token_count, bool sample)
{
    cn_step *step = &batch->step;
    CN_ASSERT(token_count >= 1 && token_count <= cn_batch_token_room(batch));
    for (uint32_t i = 0; i < token_count; i++) {
        const uint32_t position = s->submitted_count + i;
        batch->tokens[step->token_count + i] =
            position < cn_sequence_length(s) ? cn_sequence_token(s, position) : CN_TOKEN_LAST;
    }
    batch->seqs[step->seq_count] = (cn_step_seq){
        .slot = s->slot,
        .context_count = s->submitted_count,
        .token_count = token_count,
        .sample = sample,
        .targets = fill_targets(batch, s, token_count),
    };
    s->submitted_count += token_count;
    s->sample_count += sample;
    cn_batch_record *record =
        &batch->records[(batch->record_oldest + batch->record_count) % CN_BATCH_IN_FLIGHT_MAX];
    record->entries[step->seq_count] = (cn_batch_entry){
        s, s->slot, s->epoch, token_count, s->submitted_count};
    step->token_count += token_count;
    step->seq_count++;
}

bool cn_batch_submit(cn_batch *batch, cn_backend *backend)
{
    cn_step *step = &batch->step;
    if (step->seq_count == 0) return false;
    CN_ASSERT(batch->record_count < CN_BATCH_IN_FLIGHT_MAX);
    cn_batch_record *record =
        &batch->records[(batch->record_oldest + batch->record_count) % CN_BATCH_IN_FLIGHT_MAX];
    const cn_code code = backend->ops->step_submit(backend, step, &record->ticket);
    CN_ASSERT(code == CN_OK);        // AGAIN is excluded by record_count
    record->count = step->seq_count;
    batch->record_count++;
    step->open_count = step->delta_count = step->copy_count = 0;
    step->seq_count = step->token_count = 0;
    return true;
}

const cn_batch_record *cn_batch_record_of(const cn_batch *batch, cn_ticket ticket)
{
    const cn_batch_record *record = &batch->records[batch->record_oldest];
    CN_ASSERT(batch->record_count > 0 && record->ticket == ticket);
    return record;
}

void cn_batch_retire(cn_batch *batch)
{
    batch->record_oldest = (batch->record_oldest + 1) % CN_BATCH_IN_FLIGHT_MAX;
    batch->record_count--;
}
