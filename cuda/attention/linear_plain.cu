// The linear branch on the ordinary units: feature maps, products of blocks in f64, and what stands
// between products. With phi_k = phi(k), v' = (v, 1) and weights w between blocks
// (attention.md 1.3, 1.7):
//   h_J = phi_k[J]^T v'[J]     H_I = sum_J w_IJ h_J     (num, den)_i = phi_q[i] H_I
//   G_i = d(num, den)_i        dphi_q[i] = G_i H_I^T    dH_I = phi_q[I]^T G[I]
//   dh_J = sum_I w_IJ dH_I     dphi_k[j] = v'_j dh_J^T  dv_j = phi_k[j] dh_J
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/product.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

// One block of threads: a tile of 32 x 32 of one block's product. f64; the rest is for tensor
// cores.
__global__ void __launch_bounds__(kThreads, 1) product_kernel(const Product p) {
  TENUN_DYNAMIC_SHARED(double, memory);
  double *const at = memory, *const bt = at + kTile * kPitch;
  const int t = static_cast<int>(threadIdx.x), r = t / 8, c = t % 8, lane = t % kTile;
  const auto tile = ProductTile<kTile, kTile>::of(p);
  const int64_t m0 = tile.m0, n0 = tile.n0, m = tile.m, k = tile.k;
  const double* const a = static_cast<const double*>(p.a.p) + tile.offset(p.a);
  const double* const b = static_cast<const double*>(p.b.p) + tile.offset(p.b);
  double sum[4] = {};
  for (int64_t k0 = 0; k0 < k; k0 += kTile) {
    __syncthreads();
    TENUN_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int64_t x = t / kTile + 8 * i;
      const bool a_in = m0 + x < m && k0 + lane < k, b_in = k0 + x < k && n0 + lane < p.n;
      at[x * kPitch + lane] = a_in ? a[(m0 + x) * p.a.row + (k0 + lane) * p.a.column] : 0.0;
      bt[x * kPitch + lane] = b_in ? b[(k0 + x) * p.b.row + (n0 + lane) * p.b.column] : 0.0;
    }
    __syncthreads();
    TENUN_UNROLL
    for (int j = 0; j < kTile; ++j) {
      const double v = at[r * kPitch + j];
      TENUN_UNROLL
      for (int i = 0; i < 4; ++i) sum[i] += v * bt[j * kPitch + c + 8 * i];
    }
  }
  if (m0 + r >= m) return;
  double* const out = static_cast<double*>(const_cast<void*>(p.c.p)) + tile.offset(p.c);
  TENUN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int64_t x = n0 + c + 8 * i;
    if (x >= p.n) continue;
    double* const to = out + (m0 + r) * p.c.row + x * p.c.column;
    *to = p.accumulate ? *to + sum[i] : sum[i];
  }
}

