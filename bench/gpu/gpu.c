/* bench/gpu/gpu.c: what the kernels of the GPU and the backend around them reach, beside what the device can do.
 * One part per call (ceilings, attention, gemm, step), one line of JSON per figure: the time, the time of the
 * floor (bytes at the measured copy bandwidth, or operations at the rate that GPU_TFLOPS gives) and their ratio. Compiled
 * twice: for a GPU, and for the emulator with tiny shapes, where only the program itself is tried; its lines
 * then say "gpu":false. bench/gpu/run calls it. */
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/kernels_int.h"

#if defined(CN_EMU)
enum { IS_GPU = 0, LAUNCHES = 2, ROUNDS = 1, STEPS = 3 };
#define COLD_BYTES (1ull << 16)
#define CEILING_BYTES (1ull << 20)
#else
enum { IS_GPU = 1, LAUNCHES = 24, ROUNDS = 5, STEPS = 48 };
#define COLD_BYTES (512ull << 20)        // what launches in a row go through: ten times the second cache
#define CEILING_BYTES (2ull << 30)
#endif
enum { BLOCKS_MAX = 32, PATTERN_BYTES = 1 << 16 };

static double copy_rate;                 // bytes per second, read and written
static double product_rate;              // operations per second that the floor of products counts with
static cudaStream_t stream;
static void *blocks[BLOCKS_MAX];
static uint32_t block_count;

