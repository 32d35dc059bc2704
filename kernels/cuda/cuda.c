#include "kernels/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "kernels/cuda/cuda_int.h"

/* How it works. Three flights take turns: two steps may be on their way while the outputs of a third are being
 * looked at. submit queues kernels and an event and returns; the waiter of steps sleeps in that event and
 * publishes the ticket, which poll compares with the last one reported. Pages have a stream and a waiter of
 * their own, which also moves bytes between pinned memory and the caller's.
 *
 *    engine   submit 7 ─────── submit 8 ── poll: 7                    (never waits for the device)
 *    device      └─▶ step 7 ──────▶ step 8 ──▶
 *    waiter      event 7 ──▶ finished = 7, wake ▶ event 8 ...
 *
 * After an error of the device nothing that was queued can be trusted, and every step from then on fails
 * with a code: the process must be started anew, and its conversations go on from the store. */

enum { LAYOUT_VERSION = 1, NUMERICS_VERSION = 1 };

static cn_cuda *cuda_of(cn_backend *backend) { return (cn_cuda *)backend; }

// ---- probe, open, close

static cn_code cuda_probe(char *text, size_t text_bytes, cn_err *err)
{
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count < 1) {
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "cuda: no device (%s); needed are an NVIDIA GPU of compute capability 8.0 or more and a "
                          "driver for CUDA 13", error != cudaSuccess ? cudaGetErrorString(error) : "none is visible");
    }
#if defined(CN_EMU)
    snprintf(text, text_bytes, "CUDA kernels emulated on the processor, one fiber per thread");
#else
    struct cudaDeviceProp device;
    if (cudaGetDeviceProperties(&device, 0) != cudaSuccess) memset(&device, 0, sizeof device);
    if (device.major < 8) {
        return cn_err_set(err, CN_E_UNSUPPORTED, "cuda: %s has compute capability %d.%d; must be 8.0 or more",
                          device.name, device.major, device.minor);
    }
    snprintf(text, text_bytes, "%s, %d multiprocessors, %zu MiB", device.name, device.multiProcessorCount,
             device.totalGlobalMem >> 20);
#endif
    return CN_OK;
}

static void close_waiter(cn_cuda_waiter *waiter)
{
    if (waiter->started) {
        pthread_mutex_lock(&waiter->lock);
        waiter->closing = true;
        pthread_cond_signal(&waiter->work);
        pthread_mutex_unlock(&waiter->lock);
        pthread_join(waiter->thread, NULL);
    }
    pthread_cond_destroy(&waiter->work);
    pthread_mutex_destroy(&waiter->lock);
}

static void cuda_close(cn_backend *backend)
{
    cn_cuda *cuda = cuda_of(backend);
    if (!cuda) return;
    close_waiter(&cuda->steps);
    close_waiter(&cuda->pages);
    CN_CUDA(memory_close)(cuda);
    for (int i = 0; i < CN_CUDA_STEPS; i++) {
        if (cuda->flights[i].done) cudaEventDestroy(cuda->flights[i].done);
    }
    if (cuda->stream) cudaStreamDestroy(cuda->stream);
    if (cuda->io_stream) cudaStreamDestroy(cuda->io_stream);
    free(cuda->model.layers);
    free(cuda->model.rope_inv_freq);
    free(cuda);
}

static void init_waiter(cn_cuda_waiter *waiter)
{
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_cond_init(&waiter->work, NULL);
}

static cn_code check_options(const cn_backend_options *options, cn_err *err)
{
    if (options->rank_count > 1) {
        return cn_err_set(err, CN_E_UNSUPPORTED, "devices.tensor_parallel: %u; the backend %s serves 1",
                          options->rank_count, CN_CUDA(ops).name);
    }
    if (options->numerics == CN_NUMERICS_SHARD_INVARIANT) {
        return cn_err_set(err, CN_E_UNSUPPORTED, "numerics: shard_invariant; the backend %s has per_rank",
                          CN_CUDA(ops).name);
    }
    return CN_OK;
}

