/* kernels/cpu/cpu.h: the backend that runs on the processor: the reference, and really usable.
 *
 * Threads: as kernels/backend.h says.
 * Memory:  weights once, packed; KV pages as configured; scratch for the largest step. */
#pragma once

#include "kernels/backend.h"

extern const cn_backend_ops cn_cpu_ops;