static double now_s(void)
{
    const cn_clock clock = cn_clock_system();
    return (double)cn_clock_now_ns(&clock) / 1e9;
}

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return;
    fprintf(stderr, "bench_gpu: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

static uint32_t next_random(void)
{
    static uint64_t state = 0x9E3779B97F4A7C15ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

// Sign and mantissa as they come, exponents of 0.004 to 0.03.
static uint16_t random_half(void) { return (uint16_t)((next_random() & 0x81FF) | 0x3C00); }

// ---- memory

static void *take(uint64_t bytes)
{
    if (block_count == BLOCKS_MAX) abort();
    must(cudaMalloc(&blocks[block_count], bytes), "device memory");
    return blocks[block_count++];
}

/* Random numbers: on zeros, products run faster than they are. */
static void *take_random(uint64_t bytes)
{
    static uint16_t pattern[PATTERN_BYTES / 2];
    for (size_t i = 0; i < sizeof pattern / sizeof *pattern; i++) pattern[i] = random_half();
    unsigned char *memory = take(bytes);
    uint64_t done = bytes < PATTERN_BYTES ? bytes : PATTERN_BYTES;
    must(cudaMemcpy(memory, pattern, done, cudaMemcpyHostToDevice), "filling");
    while (done < bytes) {
        const uint64_t more = bytes - done < done ? bytes - done : done;
        must(cudaMemcpyAsync(memory + done, memory, more, cudaMemcpyDeviceToDevice, stream), "filling");
        done += more;
    }
    must(cudaStreamSynchronize(stream), "filling");
    return memory;
}

static void *take_copy(const void *from, uint64_t bytes)
{
    void *memory = take(bytes);
    must(cudaMemcpy(memory, from, bytes, cudaMemcpyHostToDevice), "copying");
    return memory;
}

static void drop_all(void)
{
    while (block_count > 0) must(cudaFree(blocks[--block_count]), "freeing");
}

// ---- time

typedef cudaError_t (*queue_fn)(void *self, uint32_t index);

/* Seconds of one launch: the fastest of some graphs of LAUNCHES in a row, so that the host is not in it. */
static double time_launches(queue_fn queue, void *self)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    double best = INFINITY;
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (uint32_t i = 0; i < LAUNCHES; i++) must(queue(self, i), "launch");
    must(cudaStreamEndCapture(stream, &graph), "capture");
    must(cudaGraphInstantiate(&exec, graph, 0), "graph");
    for (int round = 0; round <= ROUNDS; round++) {      // the first one warms up
        const double start = now_s();
        must(cudaGraphLaunch(exec, stream), "graph");
        must(cudaStreamSynchronize(stream), "kernel");
        const double seconds = (now_s() - start) / LAUNCHES;
        if (round > 0 && seconds < best) best = seconds;
    }
    must(cudaGraphExecDestroy(exec), "graph");
    must(cudaGraphDestroy(graph), "graph");
    return best;
}

/* One figure; floor_s is 0 where there is none. */
static void report(const char *part, const char *what, double seconds, double floor_s, double rate, const char *unit)
{
    printf("{\"part\":\"%s\",\"what\":\"%s\",\"gpu\":%s,\"us\":%.2f,\"floor_us\":%.2f,\"share\":%.3f,"
           "\"rate\":%.4g,\"unit\":\"%s\"}\n",
           part, what, IS_GPU ? "true" : "false", seconds * 1e6, floor_s * 1e6, floor_s / seconds, rate, unit);
    fflush(stdout);
}

// ---- ceilings

typedef struct copying {
    void *to, *from;
    uint64_t bytes;
    enum cudaMemcpyKind kind;
} copying;

static cudaError_t queue_copy(void *self, uint32_t index)
{
    const copying *c = self;
    (void)index;
    return cudaMemcpyAsync(c->to, c->from, c->bytes, c->kind, stream);
}

static void measure_copy(void)
{
    copying c = {take(CEILING_BYTES), take_random(CEILING_BYTES), CEILING_BYTES, cudaMemcpyDeviceToDevice};
    copy_rate = 2.0 * (double)c.bytes / time_launches(queue_copy, &c);
    drop_all();
}

static void part_ceilings(void)
{
    const uint64_t bytes = CEILING_BYTES / 8;
    report("ceilings", "copy on the device", 2.0 * (double)CEILING_BYTES / copy_rate, 0, copy_rate / 1e9, "GB/s");
    void *pinned;
    must(cudaHostAlloc(&pinned, bytes, cudaHostAllocDefault), "pinned memory");
    memset(pinned, 1, bytes);
    copying up = {take(bytes), pinned, bytes, cudaMemcpyHostToDevice};
    copying down = {pinned, up.to, bytes, cudaMemcpyDeviceToHost};
    const double up_s = time_launches(queue_copy, &up), down_s = time_launches(queue_copy, &down);
    report("ceilings", "host to device, pinned", up_s, 0, (double)bytes / up_s / 1e9, "GB/s");
    report("ceilings", "device to host, pinned", down_s, 0, (double)bytes / down_s / 1e9, "GB/s");
    must(cudaFreeHost(pinned), "pinned memory");
    drop_all();
}

// ---- attention

typedef struct attention_run {
    const cn_cuda_step *step;
    cn_cuda_attention attention;
    uint64_t layer_bytes;
    uint32_t rows, items, tiles, layers;
} attention_run;

static cudaError_t queue_attention(void *self, uint32_t index)
{
    attention_run *run = self;
    run->attention.layer_offset = index % run->layers * run->layer_bytes;
    if (run->tiles) return CN_CUDA(prefill_launch)(run->step, run->tiles, &run->attention, stream);
    const cudaError_t error = CN_CUDA(decode_launch)(run->step, run->items, &run->attention, stream);
    return error != cudaSuccess ? error : CN_CUDA(merge_launch)(run->step, run->rows, &run->attention, stream);
}

/* The step of `batch` sequences that decode at the end of `context`, or of one that brings all of it. */
static void write_attention_step(attention_run *run, uint32_t batch, uint32_t context, bool prefills)
{
    const uint32_t splits = (context + CN_SPLIT_TOKENS - 1) / CN_SPLIT_TOKENS;
    const uint32_t group = run->attention.head_count / run->attention.kv_head_count;
    const uint32_t pairs = context * group;
    run->rows = prefills ? context : batch;
    run->items = prefills ? 0 : batch * splits;
    run->tiles = prefills ? (pairs + CN_CUDA_TILE_PAIRS - 1) / CN_CUDA_TILE_PAIRS : 0;
    cn_cuda_step head = {.row_count = run->rows, .item_count = run->items, .tile_count = run->tiles, .rows_at = sizeof head};
    head.items_at = head.rows_at + run->rows * (uint32_t)sizeof(cn_cuda_row);
    head.tiles_at = head.items_at + run->items * (uint32_t)sizeof(cn_cuda_item);
    head.bytes = head.tiles_at + run->tiles * (uint32_t)sizeof(cn_cuda_tile);
    unsigned char *bytes = calloc(1, head.bytes);
    if (!bytes) abort();
    memcpy(bytes, &head, sizeof head);
    cn_cuda_row *rows = (cn_cuda_row *)(bytes + head.rows_at);
    cn_cuda_item *items = (cn_cuda_item *)(bytes + head.items_at);
    cn_cuda_tile *tiles = (cn_cuda_tile *)(bytes + head.tiles_at);
    for (uint32_t i = 0; i < run->rows; i++) {
        rows[i] = prefills ? (cn_cuda_row){0, i, 0, CN_CUDA_NO_ITEM, 0}
                           : (cn_cuda_row){i, context - 1, 0, i * splits, splits};
    }
    for (uint32_t i = 0; i < run->items; i++) items[i] = (cn_cuda_item){i / splits, i % splits};
    for (uint32_t i = 0; i < run->tiles; i++) {
        const uint32_t begin = i * CN_CUDA_TILE_PAIRS, left = pairs - begin;
        tiles[i] = (cn_cuda_tile){0, begin, left < CN_CUDA_TILE_PAIRS ? left : CN_CUDA_TILE_PAIRS};
    }
    run->step = take_copy(bytes, head.bytes);
    free(bytes);
}

// Pages in random order, as a server has them after a day.
static uint32_t *take_tables(uint32_t pages)
{
    uint32_t *table = malloc(pages * sizeof *table);
    if (!table) abort();
    for (uint32_t i = 0; i < pages; i++) table[i] = i;
    for (uint32_t i = pages - 1; i > 0; i--) {
        const uint32_t j = next_random() % (i + 1), swap = table[i];
        table[i] = table[j];
        table[j] = swap;
    }
    uint32_t *memory = take_copy(table, pages * sizeof *table);
    free(table);
    return memory;
}

static void bench_attention(uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t batch, uint32_t context, bool prefills)
{
    const uint32_t pages_each = (context + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    const uint64_t layer_bytes = 4ull * kv_heads * dim * CN_PAGE_TOKENS, layer_pool = layer_bytes * pages_each * batch;
    attention_run run = {.layer_bytes = layer_bytes, .layers = layer_pool >= COLD_BYTES ? 1 : 1 + (uint32_t)(COLD_BYTES / layer_pool)};
    if (run.layers > LAUNCHES) run.layers = LAUNCHES;
    run.attention = (cn_cuda_attention){
        .pages = take_random(layer_pool * run.layers), .tables = take_tables(pages_each * batch),
        .page_bytes = layer_bytes * run.layers, .out_stride = heads * dim, .pages_per_slot = pages_each,
        .head_count = heads, .kv_head_count = kv_heads, .head_dim = dim,
        .scale = (float)(1.4426950408889634 / sqrt((double)dim))};
    write_attention_step(&run, batch, context, prefills);
    const uint64_t row_bytes = 2ull * heads * dim;
    run.attention.q = take_random(run.rows * row_bytes);
    run.attention.out = take(run.rows * row_bytes);
    run.attention.partials = take(4ull * (run.items + 1) * heads * (dim + 2));
    const double seconds = time_launches(queue_attention, &run);
    char what[96];
    snprintf(what, sizeof what, "%s %u x %u, %u/%u heads of %u", prefills ? "prefill" : "decode", batch, context, heads, kv_heads, dim);
    const double bytes = 4.0 * kv_heads * dim * context * batch;
    const double operations = 4.0 * heads * dim * ((double)context * (context + 1) / 2);
    if (prefills) report("attention", what, seconds, operations / product_rate, operations / seconds / 1e12, "TFLOP/s");
    else report("attention", what, seconds, bytes / copy_rate, bytes / seconds / 1e9, "GB/s");
    drop_all();
}

static void part_attention(void)
{
#if defined(CN_EMU)
    bench_attention(4, 2, 64, 2, 300, false);
    bench_attention(4, 2, 64, 1, 70, true);
#else
    static const struct { uint32_t batch, context; } decodes[] = {
        {64, 4096}, {1, 512}, {1, 4096}, {1, 32768}, {8, 4096}, {8, 32768}, {64, 512}, {64, 32768}, {256, 512}, {256, 4096}};
    for (size_t i = 0; i < sizeof decodes / sizeof *decodes; i++) {
        bench_attention(32, 8, 128, decodes[i].batch, decodes[i].context, false);
        if (i == 0) bench_attention(32, 8, 128, 1, 8192, true);
    }
    bench_attention(16, 8, 128, 64, 4096, false);
    bench_attention(32, 8, 128, 1, 2048, true);
#endif
}

// ---- products

typedef struct product_run {
    cn_cuda_product product;
    unsigned char *weights;
    uint64_t bytes;
    uint32_t copies;
} product_run;

static cudaError_t queue_product(void *self, uint32_t index)
{
    product_run *run = self;
    run->product.w = run->weights + index % run->copies * run->bytes;
    return CN_CUDA(gemm_launch)(&run->product, stream);
}

static void bench_product(uint32_t rows, uint32_t in, uint32_t out, cn_cuda_epilogue epilogue)
{
    product_run run = {.bytes = 2ull * in * out};
    run.copies = 1 + (uint32_t)(COLD_BYTES / run.bytes);
    if (run.copies > LAUNCHES) run.copies = LAUNCHES;
    run.weights = take_random(run.bytes * run.copies);
    run.product = (cn_cuda_product){
        .a = take_random((rows + 128ull) * in * 2), .c = take_random((uint64_t)rows * out * 4),
        .row_count = take_copy(&rows, sizeof rows), .row_max = rows, .in = in, .out = out,
        .c_stride = epilogue == CN_CUDA_SWIGLU ? out / 2 : out, .epilogue = epilogue};
    const double seconds = time_launches(queue_product, &run), operations = 2.0 * rows * in * out;
    const double by_bytes = (double)run.bytes / copy_rate, by_operations = operations / product_rate;
    char what[96];
    snprintf(what, sizeof what, "%u rows, %u to %u%s", rows, in, out, epilogue == CN_CUDA_SWIGLU ? ", swiglu" : "");
    if (by_bytes >= by_operations) report("gemm", what, seconds, by_bytes, (double)run.bytes / seconds / 1e9, "GB/s");
    else report("gemm", what, seconds, by_operations, operations / seconds / 1e12, "TFLOP/s");
    drop_all();
}

static void part_gemm(void)
{
#if defined(CN_EMU)
    static const struct { uint32_t in, out; cn_cuda_epilogue epilogue; } shapes[] = {{64, 64, CN_CUDA_STORE}, {96, 64, CN_CUDA_SWIGLU}};
    static const uint32_t rows[] = {1, 9, 33};
#else
    static const struct { uint32_t in, out; cn_cuda_epilogue epilogue; } shapes[] = {
        {4096, 6144, CN_CUDA_STORE}, {4096, 4096, CN_CUDA_ADD}, {4096, 28672, CN_CUDA_SWIGLU}, {14336, 4096, CN_CUDA_ADD},
        {4096, 128256, CN_CUDA_STORE}, {1024, 6144, CN_CUDA_SWIGLU}};
    static const uint32_t rows[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 2048};
#endif
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) bench_product(rows[j], shapes[i].in, shapes[i].out, shapes[i].epilogue);
    }
}

