/* bench/kernels.c: how near the CPU backend comes to what the machine can do.
 * Measures the floors (bytes per second that all threads read, products per second of the instructions
 * that the paths use), then whole steps of two model shapes with random weights, and prints each
 * beside its floor. --floors stops after the floors, --json prints them as JSON; --ranks and --numerics are
 * those of devices.tensor_parallel and numerics. */
#include <immintrin.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "kernels/cpu/cpu.h"

enum { READ_BYTES = 1 << 30, ROUNDS = 5, PEAK_ROUNDS = 20000000, THREADS_MAX = 64 };

static double now_s(void)
{
    const cn_clock clock = cn_clock_system();
    return (double)cn_clock_now_ns(&clock) / 1e9;
}

// ---- floors

typedef struct part {
    const uint64_t *data;
    size_t count;
    double result;
    void (*run)(struct part *p);
} part;

static void sum_part(part *p)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < p->count; i += 32) {      // a line of each of four streams
        a += p->data[i];
        b += p->data[i + 8];
        c += p->data[i + 16];
        d += p->data[i + 24];
    }
    p->result = (double)(a + b + c + d);
}

#define PEAK(name, isa, type, zero, step)                                                          \
    __attribute__((target(isa))) static void name(part *p)                                         \
    {                                                                                              \
        type x0 = zero, x1 = zero, x2 = zero, x3 = zero, x4 = zero, x5 = zero, x6 = zero, x7 = zero; \
        type x8 = zero, x9 = zero, xa = zero, xb = zero;                                           \
        for (int i = 0; i < PEAK_ROUNDS; i++) {                                                    \
            step(x0); step(x1); step(x2); step(x3); step(x4); step(x5);                            \
            step(x6); step(x7); step(x8); step(x9); step(xa); step(xb);                            \
            __asm__ volatile("" : "+v"(x0), "+v"(x1), "+v"(x2), "+v"(x3), "+v"(x4), "+v"(x5),      \
                             "+v"(x6), "+v"(x7), "+v"(x8), "+v"(x9), "+v"(xa), "+v"(xb));          \
        }                                                                                          \
        p->result = (double)PEAK_ROUNDS * 12;                                                      \
    }
#define FMA512(x) x = _mm512_fmadd_ps(_mm512_set1_ps(1.0f), _mm512_set1_ps(0.5f), x)
#define FMA256(x) x = _mm256_fmadd_ps(_mm256_set1_ps(1.0f), _mm256_set1_ps(0.5f), x)
#define DOT512(x)                                                                                  \
    x = _mm512_dpbf16_ps(x, (__m512bh)_mm512_set1_epi32(0x3F803F80), (__m512bh)_mm512_set1_epi32(0x3F803F80))
PEAK(fma512, "avx512f", __m512, _mm512_setzero_ps(), FMA512)
PEAK(fma256, "avx2,fma", __m256, _mm256_setzero_ps(), FMA256)
PEAK(dot512, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), DOT512)

static void *run_part(void *argument)
{
    part *p = argument;
    p->run(p);
    return NULL;
}

// Seconds of the fastest of some rounds on all threads.
static double fastest(void (*run)(part *p), const uint64_t *data, uint32_t threads, double *result)
{
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t ids[THREADS_MAX];
        part parts[THREADS_MAX];
        const size_t count = READ_BYTES / sizeof *data / threads / 32 * 32;
        const double start = now_s();
        for (uint32_t i = 0; i < threads; i++) {
            parts[i] = (part){data + i * count, data ? count : 0, 0, run};
            pthread_create(&ids[i], NULL, run_part, &parts[i]);
        }
        *result = 0;
        for (uint32_t i = 0; i < threads; i++) {
            pthread_join(ids[i], NULL);
            *result += parts[i].result;
        }
        const double seconds = now_s() - start;
        if (seconds < best) best = seconds;
    }
    return best;
}

static double peak_gflops(void (*run)(part *p), uint32_t threads, double flops_per_step)
{
    double steps;
    const double seconds = fastest(run, NULL, threads, &steps);
    return steps * flops_per_step / seconds / 1e9;
}

typedef struct floors {
    double read_gb, fma_gflops, dot_gflops;
} floors;

static floors measure_floors(uint32_t threads)
{
    floors f = {0};
    double sum;
    uint64_t *data = aligned_alloc(2 << 20, READ_BYTES);
    if (!data) exit(1);
    memset(data, 1, READ_BYTES);
    f.read_gb = READ_BYTES / fastest(sum_part, data, threads, &sum) / 1e9;
    free(data);
    if (__builtin_cpu_supports("avx512f")) f.fma_gflops = peak_gflops(fma512, threads, 32);
    else if (__builtin_cpu_supports("avx2")) f.fma_gflops = peak_gflops(fma256, threads, 16);
    if (__builtin_cpu_supports("avx512bf16")) f.dot_gflops = peak_gflops(dot512, threads, 64);
    return f;
}

