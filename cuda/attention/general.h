// What the tensor-core kernels do beside plain attention in their general form (kGeneral), which is
// compiled apart so that the plain form pays nothing for it:
//   soft weights   p ~ m exp(s), m for each pair of blocks: log2 m is added to scores of base 2. A
//                  block of threads has rows of one block, so a tile needs one number for each key.
//   dropout        of probabilities, with the CPU's random bits.
//   any scale      scores are scaled before their maximum is taken: it need not be positive.
#pragma once
#include "tenun/cuda/attention/tensor_tile.h"
#include "tenun/cuda/team.h"

namespace tenun::TENUN_BACKEND::attention {

/// log2 of the weight of query i and key j.
__device__ __forceinline__ float log_weight(const FlashProblem& p, int64_t bh, int64_t i,
                                            int64_t j) {
  return lg2(weight_of<float>(p, bh, i, j));
}

/// Scores of 16 rows in base 2, weighted: `weights` has log2 of the weight of each column, or is
/// null.
template <int N>
__device__ __forceinline__ void weigh_scores(float (&s)[N][4], float by, const float* weights,
                                             int lane) {
  TENUN_UNROLL
  for (int n = 0; n < N; ++n) {
    float2 w{0, 0};
    if (weights != nullptr) w = *reinterpret_cast<const float2*>(weights + n * 8 + (lane & 3) * 2);
    TENUN_UNROLL
    for (int e = 0; e < 4; ++e) s[n][e] = fmaf(s[n][e], by, e % 2 == 0 ? w.x : w.y);
  }
}

/// Bit 4 n + e is set if probability e of tile n is kept, whose number among all probabilities of
/// the call is at(n, e). A loop that stays one: unrolled, the random numbers take all registers.
template <int N, class At>
__device__ __forceinline__ unsigned kept(const FlashProblem& p, At&& at) {
  static_assert(4 * N <= 32);
  unsigned bits = 0;
  Philox four{};
  int64_t held = -1;  // neighbouring columns mostly share their four random numbers
  TENUN_NO_UNROLL
  for (int i = 0; i < 4 * N; ++i) {
    const int64_t number = at(i / 4, i % 4);
    if (number / 4 != held) {
      held = number / 4;
      four = Philox::at(p.key, 0, static_cast<uint64_t>(held));
    }
    if (is_kept(p, four, static_cast<int>(number % 4))) bits |= 1u << i;
  }
  return bits;
}
__device__ __forceinline__ float kept_or_zero(unsigned bits, int n, int e, float v) {
  return (bits >> (4 * n + e) & 1) != 0 ? v : 0.0f;
}

/// dS of keys first..first + 8 N - 1 (a piece of a tile) into the sums by block of keys. A sum is
/// stored behind the last key of its block.
template <int MT, int N>
__device__ __forceinline__ void sum_by_block(float& sum, const float (&ds)[MT][N][4], int first,
                                             const FlashProblem& p, float* out, int lane) {
  const int block = static_cast<int>(p.block_k), all = static_cast<int>(p.nk),
            end = first + 8 * N < all ? first + 8 * N : all;
  TENUN_NO_UNROLL
  for (int at = first; at < end;) {
    const int b = at / block, last = (b + 1) * block < all ? (b + 1) * block : all,
              stop = last < end ? last : end;
    TENUN_UNROLL
    for (int n = 0; n < N; ++n) {
      TENUN_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int key = first + column_of(n, e, lane);
        if (key < at || key >= stop) continue;
        TENUN_UNROLL
        for (int i = 0; i < MT; ++i) sum += ds[i][n][e];
      }
    }
    if (stop == last) {
      const float of_warp = warp_reduce(sum, Plus{});
      if (lane == 0) out[b] = of_warp;
      sum = 0;
    }
    at = stop;
  }
}

}  // namespace tenun::TENUN_BACKEND::attention
