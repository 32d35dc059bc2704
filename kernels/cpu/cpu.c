#include "kernels/cpu/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "kernels/cpu/cpu_int.h"

/* How it works. submit copies the step into one of three buffers and tells the device thread its ticket
 * under a lock; the device thread runs tickets in order and publishes the last finished one, which
 * step_poll compares with the last reported. Two steps are in flight at most, that is, not reported: the
 * third buffer is the one reported last, whose outputs stay as they are until the next poll. Moves of
 * pages wait for the tickets that were given before. */

enum { THREADS_MAX = 256, LAYOUT_VERSION = 1, NUMERICS_VERSION = 1 };

static cn_cpu *cpu_of(cn_backend *backend) { return (cn_cpu *)backend; }

// ---- probe, open, close

static uint32_t usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > THREADS_MAX ? THREADS_MAX : (uint32_t)count;
}

static cn_code cpu_probe(char *text, size_t text_bytes, cn_err *err)
{
    (void)err;
    snprintf(text, text_bytes, "%s, %u threads", cn_path_choose(NULL)->name, usable_cores());
    return CN_OK;
}

static void run_step(cn_cpu *cpu, cn_ticket ticket)
{
    cn_cpu_step *step = &cpu->steps[ticket % CN_CPU_STEPS];
    const cn_clock clock = cn_clock_system();
    const uint64_t start_ns = cn_clock_now_ns(&clock);
    cn_forward_prepare(cpu, step);
    step->code = cn_group_run(cpu, step);
    if (step->code != CN_OK) step->output_count = 0;
    step->busy_ns = cn_clock_now_ns(&clock) - start_ns;
    atomic_fetch_add_explicit(&cpu->stat_steps, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&cpu->stat_tokens, step->step.token_count, memory_order_relaxed);
    atomic_fetch_add_explicit(&cpu->stat_busy_ns, step->busy_ns, memory_order_relaxed);
    // Release: whoever sees the ticket sees the outputs.
    atomic_store_explicit(&cpu->finished, ticket, memory_order_release);
}

static void *run_device(void *argument)
{
    cn_cpu *cpu = argument;
    cn_ticket done = 0, io_done = 0;
    pthread_mutex_lock(&cpu->lock);
    for (;;) {
        const bool io_ready = cpu->device_io > io_done && cpu->device_io_after <= done;
        const bool step_ready = cpu->device_submitted > done;
        if (!io_ready && !step_ready) {
            if (cpu->closing) break;
            pthread_cond_wait(&cpu->work, &cpu->lock);
            continue;
        }
        pthread_mutex_unlock(&cpu->lock);
        if (io_ready) {
            cn_pages_move(cpu);
            atomic_store_explicit(&cpu->io_finished, ++io_done, memory_order_release);
        } else {
            run_step(cpu, ++done);
        }
        if (cpu->wake) cn_wake_signal(cpu->wake);
        pthread_mutex_lock(&cpu->lock);
    }
    pthread_mutex_unlock(&cpu->lock);
    return NULL;
}

static void cpu_close(cn_backend *backend)
{
    cn_cpu *cpu = cpu_of(backend);
    if (!cpu) return;
    if (cpu->device_started) {
        pthread_mutex_lock(&cpu->lock);
        cpu->closing = true;
        pthread_cond_signal(&cpu->work);
        pthread_mutex_unlock(&cpu->lock);
        pthread_join(cpu->ranks[0].thread, NULL);
        cpu->ranks[0].started = false;
    }
    cn_group_close(cpu);
    pthread_cond_destroy(&cpu->work);
    pthread_mutex_destroy(&cpu->lock);
    free(cpu);
}

static cn_code check_options(const cn_backend_options *o, cn_err *err)
{
    if (!cn_path_choose(o->path)) {
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "cpu.path: \"%s\"; this processor runs %s (of avx512-bf16, avx512, avx2, "
                          "portable)", o->path, cn_path_choose(NULL)->name);
    }
    if (o->thread_count > THREADS_MAX) {
        return cn_err_set(err, CN_E_INVALID, "cpu.threads: %u; must be 0 to %d", o->thread_count,
                          THREADS_MAX);
    }
    if (o->rank_count > CN_SHARDS_MAX || (o->rank_count & (o->rank_count - 1))) {
        return cn_err_set(err, CN_E_INVALID, "devices.tensor_parallel: %u; must be 1, 2, 4 or 8",
                          o->rank_count);
    }
    return CN_OK;
}

