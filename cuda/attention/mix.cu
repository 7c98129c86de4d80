// Row products and the gated sum of two branches: a warp for each row.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/plain_tile.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

constexpr int64_t kWarps = kThreads / 32;

template <class C>
__device__ __forceinline__ C lane_sum(C v) {
  TENUN_UNROLL
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(kFullWarp, v, o);
  return v;
}
__device__ __forceinline__ int64_t warp_row() {
  return int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
}
__device__ __forceinline__ int64_t row_offset(const Rows& x, int64_t row, int64_t n) {
  return head_offset(x, row / n) + row % n * x.row;
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) row_dot_kernel(const RowDot a) {
  const int64_t row = warp_row();
  if (row >= a.heads * a.n) return;
  const int64_t x = row_offset(a.a, row, a.n), y = row_offset(a.b, row, a.n);
  C sum = 0;
  for (int64_t c = threadIdx.x % 32; c < a.d; c += 32)
    sum += element<C>(a.a, x + c * a.a.column) * element<C>(a.b, y + c * a.b.column);
  sum = lane_sum(sum);
  if (threadIdx.x % 32 == 0) static_cast<C*>(a.y)[row] = sum;
}

__global__ void __launch_bounds__(kThreads, 1) weight_gradient_kernel(const WeightGradient a) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= a.pairs) return;
  const float* const parts = a.parts + i / a.tn * a.per * a.tn + i % a.tn;
  float sum = 0;
  for (int64_t k = 0; k < a.per; ++k) sum += parts[k * a.tn];
  const float w = static_cast<const float*>(a.weight)[i];
  static_cast<float*>(a.dweight)[i] = sum / at_least_smallest(w);
}

template <class C>
__device__ __forceinline__ C gate_of(const Mix& a, int64_t row) {
  const int64_t blocks = blocks_of(a.n, a.block);
  return static_cast<const C*>(a.gate)[row / a.n * blocks + row % a.n / a.block];
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) mix_kernel(const Mix a) {
  const int64_t row = warp_row();
  if (row >= a.heads * a.n) return;
  const C g = gate_of<C>(a, row);
  const int64_t x = row_offset(a.a, row, a.n), y = row_offset(a.b, row, a.n);
  for (int64_t c = threadIdx.x % 32; c < a.d; c += 32) {
    // A closed gate must not let a NaN or infinity of the other branch through.
    C v = element<C>(a.a, x + c * a.a.column);
    if (g != C(1)) v = g * v + (C(1) - g) * element<C>(a.b, y + c * a.b.column);
    store_as(a.o, a.o_dtype, row * a.d + c, v);
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) mix_gradient_kernel(const MixGradient a) {
  const int64_t row = warp_row();
  if (row >= a.of.heads * a.of.n) return;
  const C g = gate_of<C>(a.of, row);
  const int64_t from = row_offset(a.dy, row, a.of.n);
  for (int64_t c = threadIdx.x % 32; c < a.of.d; c += 32) {
    const C dy = element<C>(a.dy, from + c * a.dy.column);
    if (a.da != nullptr) static_cast<C*>(a.da)[row * a.of.d + c] = g * dy;
    if (a.db != nullptr) static_cast<C*>(a.db)[row * a.of.d + c] = (C(1) - g) * dy;
  }
}

// A block of threads for each gate: sums of dy (a - b) over its rows, in double and a fixed order.
template <class C>
__global__ void __launch_bounds__(kThreads, 1) gate_gradient_kernel(const MixGradient a) {
  TENUN_SHARED(double, sums, kWarps);
  const Mix& m = a.of;
  const int64_t blocks = blocks_of(m.n, m.block), bh = blockIdx.x / blocks;
  const int64_t first = blockIdx.x % blocks * m.block,
                end = first + m.block < m.n ? first + m.block : m.n;
  const auto at = [](const Rows& x, int64_t b, int64_t i, int64_t c) {
    return element<C>(x, head_offset(x, b) + i * x.row + c * x.column);
  };
  double sum = 0;
  for (int64_t k = threadIdx.x; k < (end - first) * m.d; k += kThreads) {
    const int64_t i = first + k / m.d, c = k % m.d;
    sum += static_cast<double>(at(a.dy, bh, i, c)) *
           static_cast<double>(at(m.a, bh, i, c) - at(m.b, bh, i, c));
  }
  sum = lane_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; ++w) sum += sums[w];
  static_cast<C*>(a.dgate)[blockIdx.x] = static_cast<C>(sum);
}

__global__ void __launch_bounds__(kThreads, 1) base_two_kernel(const BaseTwo a) {
  for_each_item(a.rows + kRowPadding, [&](int64_t i) {
    const float lse = i < a.rows ? a.lse[i] : -INFINITY;
    a.l2[i] = lse == -INFINITY ? INFINITY : lse * 1.4426950408889634f;
    a.padded_delta[i] = i < a.rows ? a.delta[i] : 0;
  });
}

dim3 for_rows(int64_t rows) { return dim3(static_cast<unsigned>((rows + kWarps - 1) / kWarps)); }

}  // namespace

void weight_gradient(const WeightGradient& a) {
  launch(weight_gradient_kernel, dim3(static_cast<unsigned>((a.pairs + kThreads - 1) / kThreads)),
         dim3(kThreads), 0, a);
}
void row_dot(const RowDot& a, DType compute) {
  if (a.heads * a.n > 0)
    launch(compute == DType::f64 ? row_dot_kernel<double> : row_dot_kernel<float>,
           for_rows(a.heads * a.n), dim3(kThreads), 0, a);
}
void base_two(const BaseTwo& a) {
  launch(base_two_kernel, grid_for(a.rows + kRowPadding), dim3(kThreads), 0, a);
}
void mix(const Mix& a, DType compute) {
  if (a.heads * a.n > 0)
    launch(compute == DType::f64 ? mix_kernel<double> : mix_kernel<float>, for_rows(a.heads * a.n),
           dim3(kThreads), 0, a);
}
void mix_gradient(const MixGradient& a, DType compute) {
  const Mix& m = a.of;
  const bool wide = compute == DType::f64;
  if (m.heads * m.n == 0) return;
  if (a.da != nullptr || a.db != nullptr)
    launch(wide ? mix_gradient_kernel<double> : mix_gradient_kernel<float>, for_rows(m.heads * m.n),
           dim3(kThreads), 0, a);
  if (a.dgate != nullptr)
    launch(wide ? gate_gradient_kernel<double> : gate_gradient_kernel<float>,
           dim3(static_cast<unsigned>(m.heads * ((m.n + m.block - 1) / m.block))), dim3(kThreads),
           0, a);
}

}  // namespace tenun::TENUN_BACKEND::attention
