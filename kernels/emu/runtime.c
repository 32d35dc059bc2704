#include "kernels/emu/runtime.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/random.h"

/* How it works. A stream is a list of operations and two numbers: how many were queued and how many have
 * run. An event is a stream and a number, so it has happened when that many have run, and waiting for
 * it means running that stream until then; an operation that waits for an event of another stream first
 * runs that other one. Nothing else runs, which is what makes a forgotten wait visible.
 *
 * Two locks: `queues` for the lists, held shortly; `running` by the thread that runs operations, with the
 * memory of the device open to everybody. Always `running` first. */

enum { RANGES_MAX = 4096, STREAMS_MAX = 256, PAGE_BYTES = 4096, ALIGN = 256, POISON_BYTES = 16 << 20 };

typedef enum op_kind { OP_KERNEL, OP_COPY, OP_SET, OP_WAIT, OP_RECORD } op_kind;

typedef struct op {
    struct op *next;
    op_kind kind;
    cn_fiber_launch launch;
    void *to;
    const void *from;            // NULL: the bytes behind this struct
    int value;
    size_t bytes, extra_bytes;
    cudaStream_t stream;         // OP_WAIT: run this one until `number`
    uint64_t number;
    _Alignas(16) unsigned char extra[];
} op;

typedef struct op_list {
    op *first, *last;
} op_list;

struct cn_runtime_graph {
    op_list ops;
};

struct cn_runtime_stream {
    op_list ops;
    uint64_t queued, done;
    struct cn_runtime_graph *capture;
    bool used;
};

struct cn_runtime_event {
    cudaStream_t stream;
    uint64_t number;
};

typedef struct range {
    char *begin;                 // of what the caller sees
    size_t bytes;
    char *mapping;
    size_t mapped;
} range;

static struct {
    pthread_mutex_t running, queues;
    struct cn_runtime_stream streams[STREAMS_MAX];   // 0 is what NULL means
    range device[RANGES_MAX], pinned[RANGES_MAX];
    uint32_t device_count, pinned_count, open;
    cn_runtime_schedule schedule;
    uint64_t seed;
    _Atomic cudaError_t sticky;
    char fault[512];
    uint64_t called[CN_RUNTIME_CALL_COUNT];
    uint32_t fail_skip[CN_RUNTIME_CALL_COUNT];
    cudaError_t fail_with[CN_RUNTIME_CALL_COUNT];
} rt = {.running = PTHREAD_MUTEX_INITIALIZER, .queues = PTHREAD_MUTEX_INITIALIZER};

// ---- running

static void set_open(bool open)
{
    const int prot = open ? PROT_READ | PROT_WRITE : PROT_NONE;
    pthread_mutex_lock(&rt.queues);
    for (uint32_t i = 0; i < rt.device_count; i++) {
        mprotect(rt.device[i].mapping, rt.device[i].mapped - PAGE_BYTES, prot);
    }
    rt.open = open;
    pthread_mutex_unlock(&rt.queues);
}

static void run_begin(void)
{
    pthread_mutex_lock(&rt.running);
    set_open(true);
}

static void run_end(void)
{
    set_open(false);
    pthread_mutex_unlock(&rt.running);
}

static void execute(op *o)
{
    const void *from = o->from ? o->from : o->extra;
    switch (o->kind) {
    case OP_KERNEL:
        o->launch.args = o->extra;
        if (!cn_fiber_run(&o->launch, rt.fault, sizeof rt.fault)) rt.sticky = cudaErrorLaunchFailure;
        break;
    case OP_COPY: memmove(o->to, from, o->bytes); break;
    case OP_SET: memset(o->to, o->value, o->bytes); break;
    case OP_WAIT:
    case OP_RECORD: break;
    }
}

// Runs the operations of `stream` until `number` of them have run. `running` is held.
static void run_until(cudaStream_t stream, uint64_t number)
{
    while (rt.sticky == cudaSuccess) {
        pthread_mutex_lock(&rt.queues);
        op *o = stream->done < number ? stream->ops.first : NULL;
        pthread_mutex_unlock(&rt.queues);
        if (!o) return;
        if (o->kind == OP_WAIT) run_until(o->stream, o->number);
        execute(o);
        pthread_mutex_lock(&rt.queues);
        stream->ops.first = o->next;
        if (!o->next) stream->ops.last = NULL;
        stream->done++;
        pthread_mutex_unlock(&rt.queues);
        free(o);
    }
}

static void run_everything(void)
{
    run_begin();
    for (int i = 0; i < STREAMS_MAX; i++) run_until(&rt.streams[i], UINT64_MAX);
    run_end();
}

