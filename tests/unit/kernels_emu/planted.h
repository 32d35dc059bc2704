/* tests/unit/kernels_emu/planted.h: small kernels with a bug each, to see the net that should catch it.
 *
 * Threads: one.
 * Memory:  device pointers of the emulated device. */
#pragma once

#include "kernels/emu/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum planted {
    PLANTED_NONE,
    PLANTED_NO_BARRIER,          // reads what another warp writes to shared memory
    PLANTED_WAIT_COUNT,          // waits until one group is on its way, and reads that one
    PLANTED_NO_WAIT,             // returns while a copy is on its way
    PLANTED_NO_SYNCWARP,         // reads what another lane copied
    PLANTED_NO_SWIZZLE,          // eight rows of ldmatrix in the same banks
    PLANTED_MISALIGNED,          // ldmatrix of a row at an odd address
    PLANTED_OVERRUN,             // ldmatrix of a row behind shared memory
    PLANTED_LANE_LEFT,           // shuffle with a lane that has returned
    PLANTED_OUTSIDE_MASK,        // shuffle from a lane that the mask leaves out
    PLANTED_OTHER_OPERATION,     // half of a warp at __syncwarp, half in a shuffle
    PLANTED_OTHER_BARRIER,       // half of a block at barrier 1, half at barrier 2
    PLANTED_BARRIER_SIZE         // one warp waits for 64 threads, another one for 32
} planted;

/* out[i] = in[i ^ 32] for 64 floats, through shared memory in a way that has room for the bug. */
cudaError_t cn_planted_launch(planted bug, const float *in, float *out, cudaStream_t stream);

/* *out += 1, for tests of streams. */
cudaError_t cn_planted_count(uint32_t *out, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