// ---- whole steps

typedef struct shape {
    const char *name;
    uint32_t layers, dim, heads, kv_heads, head_dim, mlp, vocab;
    bool qk_norm, tied;
} shape;

static cn_tensor random_tensor(uint64_t rows, uint64_t cols)
{
    uint16_t *data = malloc(rows * cols * sizeof *data);
    if (!data) abort();
    for (uint64_t i = 0; i < rows * cols; i++) data[i] = random_half();
    return (cn_tensor){data, rows, cols, CN_DTYPE_BF16};
}

// One layer's weights serve for all: loading copies them.
static void load_model(cn_backend *backend, const shape *s, uint32_t context_tokens)
{
    float inv_freq[64];
    const uint64_t heads = (uint64_t)s->heads * s->head_dim, kv_heads = (uint64_t)s->kv_heads * s->head_dim;
    cn_layer_weights *layers = calloc(s->layers, sizeof *layers);
    if (!layers) abort();
    for (uint32_t i = 0; i < s->head_dim / 2; i++) inv_freq[i] = 1.0f / (float)(i + 1);
    cn_layer_weights one = {
        .attn_norm = random_tensor(1, s->dim), .mlp_norm = random_tensor(1, s->dim), .q = random_tensor(heads, s->dim),
        .k = random_tensor(kv_heads, s->dim), .v = random_tensor(kv_heads, s->dim), .o = random_tensor(s->dim, heads),
        .gate = random_tensor(s->mlp, s->dim), .up = random_tensor(s->mlp, s->dim), .down = random_tensor(s->dim, s->mlp)};
    if (s->qk_norm) one.q_norm = one.k_norm = random_tensor(1, s->head_dim);
    for (uint32_t i = 0; i < s->layers; i++) layers[i] = one;
    const cn_tensor embed = random_tensor(s->vocab, s->dim);
    const cn_tensor head = s->tied ? embed : random_tensor(s->vocab, s->dim);
    const cn_model_spec spec = {
        .layer_count = s->layers, .dim = s->dim, .head_count = s->heads, .kv_head_count = s->kv_heads,
        .head_dim = s->head_dim, .mlp_dim = s->mlp, .vocab_count = s->vocab, .context_tokens_max = context_tokens,
        .norm_eps = 1e-6f, .rope_inv_freq = inv_freq, .rope_magnitude = 1, .embed = embed, .final_norm = one.attn_norm,
        .head = head, .layers = layers};
    cn_err err;
    cn_backend_stats stats;
    const double start = now_s();
    if (backend->ops->model_load(backend, &spec, NULL, NULL, &err) != CN_OK) {
        fprintf(stderr, "bench_gpu: %s\n", err.text);
        exit(1);
    }
    const double seconds = now_s() - start;
    char what[96];
    backend->ops->stats(backend, &stats);
    snprintf(what, sizeof what, "%s: loading from memory", s->name);
    report("step", what, seconds, 0, (double)stats.weight_bytes / seconds / 1e9, "GB/s");
    const cn_tensor all[] = {one.attn_norm, one.mlp_norm, one.q, one.k, one.v, one.o, one.gate, one.up, one.down, one.q_norm, embed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void *)all[i].data);
    if (!s->tied) free((void *)head.data);
    free(layers);
}