static cn_code cuda_open(const cn_backend_options *options, cn_backend **out, cn_err *err)
{
    char unused[128];
    *out = NULL;
    cn_code code = check_options(options, err);
    if (code == CN_OK) code = cuda_probe(unused, sizeof unused, err);
    if (code != CN_OK) return code;
    cn_cuda *cuda = calloc(1, sizeof *cuda);
    if (!cuda) return cn_err_set(err, CN_E_MEMORY, "cuda: no memory");
    cuda->base.ops = &CN_CUDA(ops);
    cuda->wake = options->wake;
    init_waiter(&cuda->steps);
    init_waiter(&cuda->pages);
    cudaError_t error = cudaSetDevice(0);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&cuda->io_stream, cudaStreamNonBlocking);
    for (int i = 0; i < CN_CUDA_STEPS && error == cudaSuccess; i++) {
        error = cudaEventCreateWithFlags(&cuda->flights[i].done, cudaEventDisableTiming | cudaEventBlockingSync);
    }
    if (error != cudaSuccess) {
        cuda_close(&cuda->base);
        return CN_CUDA(memory_error)(err, "cuda: opening the device", error);
    }
    *out = &cuda->base;
    return CN_OK;
}

// ---- the threads that wait

// The next ticket after `done`, or 0 at the end.
static cn_ticket next_ticket(cn_cuda_waiter *waiter, cn_ticket done)
{
    pthread_mutex_lock(&waiter->lock);
    while (waiter->submitted == done && !waiter->closing) pthread_cond_wait(&waiter->work, &waiter->lock);
    const cn_ticket next = waiter->submitted == done ? 0 : done + 1;
    pthread_mutex_unlock(&waiter->lock);
    return next;
}

static void hand_over(cn_cuda_waiter *waiter, cn_ticket ticket)
{
    pthread_mutex_lock(&waiter->lock);
    waiter->submitted = ticket;
    pthread_cond_signal(&waiter->work);
    pthread_mutex_unlock(&waiter->lock);
}

static void *wait_for_steps(void *argument)
{
    cn_cuda *cuda = argument;
    const cn_clock clock = cn_clock_system();
    uint64_t last_ns = 0;
    cudaSetDevice(0);
    for (cn_ticket ticket = 0; (ticket = next_ticket(&cuda->steps, ticket));) {
        cn_cuda_flight *flight = &cuda->flights[ticket % CN_CUDA_STEPS];
        if (flight->code == CN_OK && cudaEventSynchronize(flight->done) != cudaSuccess) flight->code = CN_E_INTERNAL;
        const uint64_t now_ns = cn_clock_now_ns(&clock);
        flight->busy_ns = now_ns - (last_ns > flight->submitted_ns ? last_ns : flight->submitted_ns);
        last_ns = now_ns;
        atomic_fetch_add_explicit(&cuda->stat_steps, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&cuda->stat_tokens, flight->token_count, memory_order_relaxed);
        atomic_fetch_add_explicit(&cuda->stat_busy_ns, flight->busy_ns, memory_order_relaxed);
        // Release: whoever sees the ticket sees the flight and its outputs.
        atomic_store_explicit(&cuda->steps.finished, ticket, memory_order_release);
        if (cuda->wake) cn_wake_signal(cuda->wake);
    }
    return NULL;
}

// A few pages through pinned memory, in one direction each.
static void move_some(cn_cuda *cuda, const cn_page_io *ops, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        unsigned char *page = cuda->scratch.pages + ops[i].page.v * cuda->page_bytes;
        unsigned char *pinned = cuda->bounce + i * cuda->page_bytes;
        const bool reads = ops[i].kind == CN_PAGE_READ;
        if (!reads) memcpy(pinned, ops[i].host, cuda->page_bytes);
        cudaMemcpyAsync(reads ? pinned : page, reads ? page : pinned, cuda->page_bytes,
                        reads ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, cuda->io_stream);
    }
    // What a broken device gives is not looked at: its steps fail.
    if (cudaStreamSynchronize(cuda->io_stream) != cudaSuccess) return;
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind == CN_PAGE_READ) memcpy(ops[i].host, cuda->bounce + i * cuda->page_bytes, cuda->page_bytes);
    }
}

