/* gemm: c[r][o] = sum over i of a[r][i] * w[o][i], then stored, added, or silu(gate) * up.
 *   shapes  a [rows][in] bf16, in a multiple of 32; w packed (kernels_int.h), out padded to 32; c float, or
 *           bf16 [rows][out / 2] for SwiGLU, whose gate and up take turns of 8 outputs
 *   floor   w once: 2 * in * out bytes; 4096 x 4096: 33.6 MB, 7.8 us at 4.3 TB/s. From 184 rows on (H200)
 *           the tensor cores are the bound: 2 * rows * in * out operations
 *   launch  stream: up to 32 rows, a block of 8 warps per 32 outputs, each warp an eighth of the inputs
 *           tile: more rows, a block of 4 x 2 warps per 128 outputs x 128 rows, each warp 32 x 64
 *
 *   The weights are the 16 rows of an mma and the tokens its 8 columns, so one token wastes 7/8 of the
 *   tensor core and nothing of the memory. Packed weights need no shared memory: the 32 lanes read 512
 *   bytes in a row and hold their fragment. The sum over inputs does not care for their names, so they
 *   are dealt such that a lane's 16 bytes of activations are its operands of two mma:
 *
 *     inputs of a group   0 1 2 3 4 5 6 7 | 8 ... 15 | 16 ... 23 | 24 ... 31
 *     lane % 4                  0         |     1    |     2     |     3
 *     mma                 1 1 1 1 2 2 2 2 | 1 1 1 1 2 2 2 2 ...
 *
 *   order   inside a slice (an eighth of the groups, fixed by `in`) group after group; then the 8 slices in
 *           order, from zero. Both kernels do the same, so a row's bits do not depend on how many rows
 *           there are, which is also why nothing is ever split by the number of rows. */
#include "kernels/cuda/launch.cuh"

#include "kernels/cuda/kernels_int.h"

enum { STREAM_THREADS = 256, STREAM_ROWS_MAX = 32, TILE_THREADS = 256, TILE_ROWS = 128, PAD_OUT = 36 };

struct gemm_args {
    const uint4 *w, *a;
    void *c;
    const uint32_t *row_count;
    uint32_t first_row, row_max, groups, out_tiles, c_stride;
};

static __device__ __forceinline__ uint32_t rows_of(const gemm_args &p)
{
    const uint32_t count = *p.row_count, left = count > p.first_row ? count - p.first_row : 0;
    return left < p.row_max ? left : p.row_max;
}

static __device__ __forceinline__ uint32_t slice_begin(uint32_t slice, uint32_t groups)
{
    return (uint32_t)((uint64_t)slice * groups / CN_CUDA_SLICES);
}

/* acc[m][n] += groups [begin, end) of outputs 16 m .. and of rows 8 n ..; `a` is this lane's 16 bytes of its
 * row in group 0, rows lie `row_step` apart per n; only the first `live` n are there. */
template <int N>
static __device__ __forceinline__ void add_slice(const uint4 *w, const uint4 *a, uint64_t row_step, uint32_t begin,
                                                 uint32_t end, uint32_t live, float acc[2][N][4])
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll 4
    for (uint32_t g = begin; g < end; g++) {
        uint4 f[4];
#pragma unroll
        for (int i = 0; i < 4; i++) f[i] = ptx_load_stream(w + ((uint64_t)g * 4 + i) * 32 + lane);
#pragma unroll
        for (int n = 0; n < N; n++) {
            if (n >= (int)live) break;
            const uint4 b = a[n * row_step + g * 4];
#pragma unroll
            for (int m = 0; m < 2; m++) {
                const uint32_t first[4] = {f[m * 2].x, f[m * 2].y, f[m * 2].z, f[m * 2].w};
                const uint32_t second[4] = {f[m * 2 + 1].x, f[m * 2 + 1].y, f[m * 2 + 1].z, f[m * 2 + 1].w};
                ptx_mma(acc[m][n], first, b.x, b.y);
                ptx_mma(acc[m][n], second, b.z, b.w);
            }
        }
    }
}

static __device__ __forceinline__ float swiglu(float gate, float up)
{
    return gate / (1.0f + ptx_exp2(-1.44269504f * gate)) * up;
}

static __device__ __forceinline__ uint16_t to_bf16(float x) { return (uint16_t)ptx_pack_bf16(x, 0.0f); }

// ---- few rows

template <int N> struct stream_shared {
    float sums[CN_CUDA_SLICES][N * 8][PAD_OUT];
};

template <int N, cn_cuda_epilogue E>
__global__ void __launch_bounds__(STREAM_THREADS, 2) stream_kernel(gemm_args p)
{
    CN_SHARED(stream_shared<N>, shared);
    const uint32_t rows = rows_of(p), lane = threadIdx.x % 32, slice = threadIdx.x / 32;
    if (rows == 0) return;
    const uint4 *w = p.w + (uint64_t)blockIdx.x * p.groups * 128;
    const uint4 *a = p.a + (uint64_t)(p.first_row + lane / 4) * p.groups * 4 + lane % 4;
    float acc[2][N][4] = {};
    add_slice<N>(w, a, (uint64_t)p.groups * 32, slice_begin(slice, p.groups), slice_begin(slice + 1, p.groups),
                 (rows + 7) / 8, acc);
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                shared.sums[slice][n * 8 + lane % 4 * 2 + i % 2][m * 16 + i / 2 * 8 + lane / 4] = acc[m][n][i];
            }
        }
    }
    __syncthreads();
    const uint32_t outs = E == CN_CUDA_SWIGLU ? 16 : 32;
    for (uint32_t i = threadIdx.x; i < N * 8 * outs; i += STREAM_THREADS) {
        const uint32_t row = i / outs, o = i % outs, at = E == CN_CUDA_SWIGLU ? o / 8 * 16 + o % 8 : o;
        if (row >= rows) break;
        float sum = 0.0f, up = 0.0f;
        for (uint32_t s = 0; s < CN_CUDA_SLICES; s++) {
            sum += shared.sums[s][row][at];
            if (E == CN_CUDA_SWIGLU) up += shared.sums[s][row][at + 8];
        }
        const uint64_t to = (uint64_t)row * p.c_stride + blockIdx.x * outs + o;
        if (E == CN_CUDA_STORE) ((float *)p.c)[to] = sum;
        if (E == CN_CUDA_ADD) ((float *)p.c)[to] += sum;
        if (E == CN_CUDA_SWIGLU) ((uint16_t *)p.c)[to] = to_bf16(swiglu(sum, up));
    }
}