static void finish_step(cn_backend *backend)
{
    cn_step_result result;
    while (!backend->ops->step_poll(backend, &result)) sched_yield();
    if (result.code == CN_OK) return;
    fprintf(stderr, "bench_gpu: a step ended with the error %d\n", (int)result.code);
    exit(1);
}

static void submit_step(cn_backend *backend, const cn_step *step)
{
    cn_ticket ticket;
    if (backend->ops->step_submit(backend, step, &ticket) != CN_OK) abort();
}

/* Seconds of one of `count` steps, two of them always on their way, and of the host in each submit. */
static double time_steps(cn_backend *backend, const cn_step *step, uint32_t count, double *host_s)
{
    const double start = now_s();
    *host_s = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i > 1) finish_step(backend);
        const double before = now_s();
        submit_step(backend, step);
        *host_s += (now_s() - before) / count;
    }
    for (uint32_t i = 0; i < count && i < 2; i++) finish_step(backend);
    return (now_s() - start) / count;
}

// Moves all pages of `ops`; with a step, that one is repeated meanwhile. Returns the seconds.
static double move_pages(cn_backend *backend, const cn_page_io *ops, uint32_t count, const cn_step *step, double *step_s)
{
    const double start = now_s();
    cn_ticket ticket;
    uint32_t steps = 0;
    if (backend->ops->page_io(backend, ops, count, &ticket) != CN_OK) abort();
    while (!backend->ops->page_io_done(backend, ticket)) {
        if (!step) {
            sched_yield();
            continue;
        }
        submit_step(backend, step);
        finish_step(backend);
        steps++;
    }
    const double seconds = now_s() - start;
    if (step_s) *step_s = steps ? seconds / steps : 0;
    return seconds;
}