static cn_code cpu_open(const cn_backend_options *options, cn_backend **out, cn_err *err)
{
    *out = NULL;
    cn_code code = check_options(options, err);
    if (code != CN_OK) return code;
    cn_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return cn_err_set(err, CN_E_MEMORY, "cpu: no memory");
    cpu->base.ops = &cn_cpu_ops;
    cpu->path = cn_path_choose(options->path);
    cpu->wake = options->wake;
    cpu->rank_count = options->rank_count ? options->rank_count : 1;
    cpu->sliced = options->numerics != CN_NUMERICS_PER_RANK;
    pthread_mutex_init(&cpu->lock, NULL);
    pthread_cond_init(&cpu->work, NULL);
    code = cn_group_open(cpu, options->thread_count ? options->thread_count : usable_cores(), err);
    if (code != CN_OK) {
        cpu_close(&cpu->base);
        return code;
    }
    *out = &cpu->base;
    return CN_OK;
}

// ---- model and KV

static cn_code load_rank(cn_cpu_rank *rank, void *self, cn_err *err)
{
    return cn_weights_load(rank, self, err);
}

static uint64_t page_bytes(const cn_cpu *cpu, uint32_t kv_heads)
{
    const cn_cpu_model *m = &cpu->ranks[0].model;
    return 2ull * m->spec.layer_count * kv_heads * m->spec.head_dim * CN_PAGE_TOKENS *
           (m->kv_dtype == CN_DTYPE_BF16 ? 2 : 4);
}

static cn_code cpu_model_load(cn_backend *backend, const cn_model_spec *spec,
                              void (*progress)(void *self, uint64_t done, uint64_t total), void *self,
                              cn_err *err)
{
    cn_cpu *cpu = cpu_of(backend);
    cn_weights_loading loading = {.spec = spec, .progress = progress, .self = self,
                                  .total_bytes = cn_weights_bytes(spec)};
    CN_ASSERT(!cpu->spec.layer_count);
    if (spec->head_dim > CN_CPU_HEAD_DIM_MAX) {
        return cn_err_set(err, CN_E_UNSUPPORTED, "head_dim: %u; the cpu backend serves up to %d",
                          spec->head_dim, CN_CPU_HEAD_DIM_MAX);
    }
    cn_code code = cn_shard_check(spec, cpu->rank_count, err);
    if (code != CN_OK) return code;
    cpu->spec = *spec;
    for (uint32_t i = 0; i < cpu->rank_count; i++) {
        cpu->ranks[i].shard = cn_shard_of(spec, cpu->rank_count, i);
    }
    code = cn_group_prepare(cpu, load_rank, &loading, err);
    if (code != CN_OK) return code;
    cpu->page_bytes = page_bytes(cpu, spec->kv_head_count);
    for (uint32_t i = 0; i < cpu->rank_count; i++) {
        cpu->ranks[i].page_bytes = page_bytes(cpu, cpu->ranks[i].shard.kv_heads.count);
    }
    if (progress) progress(self, loading.total_bytes, loading.total_bytes);
    return CN_OK;
}

static uint64_t held_bytes(const cn_cpu *cpu)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < cpu->rank_count; i++) bytes += cpu->ranks[i].page_bytes;
    return bytes;
}

// The number of ranks decides bits only where sums are not cut alike for all of them.
static void cpu_kv_info(const cn_backend *backend, cn_kv_info *out)
{
    const cn_cpu *cpu = (const cn_cpu *)backend;
    const cn_cpu_model *m = &cpu->ranks[0].model;
    CN_ASSERT(m->loaded);
    *out = (cn_kv_info){.page_bytes = cpu->page_bytes, .page_held_bytes = held_bytes(cpu),
                        .layout_version = LAYOUT_VERSION};
    const int n = snprintf(out->numerics, sizeof out->numerics, "cpu/%s/%d/%s", cpu->path->name,
                           NUMERICS_VERSION, m->kv_dtype == CN_DTYPE_BF16 ? "bf16" : "f32");
    char *end = out->numerics + n;
    const size_t left = sizeof out->numerics - (size_t)n;
    if (cpu->sliced) snprintf(end, left, "/tree%d", CN_SLICES);
    else if (cpu->rank_count > 1) snprintf(end, left, "/tp%u", cpu->rank_count);
}

static cn_code open_scratch(cn_cpu_rank *rank, void *self, cn_err *err)
{
    (void)self;
    return cn_scratch_open(rank, err);
}