// ---- many rows

template <cn_cuda_epilogue E>
static __device__ __forceinline__ void finish(const gemm_args &p, uint32_t out, uint32_t row, float sum, float up)
{
    const uint64_t to = (uint64_t)row * p.c_stride + out;
    if (E == CN_CUDA_STORE) ((float *)p.c)[to] = sum;
    if (E == CN_CUDA_ADD) ((float *)p.c)[to] += sum;
    if (E == CN_CUDA_SWIGLU) ((uint16_t *)p.c)[to] = to_bf16(swiglu(sum, up));
}

template <cn_cuda_epilogue E> __global__ void __launch_bounds__(TILE_THREADS) tile_kernel(gemm_args p)
{
    enum { N = 8 };
    const uint32_t rows = rows_of(p), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t tile = blockIdx.x * 4 + warp % 4, row = blockIdx.y * TILE_ROWS + warp / 4 * 64;
    if (tile >= p.out_tiles || row >= rows) return;
    const uint32_t live = (rows - row + 7) / 8;
    const uint4 *w = p.w + (uint64_t)tile * p.groups * 128;
    const uint4 *a = p.a + (uint64_t)(p.first_row + row + lane / 4) * p.groups * 4 + lane % 4;
    float total[2][N][4] = {};
    for (uint32_t slice = 0; slice < CN_CUDA_SLICES; slice++) {
        float acc[2][N][4] = {};
        add_slice<N>(w, a, (uint64_t)p.groups * 32, slice_begin(slice, p.groups),
                     slice_begin(slice + 1, p.groups), live, acc);
#pragma unroll
        for (int i = 0; i < 2 * N * 4; i++) total[i / (N * 4)][i / 4 % N][i % 4] += acc[i / (N * 4)][i / 4 % N][i % 4];
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t r = row + n * 8 + lane % 4 * 2 + i;
            if (r >= rows) continue;
#pragma unroll
            for (int m = 0; m < 2; m++) {
                const float first = total[m][n][i], second = total[m][n][i + 2];
                if (E == CN_CUDA_SWIGLU) {
                    finish<E>(p, tile * 16 + m * 8 + lane / 4, r, first, second);
                } else {
                    finish<E>(p, tile * 32 + m * 16 + lane / 4, r, first, 0.0f);
                    finish<E>(p, tile * 32 + m * 16 + 8 + lane / 4, r, second, 0.0f);
                }
            }
        }
    }
}

template <cn_cuda_epilogue E>
static cudaError_t launch(const gemm_args &args, uint32_t row_max, cudaStream_t stream)
{
    if (row_max <= 8) {
        return gpu_launch("gemm_stream", stream_kernel<1, E>,
                          gpu_grid{args.out_tiles, 1, STREAM_THREADS, sizeof(stream_shared<1>)}, stream, args);
    }
    if (row_max <= 16) {
        return gpu_launch("gemm_stream", stream_kernel<2, E>,
                          gpu_grid{args.out_tiles, 1, STREAM_THREADS, sizeof(stream_shared<2>)}, stream, args);
    }
    if (row_max <= STREAM_ROWS_MAX) {
        return gpu_launch("gemm_stream", stream_kernel<4, E>,
                          gpu_grid{args.out_tiles, 1, STREAM_THREADS, sizeof(stream_shared<4>)}, stream, args);
    }
    const gpu_grid grid = {(args.out_tiles + 3) / 4, (row_max + TILE_ROWS - 1) / TILE_ROWS, TILE_THREADS, 0};
    return gpu_launch("gemm_tile", tile_kernel<E>, grid, stream, args);
}

cudaError_t CN_CUDA(gemm_launch)(const cn_cuda_product *p, cudaStream_t stream)
{
    if (p->in % CN_CUDA_IN_GROUP != 0 || p->out % CN_CUDA_OUT_TILE != 0 || p->row_max == 0) {
        return cudaErrorInvalidValue;
    }
    const gemm_args args = {(const uint4 *)p->w, (const uint4 *)p->a, p->c, p->row_count, p->first_row, p->row_max,
                            p->in / CN_CUDA_IN_GROUP, p->out / CN_CUDA_OUT_TILE, p->c_stride};
    switch (p->epilogue) {
    case CN_CUDA_STORE: return launch<CN_CUDA_STORE>(args, p->row_max, stream);
    case CN_CUDA_ADD: return launch<CN_CUDA_ADD>(args, p->row_max, stream);
    case CN_CUDA_SWIGLU: return launch<CN_CUDA_SWIGLU>(args, p->row_max, stream);
    }
    return cudaErrorInvalidValue;
}