/* Fills all pages, which is restoring; reads some of them back, alone and beside decoding. */
static void bench_pages(cn_backend *backend, const shape *s, const cn_kv_options *kv, const cn_step *step)
{
    enum { SPILLED_MAX = 256 };
    cn_kv_info info;
    backend->ops->kv_info(backend, &info);
    const uint32_t spilled = kv->page_count < SPILLED_MAX ? kv->page_count : SPILLED_MAX;
    unsigned char *host = malloc(spilled * info.page_bytes);
    cn_page_io *ops = calloc(kv->page_count, sizeof *ops);
    if (!host || !ops) abort();
    for (uint64_t i = 0; i < spilled * info.page_bytes / 2; i++) ((uint16_t *)host)[i] = random_half();
    for (uint32_t i = 0; i < kv->page_count; i++) {
        ops[i] = (cn_page_io){CN_PAGE_WRITE, {i}, host + i % spilled * info.page_bytes};
    }
    char what[96];
    double beside_s;
    const double filled_s = move_pages(backend, ops, kv->page_count, NULL, NULL);
    for (uint32_t i = 0; i < spilled; i++) ops[i].kind = CN_PAGE_READ;
    const double spilled_s = move_pages(backend, ops, spilled, NULL, NULL);
    snprintf(what, sizeof what, "%s: restoring %u pages of %llu KiB", s->name, kv->page_count, (unsigned long long)info.page_bytes >> 10);
    report("pages", what, filled_s, 0, (double)kv->page_count * (double)info.page_bytes / filled_s / 1e9, "GB/s");
    snprintf(what, sizeof what, "%s: spilling %u pages", s->name, spilled);
    report("pages", what, spilled_s, 0, (double)spilled * (double)info.page_bytes / spilled_s / 1e9, "GB/s");
    submit_step(backend, step);          // opens the slots; their pages are there
    finish_step(backend);
    cn_step decode = *step;
    decode.open_count = decode.delta_count = 0;
    const double together_s = move_pages(backend, ops, spilled, &decode, &beside_s);
    snprintf(what, sizeof what, "%s: spilling %u pages beside decoding of %u (step %.0f us)", s->name, spilled, step->seq_count, beside_s * 1e6);
    report("pages", what, together_s, 0, (double)spilled * (double)info.page_bytes / together_s / 1e9, "GB/s");
    free(ops);
    free(host);
}