static void *move_pages(void *argument)
{
    cn_cuda *cuda = argument;
    cudaSetDevice(0);
    for (cn_ticket ticket = 0; (ticket = next_ticket(&cuda->pages, ticket));) {
        for (uint32_t i = 0; i < cuda->io_count; i += CN_CUDA_BOUNCE_PAGES) {
            const uint32_t left = cuda->io_count - i;
            move_some(cuda, cuda->io + i, left < CN_CUDA_BOUNCE_PAGES ? left : CN_CUDA_BOUNCE_PAGES);
        }
        atomic_store_explicit(&cuda->pages.finished, ticket, memory_order_release);
        if (cuda->wake) cn_wake_signal(cuda->wake);
    }
    return NULL;
}

// ---- model and KV

static cn_code cuda_model_load(cn_backend *backend, const cn_model_spec *spec,
                               void (*progress)(void *self, uint64_t done, uint64_t total), void *self, cn_err *err)
{
    cn_cuda *cuda = cuda_of(backend);
    CN_ASSERT(!cuda->model.layers);
    return CN_CUDA(weights_load)(cuda, spec, progress, self, err);
}

static void cuda_kv_info(const cn_backend *backend, cn_kv_info *out)
{
    const cn_cuda *cuda = (const cn_cuda *)backend;
    const cn_model_spec *m = &cuda->model.spec;
    CN_ASSERT(cuda->model.loaded);
    *out = (cn_kv_info){
        .page_bytes = 4ull * m->layer_count * m->kv_head_count * cuda->model.head_pad * CN_PAGE_TOKENS,
        .layout_version = LAYOUT_VERSION,
    };
    out->page_held_bytes = out->page_bytes;
    snprintf(out->numerics, sizeof out->numerics, "%s/%d/bf16", cuda->base.ops->name, NUMERICS_VERSION);
}

static cn_code start(cn_cuda_waiter *waiter, void *(*run)(void *), cn_cuda *cuda, cn_err *err)
{
    const int failure = pthread_create(&waiter->thread, NULL, run, cuda);
    waiter->started = failure == 0;
    if (failure == 0) return CN_OK;
    return cn_err_set(err, CN_E_IO, "cuda: a thread cannot be started: %s", strerror(failure));
}

static cn_code cuda_kv_create(cn_backend *backend, const cn_kv_options *options, cn_err *err)
{
    cn_cuda *cuda = cuda_of(backend);
    cn_kv_info info;
    CN_ASSERT(!cuda->steps.started);
    cuda_kv_info(backend, &info);
    cuda->page_bytes = info.page_bytes;
    cuda->kv = *options;
    cn_code code = CN_CUDA(memory_open)(cuda, err);
    if (code == CN_OK) code = start(&cuda->steps, wait_for_steps, cuda, err);
    if (code == CN_OK) code = start(&cuda->pages, move_pages, cuda, err);
    return code;
}

// ---- steps and pages

