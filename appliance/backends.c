#include "appliance/backends.h"

#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cuda/cuda.h"

static const cn_backend_ops *const backends[] = {
    &cn_cpu_ops,
#if defined(CN_HAS_CUDA)
    &cn_cuda_ops,
#endif
    &cn_cuda_emu_ops,
};

const cn_backend_ops *cn_backends_find(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (strcmp(backends[i]->name, name) == 0) return backends[i];
    }
    return NULL;
}

const char *cn_backends_names(void)
{
#if defined(CN_HAS_CUDA)
    return "cpu, cuda, cuda-emu";
#else
    return "cpu, cuda-emu";
#endif
}

int cn_backends_numerics(const char *name)
{
    if (!name[0]) return CN_NUMERICS_DEFAULT;
    if (strcmp(name, "per_rank") == 0) return CN_NUMERICS_PER_RANK;
    return strcmp(name, "shard_invariant") == 0 ? CN_NUMERICS_SHARD_INVARIANT : -1;
}