static void bench_steps(cn_backend *backend, const shape *s, cn_step *step, const uint32_t *batches, size_t batch_count, uint32_t context)
{
    const double layer = (double)s->dim * (2.0 * s->heads + 2.0 * s->kv_heads) * s->head_dim + 3.0 * s->dim * s->mlp;
    const double parameters = layer * s->layers + (double)s->vocab * s->dim;
    const double context_bytes = 4.0 * s->layers * s->kv_heads * s->head_dim * context;
    for (size_t i = 0; i < batch_count; i++) {
        double host_s;
        char what[96];
        step->seq_count = step->token_count = batches[i];
        time_steps(backend, step, 4, &host_s);           // records the graphs
        const double seconds = time_steps(backend, step, STEPS, &host_s), n = batches[i];
        const double by_weights = fmax(2 * parameters / copy_rate, 2 * parameters * n / product_rate);
        snprintf(what, sizeof what, "%s: decode of %u at %u (host %.1f us)", s->name, batches[i], context, host_s * 1e6);
        report("step", what, seconds, by_weights + n * context_bytes / copy_rate, n / seconds, "tok/s");
    }
}

static void bench_shape(const shape *s, const uint32_t *batches, size_t batch_count, uint32_t context)
{
    const uint32_t most = batches[batch_count - 1], pages_each = context / CN_PAGE_TOKENS + 1, pages = most * pages_each;
    const cn_kv_options kv = {.page_count = pages, .slot_count = most, .context_tokens_max = pages_each * CN_PAGE_TOKENS,
                              .step_tokens_max = 256, .step_outputs_max = 256, .step_deltas_max = pages};
    const cn_backend_options options = {0};
    static const cn_sampling greedy = {.top_p = 1, .repetition_penalty = 1};
    cn_backend *backend;
    cn_err err;
    if (CN_CUDA(ops).open(&options, &backend, &err) != CN_OK) {
        fprintf(stderr, "bench_gpu: %s\n", err.text);
        exit(3);
    }
    load_model(backend, s, kv.context_tokens_max);
    if (backend->ops->kv_create(backend, &kv, &err) != CN_OK) {
        fprintf(stderr, "bench_gpu: %s\n", err.text);
        exit(1);
    }
    cn_page_delta *deltas = calloc(pages, sizeof *deltas);
    cn_slot_open *opens = calloc(most, sizeof *opens);
    cn_step_seq *seqs = calloc(most, sizeof *seqs);
    int32_t *tokens = calloc(most, sizeof *tokens);
    if (!deltas || !opens || !seqs || !tokens) abort();
    cn_step step = {.opens = opens, .deltas = deltas, .seqs = seqs, .tokens = tokens, .open_count = most,
                    .delta_count = pages, .seq_count = most, .token_count = most};
    for (uint32_t i = 0; i < most; i++) {
        opens[i] = (cn_slot_open){.slot = {i}, .sampling = &greedy};
        seqs[i] = (cn_step_seq){.slot = {i}, .context_count = context - 1, .token_count = 1, .sample = true};
        tokens[i] = (int32_t)(i * 7 % s->vocab);
    }
    for (uint32_t i = 0; i < pages; i++) deltas[i] = (cn_page_delta){{i / pages_each}, i % pages_each, {i}};
    bench_pages(backend, s, &kv, &step);
    step.open_count = step.delta_count = 0;
    for (uint32_t i = 0; i < most; i++) tokens[i] = CN_TOKEN_LAST;
    bench_steps(backend, s, &step, batches, batch_count, context);
    backend->ops->close(backend);
    free(deltas);
    free(opens);
    free(seqs);
    free(tokens);
}

