// Matrix products in f32 and f64 by ordinary multiply-adds: where no library is. A block makes 64 x
// 64 elements of c: 16 values of k of both operands at a time go to shared memory, and each of the
// 256 threads adds up 4 x 4 elements in registers, so that a value that was fetched is used 64
// times.
#include "tenun/cuda/elements.h"
#include "tenun/cuda/matmul.h"

namespace tenun::TENUN_BACKEND {
namespace {

constexpr int kSide = 64, kDepth = 16, kEach = 4;

/// One operand's kDepth x kSide values in shared memory; zeros outside of the matrix. The threads
/// walk along the axis that is contiguous in memory.
template <class T>
__device__ void fetch(T (*tile)[kSide], const Operand& x, int64_t batch, int64_t lane0,
                      int64_t lanes, int64_t k0, int64_t k_end) {
  const T* const from = static_cast<const T*>(x.data) + batch * x.batch_stride;
  for (int i = static_cast<int>(threadIdx.x); i < kSide * kDepth; i += kThreads) {
    const bool by_k = x.k_stride == 1;
    const int lane = by_k ? i / kDepth : i % kSide, k = by_k ? i % kDepth : i / kSide;
    const bool inside = lane0 + lane < lanes && k0 + k < k_end;
    tile[k][lane] = inside ? from[(lane0 + lane) * x.lane_stride + (k0 + k) * x.k_stride] : T(0);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) fma_tiles(const MatrixProduct p) {
  TENUN_SHARED(T, shared, 2 * kDepth * kSide);
  auto* const a = reinterpret_cast<T(*)[kSide]>(shared);
  auto* const b = a + kDepth;
  const int row = static_cast<int>(threadIdx.x) / (kSide / kEach) * kEach;
  const int column = static_cast<int>(threadIdx.x) % (kSide / kEach) * kEach;
  const int64_t m0 = int64_t{blockIdx.x} * kSide, n0 = int64_t{blockIdx.y} * kSide;
  for (int64_t batch = blockIdx.z; batch < p.batch; batch += gridDim.z) {
    T sum[kEach][kEach] = {};
    for (int64_t k0 = 0; k0 < p.k; k0 += kDepth) {
      fetch(a, p.a, batch, m0, p.m, k0, p.k);
      fetch(b, p.b, batch, n0, p.n, k0, p.k);
      __syncthreads();
      TENUN_UNROLL
      for (int k = 0; k < kDepth; ++k)
        for (int i = 0; i < kEach; ++i)
          for (int j = 0; j < kEach; ++j) sum[i][j] += a[k][row + i] * b[k][column + j];
      __syncthreads();
    }
    T* const c = static_cast<T*>(p.c) + batch * p.m * p.n;
    for (int i = 0; i < kEach; ++i)
      for (int j = 0; j < kEach; ++j) {
        const int64_t m = m0 + row + i, n = n0 + column + j;
        if (m < p.m && n < p.n)
          c[m * p.n + n] =
              p.bias == nullptr ? sum[i][j] : sum[i][j] + static_cast<const T*>(p.bias)[n];
      }
  }
}

}  // namespace

void fma_product(const MatrixProduct& p) {
  const dim3 grid(static_cast<unsigned>((p.m + kSide - 1) / kSide),
                  static_cast<unsigned>((p.n + kSide - 1) / kSide),
                  static_cast<unsigned>(p.batch < 65535 ? p.batch : 65535));
  visit<DType::f32, DType::f64>(p.type, "matmul",
                                [&]<class T>() { launch(fma_tiles<T>, grid, kThreads, 0, p); });
}

}  // namespace tenun::TENUN_BACKEND