static cn_code cpu_kv_create(cn_backend *backend, const cn_kv_options *options, cn_err *err)
{
    cn_cpu *cpu = cpu_of(backend);
    CN_ASSERT(!cpu->device_started);
    cpu->kv = *options;
    cpu->pages_per_slot = (options->context_tokens_max + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    cn_code code = cn_group_prepare(cpu, open_scratch, NULL, err);
    if (code == CN_OK) code = cn_group_start(cpu, err);
    if (code != CN_OK) return code;
    const int failure = pthread_create(&cpu->ranks[0].thread, NULL, run_device, cpu);
    if (failure != 0) {
        return cn_err_set(err, CN_E_IO, "cpu: the device thread cannot be started: %s", strerror(failure));
    }
    cpu->ranks[0].started = cpu->device_started = true;
    return CN_OK;
}

// ---- steps

static void copy_ids(int32_t *to, const int32_t *from, uint32_t count)
{
    if (count) memcpy(to, from, count * sizeof *to);
}

static void fill_settings(const cn_cpu *cpu, cn_cpu_settings *to, const cn_slot_open *open)
{
    const cn_sampling *from = open->sampling;
    CN_ASSERT(from->bias_count <= CN_BIAS_MAX && from->ban_count <= CN_BAN_MAX);
    to->sampling = *from;
    copy_ids(to->bias_ids, from->bias_ids, from->bias_count);
    copy_ids(to->ban_ids, from->ban_ids, from->ban_count);
    if (from->bias_count) memcpy(to->bias_values, from->bias_values, from->bias_count * sizeof(float));
    to->sampling.bias_ids = to->bias_ids;
    to->sampling.bias_values = to->bias_values;
    to->sampling.ban_ids = to->ban_ids;
    const bool remembers = from->repetition_penalty != 1.0f || from->presence_penalty != 0.0f ||
                           from->frequency_penalty != 0.0f;
    to->prompt_count = to->history_count = 0;
    if (!remembers) return;
    CN_ASSERT((uint64_t)open->prompt_count + open->output_count <= cpu->kv.context_tokens_max);
    copy_ids(to->history, open->prompt, open->prompt_count);
    copy_ids(to->history + open->prompt_count, open->output, open->output_count);
    to->prompt_count = open->prompt_count;
    to->history_count = open->prompt_count + open->output_count;
}

static void copy_seqs(const cn_cpu *cpu, cn_cpu_step *to, const cn_step *step)
{
    uint32_t row = 0, output_count = 0;
    for (uint32_t i = 0; i < step->seq_count; i++) {
        const cn_step_seq *seq = &step->seqs[i];
        CN_ASSERT(seq->slot.v < cpu->kv.slot_count && seq->token_count > 0);
        CN_ASSERT((uint64_t)seq->context_count + seq->token_count <= cpu->kv.context_tokens_max);
        CN_ASSERT((uint64_t)row + seq->token_count <= step->token_count);
        to->seqs[i] = *seq;
        for (uint32_t j = 0; j < seq->token_count; j++, row++) {
            const int32_t token = step->tokens[row];
            CN_ASSERT(token == CN_TOKEN_LAST ||
                      (token >= 0 && (uint32_t)token < cpu->spec.vocab_count));
            to->tokens[row] = token;
            to->targets[row] = seq->targets ? seq->targets[j] : -1;
            CN_ASSERT(to->targets[row] < (int32_t)cpu->spec.vocab_count);
            output_count += to->targets[row] >= 0;
        }
        output_count += seq->sample;
    }
    CN_ASSERT(row == step->token_count);
    CN_ASSERT(output_count <= cpu->kv.step_outputs_max);
}

static cn_code cpu_step_submit(cn_backend *backend, const cn_step *step, cn_ticket *out)
{
    cn_cpu *cpu = cpu_of(backend);
    if (cpu->submitted - cpu->reported == CN_CPU_STEPS_IN_FLIGHT) return CN_E_AGAIN;
    const cn_ticket ticket = cpu->submitted + 1;
    cn_cpu_step *to = &cpu->steps[ticket % CN_CPU_STEPS];
    CN_ASSERT(step->seq_count > 0 && step->seq_count <= cpu->kv.slot_count);
    CN_ASSERT(step->token_count <= cpu->kv.step_tokens_max);
    CN_ASSERT(step->open_count <= cpu->kv.slot_count && step->copy_count <= cpu->kv.slot_count);
    CN_ASSERT(step->delta_count <= cpu->kv.step_deltas_max);
    to->step = *step;
    to->ticket = ticket;
    for (uint32_t i = 0; i < step->open_count; i++) {
        CN_ASSERT(step->opens[i].slot.v < cpu->kv.slot_count);
        cn_cpu_slot *slot = &cpu->slots[step->opens[i].slot.v];
        slot->filled ^= 1;
        fill_settings(cpu, &slot->settings[slot->filled], &step->opens[i]);
        to->opens[i] = (cn_cpu_open){step->opens[i].slot.v, slot->filled};
    }
    for (uint32_t i = 0; i < step->delta_count; i++) {
        CN_ASSERT(step->deltas[i].slot.v < cpu->kv.slot_count);
        CN_ASSERT(step->deltas[i].index < cpu->pages_per_slot);
        CN_ASSERT(step->deltas[i].page.v < cpu->kv.page_count);
        to->deltas[i] = step->deltas[i];
    }
    for (uint32_t i = 0; i < step->copy_count; i++) {
        CN_ASSERT(step->copies[i].from.v < cpu->kv.page_count);
        CN_ASSERT(step->copies[i].to.v < cpu->kv.page_count);
        to->copies[i] = step->copies[i];
    }
    copy_seqs(cpu, to, step);
    pthread_mutex_lock(&cpu->lock);
    cpu->device_submitted = ticket;
    pthread_cond_signal(&cpu->work);
    pthread_mutex_unlock(&cpu->lock);
    *out = cpu->submitted = ticket;
    return CN_OK;
}

static bool cpu_step_poll(cn_backend *backend, cn_step_result *out)
{
    cn_cpu *cpu = cpu_of(backend);
    if (atomic_load_explicit(&cpu->finished, memory_order_acquire) == cpu->reported) return false;
    const cn_cpu_step *step = &cpu->steps[++cpu->reported % CN_CPU_STEPS];
    *out = (cn_step_result){.ticket = step->ticket, .code = step->code, .outputs = step->outputs,
                            .output_count = step->output_count, .busy_ns = step->busy_ns};
    return true;
}

// ---- pages

static cn_code cpu_page_io(cn_backend *backend, const cn_page_io *ops, uint32_t count, cn_ticket *out)
{
    cn_cpu *cpu = cpu_of(backend);
    CN_ASSERT(count <= cpu->kv.page_count);
    if (atomic_load_explicit(&cpu->io_finished, memory_order_acquire) != cpu->io_ticket) return CN_E_AGAIN;
    for (uint32_t i = 0; i < count; i++) {
        CN_ASSERT(ops[i].page.v < cpu->kv.page_count);
        cpu->io[i] = ops[i];
    }
    cpu->io_count = count;
    *out = ++cpu->io_ticket;
    pthread_mutex_lock(&cpu->lock);
    cpu->device_io = cpu->io_ticket;
    cpu->device_io_after = cpu->submitted;
    pthread_cond_signal(&cpu->work);
    pthread_mutex_unlock(&cpu->lock);
    return CN_OK;
}

static bool cpu_page_io_done(cn_backend *backend, cn_ticket ticket)
{
    return atomic_load_explicit(&cpu_of(backend)->io_finished, memory_order_acquire) >= ticket;
}

static void cpu_stats(const cn_backend *backend, cn_backend_stats *out)
{
    const cn_cpu *cpu = (const cn_cpu *)backend;
    *out = (cn_backend_stats){
        .steps = atomic_load_explicit(&cpu->stat_steps, memory_order_relaxed),
        .tokens = atomic_load_explicit(&cpu->stat_tokens, memory_order_relaxed),
        .busy_ns = atomic_load_explicit(&cpu->stat_busy_ns, memory_order_relaxed),
        .kv_bytes = cpu->kv.page_count * held_bytes(cpu),
    };
    for (uint32_t i = 0; i < cpu->rank_count; i++) {
        out->weight_bytes += cpu->ranks[i].model.weight_bytes;
        out->scratch_bytes += cpu->ranks[i].scratch.bytes;
    }
}

const cn_backend_ops cn_cpu_ops = {
    .name = "cpu",
    .probe = cpu_probe,
    .open = cpu_open,
    .close = cpu_close,
    .model_load = cpu_model_load,
    .kv_info = cpu_kv_info,
    .kv_create = cpu_kv_create,
    .step_submit = cpu_step_submit,
    .step_poll = cpu_step_poll,
    .page_io = cpu_page_io,
    .page_io_done = cpu_page_io_done,
    .stats = cpu_stats,
};
