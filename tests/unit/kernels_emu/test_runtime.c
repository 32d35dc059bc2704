#include "tests/unit/cmocka_all.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/kernels_emu/planted.h"

/* What the fake runtime makes of right and of wrong host code: the wrong one must fail every time under the
 * default schedule, in which nothing runs that nobody waits for. */

typedef struct world {
    cudaStream_t first, second;
    cudaEvent_t event;
    uint32_t *device, *pinned;
} world;

static world open_world(void)
{
    world w;
    assert_int_equal(cudaStreamCreateWithFlags(&w.first, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&w.second, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&w.event, 0), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&w.device, sizeof *w.device), cudaSuccess);
    assert_int_equal(cudaHostAlloc((void **)&w.pinned, sizeof *w.pinned, 0), cudaSuccess);
    *w.pinned = 7;
    return w;
}

static void close_world(world *w)
{
    cudaFree(w->device);
    cudaFreeHost(w->pinned);
    cudaEventDestroy(w->event);
    cudaStreamDestroy(w->first);
    cudaStreamDestroy(w->second);
}

static void copy(void *to, const void *from, cudaMemcpyKind kind, cudaStream_t stream)
{
    assert_int_equal(cudaMemcpyAsync(to, from, sizeof(uint32_t), kind, stream), cudaSuccess);
}

// 7 goes to the device, is counted up and comes back on another stream.
static uint32_t across_streams(bool with_event, bool waits, bool reuses)
{
    world w = open_world();
    uint32_t *back;
    assert_int_equal(cudaHostAlloc((void **)&back, sizeof *back, 0), cudaSuccess);
    *back = 0;
    copy(w.device, w.pinned, cudaMemcpyHostToDevice, w.first);
    if (reuses) *w.pinned = 100;
    assert_int_equal(cn_planted_count(w.device, w.first), cudaSuccess);
    assert_int_equal(cudaEventRecord(w.event, w.first), cudaSuccess);
    if (with_event) assert_int_equal(cudaStreamWaitEvent(w.second, w.event, 0), cudaSuccess);
    copy(back, w.device, cudaMemcpyDeviceToHost, w.second);
    if (waits) assert_int_equal(cudaStreamSynchronize(w.second), cudaSuccess);
    const uint32_t seen = *back;
    assert_int_equal(cudaStreamSynchronize(w.first), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(w.second), cudaSuccess);
    cudaFreeHost(back);
    close_world(&w);
    return seen;
}

static void order_is_what_was_asked_for(void **state)
{
    (void)state;
    assert_int_equal(across_streams(true, true, false), 8);
    assert_int_not_equal(across_streams(false, true, false), 8);     // a missing event
    assert_int_not_equal(across_streams(true, false, false), 8);     // a result that is read too soon
    assert_int_not_equal(across_streams(true, true, true), 8);       // a pinned buffer that is filled too early
    for (uint64_t seed = 1; seed < 20; seed++) {
        cn_runtime_schedule_set(CN_RUNTIME_RANDOM, seed);
        assert_int_equal(across_streams(true, true, false), 8);
    }
    cn_runtime_schedule_set(CN_RUNTIME_EAGER, 0);
    assert_int_equal(across_streams(true, true, false), 8);
    cn_runtime_schedule_set(CN_RUNTIME_LAZY, 0);
}

static void memory_that_is_not_pinned_is_taken_at_once(void **state)
{
    (void)state;
    world w = open_world();
    uint32_t plain = 41, back = 0;
    copy(w.device, &plain, cudaMemcpyHostToDevice, w.first);
    plain = 0;
    assert_int_equal(cn_planted_count(w.device, w.first), cudaSuccess);
    copy(&back, w.device, cudaMemcpyDeviceToHost, w.first);          // waits
    assert_int_equal(back, 42);
    close_world(&w);
}

static void the_host_cannot_touch_the_device(void **state)
{
    (void)state;
    world w = open_world();
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile uint32_t *)w.device = 1;
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);    // a sanitizer exits
    close_world(&w);
}

static void graphs_run_as_often_as_they_are_launched(void **state)
{
    (void)state;
    world w = open_world();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    copy(w.device, w.pinned, cudaMemcpyHostToDevice, w.first);
    assert_int_equal(cudaStreamBeginCapture(w.first, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(cn_planted_count(w.device, w.first), cudaSuccess);
    assert_int_equal(cudaEventRecord(w.event, w.first), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cn_planted_count(w.device, w.first), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(w.first, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    for (int i = 0; i < 3; i++) assert_int_equal(cudaGraphLaunch(exec, w.first), cudaSuccess);
    copy(w.pinned, w.device, cudaMemcpyDeviceToHost, w.first);
    assert_int_equal(cudaStreamSynchronize(w.first), cudaSuccess);
    assert_int_equal(*w.pinned, 7 + 3 * 2);
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
    close_world(&w);
}

static void events_happen_when_somebody_waits(void **state)
{
    (void)state;
    world w = open_world();
    assert_int_equal(cudaEventQuery(w.event), cudaSuccess);          // never recorded
    assert_int_equal(cudaEventRecord(w.event, w.first), cudaSuccess);
    assert_int_equal(cudaEventQuery(w.event), cudaErrorNotReady);
    assert_int_equal(cudaEventSynchronize(w.event), cudaSuccess);
    assert_int_equal(cudaEventQuery(w.event), cudaSuccess);
    close_world(&w);
}

static void calls_fail_when_told_and_are_counted(void **state)
{
    (void)state;
    void *memory;
    const uint64_t calls = cn_runtime_called(CN_RUNTIME_cudaMalloc);
    cn_runtime_fail(CN_RUNTIME_cudaMalloc, 1, cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&memory, 16), cudaSuccess);
    cudaFree(memory);
    assert_int_equal(cudaMalloc(&memory, 16), cudaErrorMemoryAllocation);
    assert_null(memory);
    assert_int_equal(cudaMalloc(&memory, 16), cudaSuccess);
    cudaFree(memory);
    assert_int_equal(cn_runtime_called(CN_RUNTIME_cudaMalloc), calls + 3);
    assert_string_equal(cn_runtime_call_name(CN_RUNTIME_cudaMalloc), "cudaMalloc");
    assert_int_equal(cudaFree((void *)8), cudaErrorInvalidValue);
    assert_int_equal(cudaMalloc(&memory, 0), cudaErrorInvalidValue);
}

int main(void)
{
    alarm(600);                  // a wait that never ends
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_what_was_asked_for),
        cmocka_unit_test(memory_that_is_not_pinned_is_taken_at_once),
        cmocka_unit_test(the_host_cannot_touch_the_device),
        cmocka_unit_test(graphs_run_as_often_as_they_are_launched),
        cmocka_unit_test(events_happen_when_somebody_waits),
        cmocka_unit_test(calls_fail_when_told_and_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