static void part_step(void)
{
#if defined(CN_EMU)
    static const shape tiny = {"tiny", 2, 64, 4, 2, 16, 96, 256, true, true};
    static const uint32_t few[] = {1, 3};
    bench_shape(&tiny, few, 2, 48);
#else
    static const shape qwen = {"Qwen3-0.6B", 28, 1024, 16, 8, 128, 3072, 151936, true, true};
    static const shape llama = {"Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, false, false};
    static const uint32_t batches[] = {1, 8, 16, 64};
    bench_shape(&qwen, batches, 4, 1024);
    bench_shape(&llama, batches, 4, 1024);
#endif
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } parts[] = {
        {"ceilings", part_ceilings}, {"attention", part_attention}, {"gemm", part_gemm}, {"step", part_step}};
    char text[160];
    cn_err err;
    // Where nobody says otherwise, the rate that was measured on an H200 with products of bf16.
    const char *rate = getenv("GPU_TFLOPS");
    product_rate = (rate ? atof(rate) : 790) * 1e12;
    if (argc != 2 || !(product_rate > 0)) {
        fprintf(stderr, "usage: bench_gpu ceilings|attention|gemm|step, with GPU_TFLOPS above 0 or not set\n");
        return 2;
    }
    if (CN_CUDA(ops).probe(text, sizeof text, &err) != CN_OK) {
        fprintf(stderr, "bench_gpu: %s\n", err.text);
        return 3;
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(argv[1], parts[i].name) != 0) continue;
        must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
        measure_copy();
        parts[i].run();
        must(cudaStreamDestroy(stream), "stream");
        return 0;
    }
    fprintf(stderr, "bench_gpu: %s: no such part; must be ceilings, attention, gemm or step\n", argv[1]);
    return 2;
}
