// The one header that kernels include: nvcc sees a thin layer over CUDA, a C++ compiler the
// emulation (tests/cuda_emulation), which runs the same text on the CPU. Rules for kernels, so that
// both can:
//  - launch(kernel<...>, grid, block, shared_bytes, arguments...), never <<<>>>; a kernel is local
//    to its .cu file;
//  - shared memory by TENUN_SHARED(T, name, count) and TENUN_DYNAMIC_SHARED(T, name);
//  - exchanges inside a warp by the _sync operations with the true mask; PTX only in cuda/ptx.h and
//    cuda/hopper_ptx.h, beside its twins in tests/cuda_emulation/;
//  - TENUN_UNROLL, TENUN_NO_UNROLL before a loop; no CUDA headers, fmt or parallel_for.
//
//   template <class T> __global__ void twice(T* x, int64_t n) { ... }
//   void twice_f32(Tensor& x) { launch(twice<float>, grid_for(n), kThreads, 0,
//   x.mutable_data<float>(), n); }
#pragma once
#include <cstdint>
#include <utility>

#include "tenun/cuda/runtime.h"

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include "tenun/cuda/ptx.h"

#define TENUN_UNROLL _Pragma("unroll")
#define TENUN_NO_UNROLL _Pragma("unroll 1")
#define TENUN_SHARED(T, name, count) __shared__ T name[count]
#define TENUN_DYNAMIC_SHARED(T, name)                               \
  extern __shared__ __align__(128) unsigned char dynamic_shared_[]; \
  T* const name = reinterpret_cast<T*>(dynamic_shared_)

namespace tenun::TENUN_BACKEND {

[[nodiscard]] cudaStream_t stream();
/// Above 48 KiB of dynamic shared memory a kernel must be allowed to have them, once.
void allow_shared(const void* kernel, size_t bytes);
/// Throws if the launch was refused; notes the op for reports of faults that show later.
void launched(cudaError_t error);

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A&&... arguments) {
  if (shared_bytes > 48 * 1024) allow_shared(reinterpret_cast<const void*>(kernel), shared_bytes);
  cudaLaunchConfig_t c{};
  c.gridDim = grid;
  c.blockDim = block;
  c.dynamicSmemBytes = shared_bytes;
  c.stream = stream();
  launched(cudaLaunchKernelEx(&c, kernel, static_cast<P>(std::forward<A>(arguments))...));
}

}  // namespace tenun::TENUN_BACKEND

#else

#include "tenun/tests/cuda_emulation/emulation.h"
#include "tenun/tests/cuda_emulation/tensor_core.h"

namespace tenun::TENUN_BACKEND {

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A&&... arguments) {
  if (emulation::recorded == nullptr)
    return emulation::run(grid, block, shared_bytes, [&] { kernel(static_cast<P>(arguments)...); });
  // As on the device, the arguments are copied now and the kernel runs later.
  emulation::record(reinterpret_cast<const void*>(kernel),
                    [=, given = std::tuple<P...>(static_cast<P>(arguments)...)] {
                      emulation::run(grid, block, shared_bytes, [&] { std::apply(kernel, given); });
                    });
}

}  // namespace tenun::TENUN_BACKEND

#endif

namespace tenun::TENUN_BACKEND {

/// Threads of a block, where nothing else is said. Kernels have __launch_bounds__(kThreads, 1):
/// without the 1 ptxas spills registers for an occupancy that nobody asked for.
inline constexpr int kThreads = 256;
inline constexpr unsigned kFullWarp = 0xffffffffu;

/// Blocks for n independent items, `per_block` in each, at most `most` (a loop does the rest).
[[nodiscard]] inline dim3 grid_for(int64_t n, int64_t per_block = kThreads, int64_t most = 16384) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  return dim3(static_cast<unsigned>(blocks < 1 ? 1 : blocks < most ? blocks : most));
}

/// The same blocks for each of y times z further indices. Kernels take outer indices from the grid:
/// a division of 64 bits is a subroutine, and costs registers.
[[nodiscard]] inline dim3 grid_deep(dim3 grid, int64_t y, int64_t z = 1) {
  const auto most = [](int64_t n) { return static_cast<unsigned>(n < 65535 ? n : 65535); };
  return dim3(grid.x, most(y), most(z));
}

/// The loop of a kernel over n items: for_each_item(n, [&](int64_t i) { ... }).
template <class F>
__device__ void for_each_item(int64_t n, F&& f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

/// Blocks and threads for rows of n items: x is a thread's item, y its row, so no division finds
/// it.
struct RowGrid {
  dim3 grid, block;
};
[[nodiscard]] inline RowGrid grid_of_rows(int64_t rows, int64_t n, int64_t outer = 1) {
  // A warp to a row leaves few threads idle; fewer for short rows, more where rows are few.
  int width = 1;
  while (width < n && width < kThreads && (width < 32 || width * rows < kThreads)) width *= 2;
  const int height = kThreads / width;
  return {grid_deep(grid_for(n, width, 0x7fffffff), (rows + height - 1) / height, outer),
          dim3(width, height)};
}
/// The loop of such a kernel: for_each_in_rows(rows, n, [&](int64_t r, int64_t i) { ... }).
template <class F>
__device__ void for_each_in_rows(int64_t rows, int64_t n, F&& f) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t step = int64_t{gridDim.y} * blockDim.y;
  for (int64_t r = int64_t{blockIdx.y} * blockDim.y + threadIdx.y; r < rows; r += step) f(r, i);
}

}  // namespace tenun::TENUN_BACKEND
