/* kernels/cuda/ptx.cuh: the instructions that CUDA C++ has no words for, one small function each.
 * Every function has two halves: the instruction, and for the emulator what the instruction does. All of
 * them are in sm_80. Nothing else in the tree contains PTX.
 *
 * Threads: inside a kernel; what a whole warp does together says so.
 * Memory:  none. */
#pragma once

#include <stdint.h>

#if defined(CN_EMU)
#include "kernels/emu/device.h"
#else
#include <cuda_runtime.h>
#endif

/* Two floats to bf16, to nearest even; `low` in the low half. */
static __device__ __forceinline__ uint32_t ptx_pack_bf16(float low, float high);
/* 2^x; within 2^-22 relative on a GPU, 0 for -infinity. */
static __device__ __forceinline__ float ptx_exp2(float x);
/* 16 bytes that nobody reads again: passes the first cache by. */
static __device__ __forceinline__ uint4 ptx_load_stream(const uint4 *at);
/* [warp] Four 8x8 matrices of 16-bit elements from shared memory; lane i names row i % 8 of matrix i / 8,
 * 16 bytes, aligned. A lane gets elements 2 * (lane % 4) and the next of row lane / 4 of each. */
static __device__ __forceinline__ void ptx_ldmatrix(uint32_t out[4], const void *row);
/* [warp] The same, each matrix transposed. */
static __device__ __forceinline__ void ptx_ldmatrix_trans(uint32_t out[4], const void *row);
/* [warp] c += a b: a 16x16 bf16, b 16x8 bf16, c 16x8 float, in the fragments of mma.m16n8k16. */
static __device__ __forceinline__ void ptx_mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1);
/* 16 bytes from global to shared memory, or zeros where `valid` is false; lands when waited for. */
static __device__ __forceinline__ void ptx_copy16(void *shared, const void *global, bool valid);
/* Closes the group of copies that this thread asked for. */
static __device__ __forceinline__ void ptx_copy_commit();
/* Waits until at most `groups` of this thread's groups are on their way. */
template <int groups> static __device__ __forceinline__ void ptx_copy_wait();

#if defined(CN_EMU)

static inline float ptx_bf16_to_float(uint32_t bits) { return __uint_as_float(bits << 16); }

static inline uint32_t ptx_round_bf16(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;
    return (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
}

static inline uint32_t ptx_pack_bf16(float low, float high)
{
    return ptx_round_bf16(low) | ptx_round_bf16(high) << 16;
}

static inline float ptx_exp2(float x) { return exp2f(x); }

static inline uint4 ptx_load_stream(const uint4 *at)
{
    if ((uintptr_t)at % 16) cn_fiber_fault("load of 16 bytes at %p, which is not aligned", (const void *)at);
    cn_fiber_counted.stream_bytes += 16;
    return *at;
}

struct ptx_matrix_rows {
    const void *row;
    uint32_t out[4];
};

// Banks are 4 bytes wide and there are 32: of the 8 rows of a phase, those in the same 16 of 128 bytes wait.
static inline void ptx_count_conflicts(void *const *lanes, uint32_t matrix)
{
    uint32_t in_column[8] = {}, most = 0;
    for (uint32_t i = 0; i < 8; i++) {
        const uintptr_t at = (uintptr_t)((const ptx_matrix_rows *)lanes[matrix * 8 + i])->row;
        const uint32_t n = ++in_column[at / 16 % 8];
        if (n > most) most = n;
    }
    cn_fiber_counted.matrix_phases++;
    cn_fiber_counted.matrix_conflicts += most - 1;
}

template <bool transposed> static inline void ptx_ldmatrix_join(void *const *lanes, uint32_t)
{
    for (uint32_t matrix = 0; matrix < 4; matrix++) {
        uint16_t rows[8][8];
        ptx_count_conflicts(lanes, matrix);
        for (uint32_t i = 0; i < 8; i++) memcpy(rows[i], ((ptx_matrix_rows *)lanes[matrix * 8 + i])->row, 16);
        for (uint32_t lane = 0; lane < 32; lane++) {
            const uint32_t r = lane / 4, c = lane % 4 * 2;
            const uint32_t low = transposed ? rows[c][r] : rows[r][c];
            const uint32_t high = transposed ? rows[c + 1][r] : rows[r][c + 1];
            ((ptx_matrix_rows *)lanes[lane])->out[matrix] = low | high << 16;
        }
    }
}

template <bool transposed> static inline void ptx_ldmatrix_any(uint32_t out[4], const void *row)
{
    ptx_matrix_rows mine = {row, {}};
    size_t bytes;
    const char *shared = (const char *)cn_fiber_shared(&bytes), *at = (const char *)row;
    if ((uintptr_t)row % 16) cn_fiber_fault("ldmatrix of a row at %p, which is not aligned", row);
    if (at < shared || at + 16 > shared + bytes) {
        cn_fiber_fault("ldmatrix of a row %lld bytes into the %zu of shared memory",
                       (long long)(at - shared), bytes);
    }
    // Read here as well, by the thread that names the row: a race detector knows threads.
    uint16_t check[8];
    memcpy(check, row, sizeof check);
    cn_fiber_meet(0xFFFFFFFFu, transposed ? "ldmatrix.trans" : "ldmatrix", ptx_ldmatrix_join<transposed>,
                  &mine, false);
    memcpy(out, mine.out, sizeof mine.out);
}

static inline void ptx_ldmatrix(uint32_t out[4], const void *row) { ptx_ldmatrix_any<false>(out, row); }
static inline void ptx_ldmatrix_trans(uint32_t out[4], const void *row) { ptx_ldmatrix_any<true>(out, row); }

struct ptx_mma_operands {
    uint32_t a[4], b[2];
    float c[4];
};

static inline void ptx_mma_join(void *const *lanes, uint32_t)
{
    float a[16][16], b[16][8];
    for (uint32_t lane = 0; lane < 32; lane++) {
        const ptx_mma_operands *o = (const ptx_mma_operands *)lanes[lane];
        const uint32_t r = lane / 4, k = lane % 4 * 2;
        for (uint32_t i = 0; i < 4; i++) {
            a[r + i % 2 * 8][k + i / 2 * 8] = ptx_bf16_to_float(o->a[i] & 0xFFFF);
            a[r + i % 2 * 8][k + i / 2 * 8 + 1] = ptx_bf16_to_float(o->a[i] >> 16);
        }
        for (uint32_t i = 0; i < 2; i++) {
            b[k + i * 8][r] = ptx_bf16_to_float(o->b[i] & 0xFFFF);
            b[k + i * 8 + 1][r] = ptx_bf16_to_float(o->b[i] >> 16);
        }
    }
    for (uint32_t row = 0; row < 16; row++) {
        float sum[8] = {};
        for (uint32_t k = 0; k < 16; k++) {
            for (uint32_t n = 0; n < 8; n++) sum[n] += a[row][k] * b[k][n];
        }
        for (uint32_t n = 0; n < 8; n++) {
            ptx_mma_operands *o = (ptx_mma_operands *)lanes[row % 8 * 4 + n / 2];
            o->c[row / 8 * 2 + n % 2] += sum[n];
        }
    }
    cn_fiber_counted.mma++;
}

static inline void ptx_mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    ptx_mma_operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
    cn_fiber_meet(0xFFFFFFFFu, "mma", ptx_mma_join, &mine, false);
    memcpy(c, mine.c, sizeof mine.c);
}