static uint64_t random_next(void)
{
    const cn_random seeded = cn_random_seeded(&rt.seed);
    return cn_random_u64(&seeded);
}

static void run_something(void)
{
    run_begin();
    for (uint64_t left = random_next() % 8; left > 0; left--) {
        cudaStream_t stream = &rt.streams[random_next() % 8];
        run_until(stream, stream->done + 1);
    }
    run_end();
}

// ---- calls

static cudaError_t enter(cn_runtime_call call)
{
    pthread_mutex_lock(&rt.queues);
    rt.called[call]++;
    cudaError_t error = rt.sticky;
    if (rt.fail_with[call] != cudaSuccess && rt.fail_skip[call]-- == 0) {
        error = rt.fail_with[call];
        rt.fail_with[call] = cudaSuccess;
    }
    const cn_runtime_schedule schedule = rt.schedule;
    pthread_mutex_unlock(&rt.queues);
    if (error == cudaSuccess && schedule == CN_RUNTIME_RANDOM) run_something();
    return error;
}

#define ENTER(name)                                                                                \
    do {                                                                                           \
        const cudaError_t refused = enter(CN_RUNTIME_##name);                                      \
        if (refused != cudaSuccess) return refused;                                                \
    } while (0)

static cudaStream_t stream_of(cudaStream_t stream) { return stream ? stream : &rt.streams[0]; }

static op *new_op(op_kind kind, const void *extra, size_t extra_bytes)
{
    op *o = calloc(1, sizeof *o + extra_bytes);
    CN_ASSERT(o);
    o->kind = kind;
    o->extra_bytes = extra_bytes;
    if (extra_bytes) memcpy(o->extra, extra, extra_bytes);
    return o;
}

static void append(op_list *list, op *o)
{
    if (list->last) list->last->next = o;
    else list->first = o;
    list->last = o;
}

static cudaError_t queue(cudaStream_t given, op *o)
{
    cudaStream_t stream = stream_of(given);
    cudaError_t error = cudaSuccess;
    pthread_mutex_lock(&rt.queues);
    if (!stream->capture) {
        append(&stream->ops, o);
        stream->queued++;
    } else if (o->kind == OP_WAIT || o->kind == OP_RECORD) {
        error = cudaErrorStreamCaptureUnsupported;
        free(o);
    } else {
        append(&stream->capture->ops, o);
    }
    const bool eager = rt.schedule == CN_RUNTIME_EAGER;
    pthread_mutex_unlock(&rt.queues);
    if (eager) run_everything();
    return error;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    ENTER(cudaGetDeviceCount);
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    ENTER(cudaSetDevice);
    return device == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    ENTER(cudaMemGetInfo);
    *free_bytes = *total_bytes = (size_t)64 << 30;
    return cudaSuccess;
}

// ---- memory

static bool in_ranges(const range *ranges, uint32_t count, const void *at)
{
    for (uint32_t i = 0; i < count; i++) {
        if ((const char *)at >= ranges[i].begin && (const char *)at < ranges[i].begin + ranges[i].bytes) {
            return true;
        }
    }
    return false;
}

static bool is_pinned(const void *at)
{
    pthread_mutex_lock(&rt.queues);
    const bool found = in_ranges(rt.pinned, rt.pinned_count, at);
    pthread_mutex_unlock(&rt.queues);
    return found;
}

static cudaError_t take_range(range *ranges, uint32_t *count, void **out, size_t bytes, bool guarded)
{
    const size_t body = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    const size_t mapped = (body + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES;
    char *at = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED || bytes == 0) return bytes ? cudaErrorMemoryAllocation : cudaErrorInvalidValue;
    range r = {at + mapped - PAGE_BYTES - body, bytes, at, mapped};
    memset(r.begin, 0xFF, bytes < POISON_BYTES ? bytes : POISON_BYTES);
    mprotect(at + mapped - PAGE_BYTES, PAGE_BYTES, PROT_NONE);
    pthread_mutex_lock(&rt.queues);
    if (guarded && !rt.open) mprotect(at, mapped - PAGE_BYTES, PROT_NONE);
    CN_ASSERT(*count < RANGES_MAX);
    ranges[(*count)++] = r;
    pthread_mutex_unlock(&rt.queues);
    *out = r.begin;
    return cudaSuccess;
}

static cudaError_t give_range(range *ranges, uint32_t *count, void *memory)
{
    cudaError_t error = cudaErrorInvalidValue;
    if (!memory) return cudaSuccess;
    pthread_mutex_lock(&rt.queues);
    for (uint32_t i = 0; i < *count; i++) {
        if (ranges[i].begin != memory) continue;
        munmap(ranges[i].mapping, ranges[i].mapped);
        ranges[i] = ranges[--*count];
        error = cudaSuccess;
    }
    pthread_mutex_unlock(&rt.queues);
    return error;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    *out = NULL;
    ENTER(cudaMalloc);
    return take_range(rt.device, &rt.device_count, out, bytes, true);
}

// As on a GPU, memory is given back even where an error stands.
cudaError_t cudaFree(void *memory)
{
    const cudaError_t refused = enter(CN_RUNTIME_cudaFree);
    run_everything();
    const cudaError_t error = give_range(rt.device, &rt.device_count, memory);
    return refused != cudaSuccess ? refused : error;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    (void)flags;
    *out = NULL;
    ENTER(cudaHostAlloc);
    return take_range(rt.pinned, &rt.pinned_count, out, bytes, false);
}

cudaError_t cudaFreeHost(void *memory)
{
    const cudaError_t refused = enter(CN_RUNTIME_cudaFreeHost);
    run_everything();
    const cudaError_t error = give_range(rt.pinned, &rt.pinned_count, memory);
    return refused != cudaSuccess ? refused : error;
}

cudaError_t cudaHostGetDevicePointer(void **out, void *host, unsigned flags)
{
    (void)flags;
    ENTER(cudaHostGetDevicePointer);
    *out = host;
    return is_pinned(host) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    (void)kind;
    ENTER(cudaMemcpy);
    run_begin();
    memmove(to, from, bytes);
    run_end();
    return cudaSuccess;
}

/* From memory that is not pinned, the bytes are taken now; to such memory, the call waits. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    ENTER(cudaMemcpyAsync);
    const bool staged = kind == cudaMemcpyHostToDevice && !is_pinned(from);
    op *o = new_op(OP_COPY, from, staged ? bytes : 0);
    o->to = to;
    o->from = staged ? NULL : from;
    o->bytes = bytes;
    cudaError_t error = queue(stream, o);
    if (error == cudaSuccess && kind == cudaMemcpyDeviceToHost && !is_pinned(to)) {
        error = cudaStreamSynchronize(stream);
    }
    return error;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    ENTER(cudaMemsetAsync);
    op *o = new_op(OP_SET, NULL, 0);
    o->to = to;
    o->value = value;
    o->bytes = bytes;
    return queue(stream, o);
}

// ---- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    (void)flags;
    ENTER(cudaStreamCreateWithFlags);
    pthread_mutex_lock(&rt.queues);
    int at = 1;
    while (at < STREAMS_MAX && rt.streams[at].used) at++;
    CN_ASSERT(at < STREAMS_MAX);
    rt.streams[at].used = true;
    *out = &rt.streams[at];
    pthread_mutex_unlock(&rt.queues);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const cudaError_t refused = enter(CN_RUNTIME_cudaStreamDestroy);
    run_everything();
    pthread_mutex_lock(&rt.queues);
    stream->used = false;        // its numbers go on, so that old events stay in the past
    pthread_mutex_unlock(&rt.queues);
    return refused;
}

static cudaError_t wait_for(cudaStream_t stream, uint64_t number)
{
    run_begin();
    run_until(stream, number);
    const cudaError_t error = rt.sticky;
    run_end();
    return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    ENTER(cudaStreamSynchronize);
    return wait_for(stream_of(stream), UINT64_MAX);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    ENTER(cudaStreamWaitEvent);
    if (!event->stream) return cudaSuccess;      // never recorded: nothing to wait for
    op *o = new_op(OP_WAIT, NULL, 0);
    o->stream = event->stream;
    o->number = event->number;
    return queue(stream, o);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    (void)flags;
    *out = NULL;
    ENTER(cudaEventCreateWithFlags);
    *out = calloc(1, sizeof **out);
    return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    const cudaError_t refused = enter(CN_RUNTIME_cudaEventDestroy);
    free(event);
    return refused;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t given)
{
    ENTER(cudaEventRecord);
    cudaStream_t stream = stream_of(given);
    const cudaError_t error = queue(stream, new_op(OP_RECORD, NULL, 0));
    pthread_mutex_lock(&rt.queues);
    event->stream = stream;
    event->number = stream->queued;
    pthread_mutex_unlock(&rt.queues);
    return error;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    ENTER(cudaEventQuery);
    pthread_mutex_lock(&rt.queues);
    const bool done = !event->stream || event->stream->done >= event->number;
    pthread_mutex_unlock(&rt.queues);
    return done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    ENTER(cudaEventSynchronize);
    pthread_mutex_lock(&rt.queues);
    cudaStream_t stream = event->stream;
    const uint64_t number = event->number;
    pthread_mutex_unlock(&rt.queues);
    return stream ? wait_for(stream, number) : cudaSuccess;
}

// ---- graphs: the operations of one stream, queued again at each launch

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    (void)mode;
    ENTER(cudaStreamBeginCapture);
    if (!stream || stream->capture) return cudaErrorStreamCaptureUnsupported;
    stream->capture = calloc(1, sizeof *stream->capture);
    return stream->capture ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    *out = NULL;
    ENTER(cudaStreamEndCapture);
    *out = stream->capture;
    stream->capture = NULL;
    return *out ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}

static op *copy_op(const op *o)
{
    op *copy = new_op(o->kind, o->extra, o->extra_bytes);
    copy->launch = o->launch;
    copy->to = o->to;
    copy->from = o->from;
    copy->value = o->value;
    copy->bytes = o->bytes;
    return copy;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    *out = NULL;
    ENTER(cudaGraphInstantiate);
    *out = calloc(1, sizeof **out);
    if (!*out) return cudaErrorMemoryAllocation;
    for (const op *o = graph->ops.first; o; o = o->next) append(&(*out)->ops, copy_op(o));
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    ENTER(cudaGraphLaunch);
    cudaError_t error = cudaSuccess;
    for (const op *o = graph->ops.first; o && error == cudaSuccess; o = o->next) {
        error = queue(stream, copy_op(o));
    }
    return error;
}

static cudaError_t free_graph(cn_runtime_call call, cudaGraph_t graph)
{
    const cudaError_t refused = enter(call);
    while (graph && graph->ops.first) {
        op *o = graph->ops.first;
        graph->ops.first = o->next;
        free(o);
    }
    free(graph);
    return refused;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return free_graph(CN_RUNTIME_cudaGraphDestroy, graph); }

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    return free_graph(CN_RUNTIME_cudaGraphExecDestroy, graph);
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorLaunchFailure: return rt.fault[0] ? rt.fault : "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    }
    return "unknown error";
}

// ---- what is not CUDA's

cudaError_t cn_runtime_launch(const cn_fiber_launch *launch, size_t args_bytes, cudaStream_t stream)
{
    ENTER(cudaLaunchKernel);
    const cn_fiber_dim g = launch->grid;
    if (g.x == 0 || g.y == 0 || g.z == 0 || g.y > 65535 || g.z > 65535) return cudaErrorInvalidValue;
    op *o = new_op(OP_KERNEL, launch->args, args_bytes);
    o->launch = *launch;
    return queue(stream, o);
}

void cn_runtime_schedule_set(cn_runtime_schedule schedule, uint64_t seed)
{
    pthread_mutex_lock(&rt.queues);
    rt.schedule = schedule;
    rt.seed = seed;
    pthread_mutex_unlock(&rt.queues);
}

const char *cn_runtime_fault(void) { return rt.fault; }

void cn_runtime_reset(void)
{
    pthread_mutex_lock(&rt.running);
    pthread_mutex_lock(&rt.queues);
    for (int i = 0; i < STREAMS_MAX; i++) {
        cudaStream_t stream = &rt.streams[i];
        for (op *o; (o = stream->ops.first);) {
            stream->ops.first = o->next;
            free(o);
        }
        stream->ops.last = NULL;
        stream->done = stream->queued;
    }
    rt.sticky = cudaSuccess;
    rt.fault[0] = '\0';
    memset(rt.fail_with, 0, sizeof rt.fail_with);
    pthread_mutex_unlock(&rt.queues);
    pthread_mutex_unlock(&rt.running);
}

void cn_runtime_fail(cn_runtime_call call, uint32_t skip, cudaError_t error)
{
    pthread_mutex_lock(&rt.queues);
    rt.fail_skip[call] = skip;
    rt.fail_with[call] = error;
    pthread_mutex_unlock(&rt.queues);
}

uint64_t cn_runtime_called(cn_runtime_call call)
{
    pthread_mutex_lock(&rt.queues);
    const uint64_t count = rt.called[call];
    pthread_mutex_unlock(&rt.queues);
    return count;
}

const char *cn_runtime_call_name(cn_runtime_call call)
{
    static const char *const names[] = {
#define X(name) #name,
        CN_RUNTIME_CALLS(X)
#undef X
    };
    return names[call];
}