static cn_code cuda_step_submit(cn_backend *backend, const cn_step *step, cn_ticket *out)
{
    cn_cuda *cuda = cuda_of(backend);
    const cn_clock clock = cn_clock_system();
    if (cuda->submitted - cuda->reported == CN_CUDA_STEPS_IN_FLIGHT) return CN_E_AGAIN;
    CN_ASSERT(step->seq_count > 0 && step->seq_count <= cuda->kv.slot_count);
    CN_ASSERT(step->token_count <= cuda->kv.step_tokens_max);
    CN_ASSERT(step->open_count <= cuda->kv.slot_count && step->copy_count <= cuda->kv.slot_count);
    CN_ASSERT(step->delta_count <= cuda->kv.step_deltas_max);
    const cn_ticket ticket = cuda->submitted + 1;
    cn_cuda_flight *flight = &cuda->flights[ticket % CN_CUDA_STEPS];
    flight->submitted_ns = cn_clock_now_ns(&clock);
    flight->token_count = step->token_count;
    const bool queued = CN_CUDA(step_queue)(cuda, flight, step);
    const bool marked = cudaEventRecord(flight->done, cuda->stream) == cudaSuccess;
    flight->code = queued && marked ? CN_OK : CN_E_INTERNAL;
    hand_over(&cuda->steps, ticket);
    *out = cuda->submitted = ticket;
    return CN_OK;
}

static bool cuda_step_poll(cn_backend *backend, cn_step_result *out)
{
    cn_cuda *cuda = cuda_of(backend);
    if (atomic_load_explicit(&cuda->steps.finished, memory_order_acquire) == cuda->reported) return false;
    const cn_ticket ticket = ++cuda->reported;
    const cn_cuda_flight *flight = &cuda->flights[ticket % CN_CUDA_STEPS];
    *out = (cn_step_result){.ticket = ticket, .code = flight->code, .outputs = flight->outputs,
                            .output_count = flight->code == CN_OK ? flight->output_count : 0,
                            .busy_ns = flight->busy_ns};
    return true;
}

static cn_code cuda_page_io(cn_backend *backend, const cn_page_io *ops, uint32_t count, cn_ticket *out)
{
    cn_cuda *cuda = cuda_of(backend);
    CN_ASSERT(count <= cuda->kv.page_count);
    if (atomic_load_explicit(&cuda->pages.finished, memory_order_acquire) != cuda->io_ticket) return CN_E_AGAIN;
    for (uint32_t i = 0; i < count; i++) {
        CN_ASSERT(ops[i].page.v < cuda->kv.page_count);
        cuda->io[i] = ops[i];
    }
    cuda->io_count = count;
    if (cuda->submitted) {
        cudaStreamWaitEvent(cuda->io_stream, cuda->flights[cuda->submitted % CN_CUDA_STEPS].done, 0);
    }
    *out = ++cuda->io_ticket;
    hand_over(&cuda->pages, *out);
    return CN_OK;
}

static bool cuda_page_io_done(cn_backend *backend, cn_ticket ticket)
{
    return atomic_load_explicit(&cuda_of(backend)->pages.finished, memory_order_acquire) >= ticket;
}

static void cuda_stats(const cn_backend *backend, cn_backend_stats *out)
{
    const cn_cuda *cuda = (const cn_cuda *)backend;
    *out = (cn_backend_stats){
        .steps = atomic_load_explicit(&cuda->stat_steps, memory_order_relaxed),
        .tokens = atomic_load_explicit(&cuda->stat_tokens, memory_order_relaxed),
        .busy_ns = atomic_load_explicit(&cuda->stat_busy_ns, memory_order_relaxed),
        .weight_bytes = cuda->model.weight_bytes,
        .kv_bytes = (uint64_t)cuda->kv.page_count * cuda->page_bytes,
        .scratch_bytes = cuda->scratch_bytes,
    };
}

const cn_backend_ops CN_CUDA(ops) = {
#if defined(CN_EMU)
    .name = "cuda-emu",
#else
    .name = "cuda",
#endif
    .probe = cuda_probe,
    .open = cuda_open,
    .close = cuda_close,
    .model_load = cuda_model_load,
    .kv_info = cuda_kv_info,
    .kv_create = cuda_kv_create,
    .step_submit = cuda_step_submit,
    .step_poll = cuda_step_poll,
    .page_io = cuda_page_io,
    .page_io_done = cuda_page_io_done,
    .stats = cuda_stats,
};
