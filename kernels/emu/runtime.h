/* kernels/emu/runtime.h: the part of the CUDA runtime that Cairn's host code uses, without a GPU.
 * Host code includes this instead of cuda_runtime_api.h and does not change. By default nothing runs until
 * somebody waits for it, and then only what that wait needs: an event that is missing, a pinned buffer
 * that is filled again too early and a result that is read too soon are then wrong every time. Memory of
 * the device cannot be touched by the host: it is mapped while something runs.
 *
 * Threads: any; what runs is run by the threads that wait, one at a time.
 * Memory:  each allocation is a mapping of its own, filled with 0xFF, and ends at a page that faults. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/emu/fiber.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The runtime's own names; what they mean is in its manual. */
typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900
} cudaError_t;
typedef enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
} cudaMemcpyKind;
typedef enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 } cudaStreamCaptureMode;
enum {
    cudaStreamNonBlocking = 1,
    cudaEventBlockingSync = 1,
    cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0,
    cudaHostAllocMapped = 2
};
typedef struct cn_runtime_stream *cudaStream_t;
typedef struct cn_runtime_event *cudaEvent_t;
typedef struct cn_runtime_graph *cudaGraph_t;
typedef struct cn_runtime_graph *cudaGraphExec_t;

#define CN_RUNTIME_CALLS(X) /* in the order of the functions below */                              \
    X(cudaGetDeviceCount) X(cudaSetDevice) X(cudaMemGetInfo) X(cudaMalloc) X(cudaFree)              \
    X(cudaHostAlloc) X(cudaFreeHost) X(cudaHostGetDevicePointer) X(cudaMemcpy)                      \
    X(cudaMemcpyAsync) X(cudaMemsetAsync) X(cudaStreamCreateWithFlags) X(cudaStreamDestroy)          \
    X(cudaStreamSynchronize) X(cudaStreamWaitEvent) X(cudaEventCreateWithFlags) X(cudaEventDestroy)  \
    X(cudaEventRecord) X(cudaEventQuery) X(cudaEventSynchronize) X(cudaStreamBeginCapture)           \
    X(cudaStreamEndCapture) X(cudaGraphInstantiate) X(cudaGraphLaunch) X(cudaGraphDestroy)           \
    X(cudaGraphExecDestroy) X(cudaLaunchKernel)

typedef enum cn_runtime_call {
#define X(name) CN_RUNTIME_##name,
    CN_RUNTIME_CALLS(X)
#undef X
    CN_RUNTIME_CALL_COUNT
} cn_runtime_call;

#define cudaGetDeviceCount cn_runtime_get_device_count
#define cudaSetDevice cn_runtime_set_device
#define cudaMemGetInfo cn_runtime_mem_get_info
#define cudaMalloc cn_runtime_malloc
#define cudaFree cn_runtime_free
#define cudaHostAlloc cn_runtime_host_alloc
#define cudaFreeHost cn_runtime_free_host
#define cudaHostGetDevicePointer cn_runtime_host_get_device_pointer
#define cudaMemcpy cn_runtime_memcpy
#define cudaMemcpyAsync cn_runtime_memcpy_async
#define cudaMemsetAsync cn_runtime_memset_async
#define cudaStreamCreateWithFlags cn_runtime_stream_create_with_flags
#define cudaStreamDestroy cn_runtime_stream_destroy
#define cudaStreamSynchronize cn_runtime_stream_synchronize
#define cudaStreamWaitEvent cn_runtime_stream_wait_event
#define cudaEventCreateWithFlags cn_runtime_event_create_with_flags
#define cudaEventDestroy cn_runtime_event_destroy
#define cudaEventRecord cn_runtime_event_record
#define cudaEventQuery cn_runtime_event_query
#define cudaEventSynchronize cn_runtime_event_synchronize
#define cudaStreamBeginCapture cn_runtime_stream_begin_capture
#define cudaStreamEndCapture cn_runtime_stream_end_capture
#define cudaGraphInstantiate cn_runtime_graph_instantiate
#define cudaGraphLaunch cn_runtime_graph_launch
#define cudaGraphDestroy cn_runtime_graph_destroy
#define cudaGraphExecDestroy cn_runtime_graph_exec_destroy
#define cudaGetErrorString cn_runtime_get_error_string

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaHostGetDevicePointer(void **out, void *host, unsigned flags);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);
const char *cudaGetErrorString(cudaError_t error);

/* ---- what is not CUDA's ----------------------------------------------------------------------- */

/* Queues a kernel; `launch` and the `args_bytes` at launch->args are copied. Stands for `<<<>>>`. */
cudaError_t cn_runtime_launch(const cn_fiber_launch *launch, size_t args_bytes, cudaStream_t stream);

typedef enum cn_runtime_schedule {
    CN_RUNTIME_LAZY,             // what a wait needs, when it is waited for: the default
    CN_RUNTIME_EAGER,            // everything at once
    CN_RUNTIME_RANDOM            // some of anything at every call
} cn_runtime_schedule;

void cn_runtime_schedule_set(cn_runtime_schedule schedule, uint64_t seed);

/* What the kernel that failed had to say; "" if none has. The error stays until the reset, which also
 * forgets everything that is queued. */
const char *cn_runtime_fault(void);
void cn_runtime_reset(void);

/* The `skip`-th next call of this function (0: the next) fails with `error`. */
void cn_runtime_fail(cn_runtime_call call, uint32_t skip, cudaError_t error);

/* How often each function was called since the program began. */
uint64_t cn_runtime_called(cn_runtime_call call);
const char *cn_runtime_call_name(cn_runtime_call call);

#ifdef __cplusplus
}
#endif