static inline void ptx_copy16(void *shared, const void *global, bool valid)
{
    cn_fiber_thread *t = cn_fiber_self;
    size_t bytes;
    char *begin = (char *)cn_fiber_shared(&bytes), *to = (char *)shared;
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) cn_fiber_fault("asynchronous copy is not aligned");
    if (to < begin || to + 16 > begin + bytes) {
        cn_fiber_fault("asynchronous copy to %lld bytes into the %zu of shared memory",
                       (long long)(to - begin), bytes);
    }
    if (t->copy_count == CN_FIBER_COPIES_MAX) cn_fiber_fault("%d copies wait; too many", CN_FIBER_COPIES_MAX);
    memset(shared, 0xFF, 16);
    t->copies[t->copy_count++] = {shared, valid ? global : nullptr, 16, t->copy_group};
    cn_fiber_counted.copy_bytes += valid ? 16 : 0;
}

static inline void ptx_copy_commit() { cn_fiber_self->copy_group++; }

template <int groups> static inline void ptx_copy_wait()
{
    cn_fiber_thread *t = cn_fiber_self;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->copy_count; i++) {
        const cn_fiber_copy copy = t->copies[i];
        if (copy.group + groups >= t->copy_group) t->copies[kept++] = copy;
        else if (copy.from) memcpy(copy.to, copy.from, copy.bytes);
        else memset(copy.to, 0, copy.bytes);
    }
    t->copy_count = kept;
}

#else

static __device__ __forceinline__ uint32_t ptx_shared(const void *at)
{
    return (uint32_t)__cvta_generic_to_shared(at);
}

static __device__ __forceinline__ uint32_t ptx_pack_bf16(float low, float high)
{
    uint32_t out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
}

static __device__ __forceinline__ float ptx_exp2(float x)
{
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}

static __device__ __forceinline__ uint4 ptx_load_stream(const uint4 *at)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at));
    return v;
}

static __device__ __forceinline__ void ptx_ldmatrix(uint32_t out[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(ptx_shared(row))
                 : "memory");
}

static __device__ __forceinline__ void ptx_ldmatrix_trans(uint32_t out[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(ptx_shared(row))
                 : "memory");
}

static __device__ __forceinline__ void ptx_mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void ptx_copy16(void *shared, const void *global, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(ptx_shared(shared)), "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}

static __device__ __forceinline__ void ptx_copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int groups> static __device__ __forceinline__ void ptx_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

#endif
