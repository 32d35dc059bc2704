#include "kernels/cpu/path_int.h"

#include <string.h>

/* How it works. The dot instruction on bf16 pairs has twice the rate of fused float products on AMD's
 * Zen 4 (bench/kernels --floors: 232 against 116 GFLOP/s a core), and half of it on Intel's
 * server cores without AMX. So it is preferred on AMD only; both can be named. */

#if defined(__x86_64__)

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static bool has_avx512_bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

static bool prefers_bf16(void) { return __builtin_cpu_is("amd"); }

#else

static bool has_avx2(void) { return false; }
static bool has_avx512(void) { return false; }
static bool has_avx512_bf16(void) { return false; }
static bool prefers_bf16(void) { return false; }

#endif

enum { PATH_COUNT = 4 };

// The paths of this machine, best first.
static uint32_t list_paths(const cn_path *out[PATH_COUNT])
{
    uint32_t count = 0;
    if (has_avx512_bf16() && prefers_bf16()) out[count++] = &cn_path_avx512_bf16;
    if (has_avx512()) out[count++] = &cn_path_avx512;
    if (has_avx512_bf16() && !prefers_bf16()) out[count++] = &cn_path_avx512_bf16;
    if (has_avx2()) out[count++] = &cn_path_avx2;
    out[count++] = &cn_path_portable;
    return count;
}

const cn_path *cn_path_choose(const char *name)
{
    const cn_path *paths[PATH_COUNT];
    const uint32_t count = list_paths(paths);
    if (!name) return paths[0];
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(paths[i]->name, name) == 0) return paths[i];
    }
    return NULL;
}
