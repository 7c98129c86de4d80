// Teams: the threads that work together on one row of a tensor, a warp or a whole block. A kernel
// of rows is a template over Team<warps>; rows_launch picks the warp for short rows and the block
// for long ones. Sums over a team are made by a fixed tree: the same bits in every run.
//
//   template <class T, int kWarps>
//   __global__ void __launch_bounds__(kThreads, 1) total(float* y, const T* x, int64_t rows,
//   int64_t n) {
//     const Team<kWarps> team;
//     team.each_row(rows, [&](int64_t r) {
//       float s = 0;
//       team.each(n, [&](int64_t i) { s += static_cast<float>(x[r * n + i]); });
//       s = team.sum(s);
//       if (team.first()) y[r] = s;
//     });
//   }
#pragma once
#include <bit>
#include <cstring>

#include "tenun/cuda/device_code.h"

namespace tenun::TENUN_BACKEND {

/// The value of another lane, for any trivial type of whole words.
template <class V>
__device__ V from_lane(const V& v, int bits) {
  static_assert(sizeof(V) % 4 == 0);
  struct Words {
    unsigned w[sizeof(V) / 4];
  };
  Words words = std::bit_cast<Words>(v);
  TENUN_UNROLL
  for (unsigned& w : words.w) w = __shfl_xor_sync(kFullWarp, w, bits);
  return std::bit_cast<V>(words);
}

struct Plus {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a + b;
  }
};
/// A NaN on either side gives NaN.
struct Larger {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a > b || a != a ? a : b;
  }
};

/// `f` must be symmetric: every lane gets the same result.
template <class V, class F>
__device__ V warp_reduce(V v, F f) {
  TENUN_UNROLL
  for (int bits = 16; bits > 0; bits /= 2) v = f(v, from_lane(v, bits));
  return v;
}

template <int kWarps>
class Team {
 public:
  static constexpr int kSize = 32 * kWarps;
  static constexpr int kTeams = kThreads / kSize;  ///< in a block

  __device__ Team()
      : rank_(static_cast<int>(threadIdx.x) % kSize),
        number_(static_cast<int>(threadIdx.x) / kSize) {}
  [[nodiscard]] __device__ bool first() const { return rank_ == 0; }
  [[nodiscard]] __device__ int rank() const { return rank_; }

  /// f(row) for the rows of this team.
  template <class F>
  __device__ void each_row(int64_t rows, F&& f) const {
    const int64_t step = int64_t{gridDim.x} * kTeams;
    for (int64_t r = int64_t{blockIdx.x} * kTeams + number_; r < rows; r += step) f(r);
  }
  /// f(i) for this thread's share of [0, n).
  template <class F>
  __device__ void each(int64_t n, F&& f) const {
    for (int64_t i = rank_; i < n; i += kSize) f(i);
  }

  /// Combines the values of all threads; every thread gets the result.
  template <class V, class F>
  [[nodiscard]] __device__ V reduce(V v, F f) const {
    v = warp_reduce(v, f);
    if constexpr (kWarps > 1) {
      TENUN_SHARED(V, part, kWarps);
      __syncthreads();  // the part of the reduction before
      if (rank_ % 32 == 0) part[rank_ / 32] = v;
      __syncthreads();
      v = part[0];
      TENUN_UNROLL
      for (int w = 1; w < kWarps; ++w) v = f(v, part[w]);
    }
    return v;
  }
  template <class V>
  [[nodiscard]] __device__ V sum(V v) const {
    return reduce(v, Plus{});
  }
  template <class V>
  [[nodiscard]] __device__ V largest(V v) const {
    return reduce(v, Larger{});
  }

 private:
  int rank_, number_;
};

inline constexpr int kBlockWarps = kThreads / 32;
inline constexpr int64_t kShortRow = 1024;  ///< up to here a warp has a row

/// go.operator()<kWarps>(grid) with the team for rows of n elements.
template <class F>
void rows_launch(int64_t rows, int64_t n, F&& go) {
  if (rows == 0) return;
  if (n <= kShortRow)
    go.template operator()<1>(grid_for(rows, Team<1>::kTeams));
  else
    go.template operator()<kBlockWarps>(grid_for(rows, 1));
}

}  // namespace tenun::TENUN_BACKEND