template <class C>
__device__ __forceinline__ C lane_sum(C v) {
  TENUN_UNROLL
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
template <class C>
__device__ __forceinline__ C lane_max(C v) {
  TENUN_UNROLL
  for (int o = 16; o > 0; o >>= 1) {
    const C w = __shfl_xor_sync(0xffffffffu, v, o);
    v = w > v ? w : v;
  }
  return v;
}
// The row of the calling warp; a warp for each.
__device__ __forceinline__ int64_t warp_row() {
  return int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
}
template <class C>
__device__ __forceinline__ C gate_of(const void* gate, int64_t row, int64_t n, int64_t block) {
  if (gate == nullptr) return C(0);
  return static_cast<const C*>(gate)[row / n * blocks_of(n, block) + row % n / block];
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) features_kernel(const Features f) {
  const int64_t row = warp_row();
  if (row >= f.heads * f.n) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t base = head_offset(f.x, row / f.n) + row % f.n * f.x.row;
  const auto x = [&](int64_t c) { return element<C>(f.x, base + c * f.x.column); };
  const auto put = [&](int64_t c, C v) { store_as(f.y, f.y_dtype, row * f.d + c, v); };
  const bool apart = gate_of<C>(f.gate, row, f.n, f.block) == C(1);
  if (apart || f.map != 0) {
    for (int64_t c = lane; c < f.d; c += 32) {
      const C v = x(c);
      put(c, apart ? C(0) : f.map == 1 ? (v > 0 ? v + C(1) : exp(v)) : (v <= 0 ? C(0) : v));
    }
    return;
  }
  C most = static_cast<C>(-INFINITY), sum = 0;
  for (int64_t c = lane; c < f.d; c += 32) most = x(c) > most ? x(c) : most;
  most = lane_max(most);
  for (int64_t c = lane; c < f.d; c += 32) sum += exp(x(c) - most);
  sum = lane_sum(sum);
  for (int64_t c = lane; c < f.d; c += 32) put(c, exp(x(c) - most) / sum);
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) feature_gradient_kernel(const FeatureGradient g) {
  const Features& f = g.of;
  const int64_t row = warp_row();
  if (row >= f.heads * f.n) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t base = head_offset(f.x, row / f.n) + row % f.n * f.x.row;
  const C* const dphi = static_cast<const C*>(g.dphi) + row * f.d;
  const auto phi = [&](int64_t c) { return load_as<C>(f.y, f.y_dtype, row * f.d + c); };
  C* const dx = static_cast<C*>(g.dx) + row * f.d;
  const bool apart = gate_of<C>(f.gate, row, f.n, f.block) == C(1);
  C dot = 0;
  if (f.map == 0) {
    for (int64_t c = lane; c < f.d; c += 32) dot += phi(c) * dphi[c];
    dot = lane_sum(dot);
  }
  for (int64_t c = lane; c < f.d; c += 32) {
    const C x = element<C>(f.x, base + c * f.x.column);
    C v = f.map == 0   ? phi(c) * (dphi[c] - dot)
          : f.map == 1 ? dphi[c] * (x > 0 ? C(1) : exp(x))
                       : (x > 0 ? dphi[c] : C(0));
    if (apart) v = 0;
    dx[c] = g.accumulate ? dx[c] + v : v;
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) extend_kernel(const Extend e) {
  const int64_t row = warp_row();
  if (row >= e.heads * e.n) return;
  const int64_t base = head_offset(e.x, row / e.n) + row % e.n * e.x.row;
  for (int64_t c = threadIdx.x % 32; c < e.wide; c += 32)
    store_as(e.y, e.y_dtype, row * e.wide + c,
             c < e.d ? element<C>(e.x, base + c * e.x.column) : C(c == e.d ? 1 : 0));
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) output_kernel(const LinearOutput a) {
  const int64_t row = warp_row();
  if (row >= a.heads * a.n) return;
  const C* const product = static_cast<const C*>(a.product) + row * a.wide;
  const C gate = gate_of<C>(a.gate, row, a.n, a.block), den = product[a.d] + static_cast<C>(a.eps);
  if (a.gate != nullptr && gate == C(1)) return;  // and no NaN of this branch comes through
  const Rows old{a.o, a.o_dtype};
  for (int64_t c = threadIdx.x % 32; c < a.d; c += 32) {
    const C y = den == 0 ? C(0) : product[c] / den;
    const int64_t to = row * a.d + c;
    store_as(a.o, a.o_dtype, to,
             a.gate == nullptr ? y : gate * element<C>(old, to) + (1 - gate) * y);
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) output_gradient_kernel(const LinearGradient g) {
  const LinearOutput& a = g.of;
  const int64_t row = warp_row();
  if (row >= a.heads * a.n) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const C* const product = static_cast<const C*>(a.product) + row * a.wide;
  const C gate = gate_of<C>(a.gate, row, a.n, a.block), den = product[a.d] + static_cast<C>(a.eps);
  const C by = den == 0 || gate == C(1) ? C(0) : (1 - gate) / den;
  const int64_t base = head_offset(g.dy, row / a.n) + row % a.n * g.dy.row;
  const auto dy = [&](int64_t c) { return element<C>(g.dy, base + c * g.dy.column); };
  C dot = 0;
  if (by != 0)
    for (int64_t c = lane; c < a.d; c += 32) dot += dy(c) * (product[c] / den);
  dot = lane_sum(dot);
  for (int64_t c = lane; c < a.wide; c += 32)
    store_as(g.dproduct, g.dproduct_dtype, row * a.wide + c,
             by == 0 || c > a.d ? C(0)
             : c < a.d          ? by * dy(c)
                                : -by * dot);
  if (g.dot != nullptr && lane == 0) static_cast<C*>(g.dot)[row] = dot;
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) list_weights_kernel(const ListWeights a) {
  const int64_t row = warp_row();
  if (row >= a.heads * a.tm) return;
  const int64_t lane = threadIdx.x % 32;
  const auto put = [&](int64_t j, C v) { store_as(a.w, a.w_dtype, row * a.wide + j, v); };
  const C* const weight = static_cast<const C*>(a.weight);
  for (int64_t j = lane; j < a.wide; j += 32)
    put(j, j >= a.tn ? C(0) : weight != nullptr ? weight[row * a.tn + j] : C(1));
  __syncwarp();
  if (a.rows.start == nullptr || weight != nullptr) return;
  for (int64_t i = a.rows.start[row] + lane; i < a.rows.start[row + 1]; i += 32)
    put(a.rows.index[i], C(0));
}

template <class A>
void by_rows(void (*f)(A), void (*d)(A), DType compute, int64_t rows, const A& args) {
  constexpr int kWarps = kThreads / 32;
  if (rows == 0) return;
  launch(compute == DType::f64 ? d : f, dim3(static_cast<unsigned>((rows + kWarps - 1) / kWarps)),
         dim3(kThreads), 0, args);
}

}  // namespace

void product_f64(const Product& p) {
  launch(product_kernel, product_grid(p, kTile, kTile), dim3(kThreads),
         2 * kTile * kPitch * sizeof(double), p);
}
void features(const Features& a, DType compute) {
  by_rows(features_kernel<float>, features_kernel<double>, compute, a.heads * a.n, a);
}
void feature_gradient(const FeatureGradient& a, DType compute) {
  by_rows(feature_gradient_kernel<float>, feature_gradient_kernel<double>, compute,
          a.of.heads * a.of.n, a);
}
void extend(const Extend& a, DType compute) {
  by_rows(extend_kernel<float>, extend_kernel<double>, compute, a.heads * a.n, a);
}
void linear_output(const LinearOutput& a, DType compute) {
  by_rows(output_kernel<float>, output_kernel<double>, compute, a.heads * a.n, a);
}
void linear_gradient(const LinearGradient& a, DType compute) {
  by_rows(output_gradient_kernel<float>, output_gradient_kernel<double>, compute,
          a.of.heads * a.of.n, a);
}
void list_weights(const ListWeights& a, DType compute) {
  by_rows(list_weights_kernel<float>, list_weights_kernel<double>, compute, a.heads * a.tm, a);
}

}  // namespace tenun::TENUN_BACKEND::attention
