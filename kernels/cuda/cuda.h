/* kernels/cuda/cuda.h: the backend that runs on a GPU, and the same sources in the emulator.
 * cn_cuda_emu_ops is always there and slow; cn_cuda_ops where the tree was built with the CUDA toolkit
 * (CAIRN_CUDA), and its probe says whether there is a device.
 *
 * Threads: as kernels/backend.h says.
 * Memory:  weights in bf16 once, packed; KV pages as configured; scratch for the largest step; pinned
 *          memory of the host for three steps and two settings per slot. */
#pragma once

#include "kernels/backend.h"

extern const cn_backend_ops cn_cuda_emu_ops;
#if defined(CN_HAS_CUDA)
extern const cn_backend_ops cn_cuda_ops;
#endif