// ---- a model with random weights

typedef struct shape {
    const char *name;
    uint32_t layers, dim, heads, kv_heads, head_dim, mlp, vocab;
    bool qk_norm;
} shape;

static const shape shapes[] = {
    {"tiny, 5M", 6, 256, 4, 4, 64, 704, 1024, false},
    {"0.6B", 28, 1024, 16, 8, 128, 3072, 151936, true},
};

static cn_tensor random_tensor(uint64_t rows, uint64_t cols, uint64_t *rng)
{
    const cn_random random = cn_random_seeded(rng);
    uint16_t *data = malloc(rows * cols * sizeof *data);
    if (!data) exit(1);
    cn_random_fill(&random, data, rows * cols * sizeof *data);
    // Sign and mantissa as they come, exponents of 0.004 to 0.03.
    for (uint64_t i = 0; i < rows * cols; i++) data[i] = (data[i] & 0x81FF) | 0x3C00;
    return (cn_tensor){data, rows, cols, CN_DTYPE_BF16};
}

static double matrix_parameters(const shape *s)
{
    const double per_layer = (double)s->dim * (s->heads + 2 * s->kv_heads) * s->head_dim +
                             (double)s->dim * s->heads * s->head_dim + 3.0 * s->dim * s->mlp;
    return per_layer * s->layers;
}

static void load_model(cn_backend *backend, const shape *s)
{
    uint64_t rng = 1;
    float inv_freq[128];
    cn_layer_weights *layers = calloc(s->layers, sizeof *layers);
    if (!layers) exit(1);
    for (uint32_t i = 0; i < s->head_dim / 2; i++) inv_freq[i] = 1.0f / (float)(i + 1);
    // One layer's weights serve for all: packing copies them.
    cn_layer_weights one = {
        .attn_norm = random_tensor(1, s->dim, &rng), .mlp_norm = random_tensor(1, s->dim, &rng),
        .q = random_tensor((uint64_t)s->heads * s->head_dim, s->dim, &rng),
        .k = random_tensor((uint64_t)s->kv_heads * s->head_dim, s->dim, &rng),
        .v = random_tensor((uint64_t)s->kv_heads * s->head_dim, s->dim, &rng),
        .o = random_tensor(s->dim, (uint64_t)s->heads * s->head_dim, &rng),
        .gate = random_tensor(s->mlp, s->dim, &rng), .up = random_tensor(s->mlp, s->dim, &rng),
        .down = random_tensor(s->dim, s->mlp, &rng),
    };
    if (s->qk_norm) one.q_norm = one.k_norm = random_tensor(1, s->head_dim, &rng);
    for (uint32_t i = 0; i < s->layers; i++) layers[i] = one;
    const cn_tensor embed = random_tensor(s->vocab, s->dim, &rng);
    const cn_model_spec spec = {
        .layer_count = s->layers, .dim = s->dim, .head_count = s->heads, .kv_head_count = s->kv_heads,
        .head_dim = s->head_dim, .mlp_dim = s->mlp, .vocab_count = s->vocab, .context_tokens_max = 4096,
        .norm_eps = 1e-6f, .rope_inv_freq = inv_freq, .rope_magnitude = 1, .embed = embed,
        .final_norm = one.attn_norm, .head = embed, .layers = layers,
    };
    cn_err err;
    if (backend->ops->model_load(backend, &spec, NULL, NULL, &err) != CN_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        exit(1);
    }
    const cn_tensor *all[] = {&one.attn_norm, &one.mlp_norm, &one.q, &one.k, &one.v, &one.o, &one.gate,
                              &one.up, &one.down, &one.q_norm, &embed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void *)all[i]->data);
    free(layers);
}

// ---- steps

enum { SEQUENCES = 32, PAGES_EACH = 64, STEP_TOKENS = 512 };

// Runs one step and returns the device's seconds.
static double run_step(cn_backend *backend, const cn_step *step)
{
    cn_ticket ticket;
    cn_step_result result;
    if (backend->ops->step_submit(backend, step, &ticket) != CN_OK) exit(1);
    while (!backend->ops->step_poll(backend, &result)) usleep(20);
    return (double)result.busy_ns / 1e9;
}

