// What the products of blocks share (linear_plain.cu, product_tensor.cu, product_tf32.cu): which
// block of threads computes what, and which kernel of the tensor cores takes a product.
#pragma once
#include "tenun/cuda/attention/plain_tile.h"

namespace tenun::TENUN_BACKEND::attention {

/// What a block of threads computes: kHigh rows from m0 and kWide columns from n0 of one block's
/// product, which has m rows and sums over k.
template <int kHigh, int kWide>
struct ProductTile {
  int64_t block, m0, n0, bh, m, k;  // bh behind n0: else ptxas gives some kernels more registers
  static __device__ __forceinline__ ProductTile of(const Product& p) {
    const int64_t across = blocks_of(p.n, kWide), down = blocks_of(p.m, kHigh);
    const int64_t block = blockIdx.x / (across * down), tile = blockIdx.x % (across * down);
    const auto end = [&](int64_t size, int64_t total) {  // a last block may be short
      return total == 0 ? size : total - block * size < size ? total - block * size : size;
    };
    return {block,      tile / across * kHigh, tile % across * kWide,
            blockIdx.y, end(p.m, p.m_total),   end(p.k, p.k_total)};
  }
  /// The elements before this block's of x.
  __device__ __forceinline__ int64_t offset(const Product::Matrix& x) const {
    return bh * x.head + block * x.block;
  }
};
inline dim3 product_grid(const Product& p, int64_t high, int64_t wide) {
  const int64_t tiles = ((p.m + high - 1) / high) * ((p.n + wide - 1) / wide);
  return dim3(static_cast<unsigned>(p.blocks * tiles), static_cast<unsigned>(p.heads));
}

/// go.operator()<kWide, kTurnedA, kTurnedB>(). kWide is 64 where that divides n, else 80: the
/// values of 64 channels have a few columns more. kTurnedA: the numbers of A along the sum do not
/// lie together; kTurnedB: those of B do. Both at once do not occur.
template <class F>
void by_shape(const Product& p, F&& go) {
  const auto of_width = [&]<int kWide>() {
    if (p.b.column != 1)
      go.template operator()<kWide, false, true>();
    else
      p.a.column != 1 ? go.template operator()<kWide, true, false>()
                      : go.template operator()<kWide, false, false>();
  };
  p.n % 64 == 0 ? of_width.template operator()<64>() : of_width.template operator()<80>();
}

}  // namespace tenun::TENUN_BACKEND::attention