// `sequences` sequences of `tokens` tokens each behind `context` others; best of some rounds.
static double time_step(cn_backend *backend, uint32_t sequences, uint32_t tokens, uint32_t context, int rounds)
{
    static cn_page_delta deltas[SEQUENCES * PAGES_EACH];
    static cn_slot_open opens[SEQUENCES];
    static cn_step_seq seqs[SEQUENCES];
    static int32_t ids[STEP_TOKENS];
    static const cn_sampling greedy = {.top_p = 1, .repetition_penalty = 1};
    cn_step step = {.opens = opens, .deltas = deltas, .seqs = seqs, .tokens = ids,
                    .open_count = sequences, .seq_count = sequences, .token_count = sequences * tokens};
    double best = 1e9;
    for (uint32_t i = 0; i < sequences; i++) {
        opens[i] = (cn_slot_open){.slot = {i}, .sampling = &greedy};
        seqs[i] = (cn_step_seq){.slot = {i}, .context_count = context, .token_count = tokens, .sample = true};
        for (uint32_t p = 0; p < PAGES_EACH; p++) {
            deltas[step.delta_count++] = (cn_page_delta){{i}, p, {i * PAGES_EACH + p}};
        }
    }
    for (uint32_t i = 0; i < step.token_count; i++) ids[i] = (int32_t)(i * 7 % 1000);
    for (int round = 0; round < rounds; round++) {
        const double seconds = run_step(backend, &step);
        if (seconds < best) best = seconds;
        step.open_count = step.delta_count = 0;
    }
    return best;
}

static void bench_shape(const shape *s, const cn_backend_options *options, const floors *f)
{
    cn_backend *backend;
    cn_backend_stats stats;
    cn_err err;
    const cn_kv_options kv = {SEQUENCES * PAGES_EACH, SEQUENCES, PAGES_EACH * CN_PAGE_TOKENS, STEP_TOKENS,
                              STEP_TOKENS + SEQUENCES, SEQUENCES * PAGES_EACH};
    if (cn_cpu_ops.open(options, &backend, &err) != CN_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        exit(1);
    }
    load_model(backend, s);
    if (backend->ops->kv_create(backend, &kv, &err) != CN_OK) exit(1);
    backend->ops->stats(backend, &stats);
    const double parameters = matrix_parameters(s), head = (double)s->vocab * s->dim;
    const int rounds = s->layers > 10 ? 4 : 200;
    static const uint32_t decodes[] = {1, 8, 32};
    for (int i = 0; i < 3; i++) {
        const uint32_t n = decodes[i];
        const double t = time_step(backend, n, 1, 128, rounds);
        printf("%-9s decode of %2u  %9.3f ms  %8.1f tok/s  weights %5.1f GB/s (%3.0f %% of reading)  %6.1f GFLOP/s\n",
               s->name, n, t * 1e3, n / t, (double)stats.weight_bytes / t / 1e9,
               (double)stats.weight_bytes / t / 1e7 / f->read_gb, 2 * (parameters + head) * n / t / 1e9);
    }
    const double t = time_step(backend, 1, STEP_TOKENS, 0, s->layers > 10 ? 3 : 20);
    const double rate = 2 * parameters * STEP_TOKENS / t / 1e9;
    printf("%-9s prefill of %d %8.3f ms  %8.1f tok/s  %6.1f GFLOP/s (%3.0f %% of fma, %3.0f %% of dot)\n",
           s->name, STEP_TOKENS, t * 1e3, STEP_TOKENS / t, rate, 100 * rate / f->fma_gflops,
           f->dot_gflops > 0 ? 100 * rate / f->dot_gflops : 0.0);
    backend->ops->close(backend);
}

int main(int argc, char **argv)
{
    bool json = false, only_floors = false;
    cn_backend_options options = {.numerics = CN_NUMERICS_DEFAULT};
    uint32_t threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) json = true;
        else if (strcmp(argv[i], "--floors") == 0) only_floors = true;
        else if (strcmp(argv[i], "--path") == 0 && i + 1 < argc) options.path = argv[++i];
        else if (strcmp(argv[i], "--ranks") == 0 && i + 1 < argc) options.rank_count = (uint32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "--numerics") == 0 && i + 1 < argc) {
            const bool sliced = strcmp(argv[++i], "shard_invariant") == 0;
            options.numerics = sliced ? CN_NUMERICS_SHARD_INVARIANT : CN_NUMERICS_PER_RANK;
        }
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) threads = (uint32_t)atoi(argv[++i]);
        else {
            fprintf(stderr, "usage: bench_kernels [--floors] [--json] [--path NAME] [--threads N] [--ranks N] "
                            "[--numerics shard_invariant|per_rank]\n");
            return 2;
        }
    }
    if (threads == 0 || threads > THREADS_MAX) threads = 1;
    options.thread_count = threads;
    const floors f = measure_floors(threads);
    if (json) {
        printf("{\"threads\":%u,\"read_gb_per_s\":%.2f,\"fma_gflops\":%.1f,\"dot_gflops\":%.1f}\n", threads,
               f.read_gb, f.fma_gflops, f.dot_gflops);
    } else {
        printf("floors, %u threads: read %.1f GB/s, fma %.0f GFLOP/s, bf16 dot %.0f GFLOP/s\n", threads,
               f.read_gb, f.fma_gflops, f.dot_gflops);
    }
    for (size_t i = 0; !only_floors && i < sizeof shapes / sizeof *shapes; i++) {
        bench_shape(&shapes[i], &options, &f);
    }
    return 0;
}
