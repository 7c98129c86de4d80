// The small steps between the attention kernels, row by row (attention/row_kernel.h). T is the
// compute type; tensors are contiguous where nothing else is said. RowFunctors<T> lists them all:
// a backend instantiates that list, and a functor that is missing in it is a missing kernel.
#pragma once
#include <cstdint>

#include "tenun/core/math.h"

namespace tenun::attn {

/// y = x - mean of its head; x (B, H, N, D) with unit channel stride.
template <class T>
struct SubtractMean {
  static constexpr const char* name = "smooth tokens";
  const T *x, *mean;
  T* y;
  int64_t heads, batch_stride, head_stride, row_stride, n, d;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const int64_t bh = row / n;
    const T* const from =
        x + bh / heads * batch_stride + bh % heads * head_stride + row % n * row_stride;
    for (int64_t c = first; c < d; c += step) y[row * d + c] = from[c] - mean[bh * d + c];
  }
};

/// Each token gets its share of its block's gradient.
template <class T>
struct BlockMeanGradient {
  static constexpr const char* name = "block mean gradient";
  const T* dy;
  T* dx;
  int64_t n, d, block, count;  ///< count: blocks of a head
  bool by_block;               ///< divided by the block size, also where a block is short
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const int64_t at = row % n / block, left = n - at * block;
    const T by = static_cast<T>(by_block || left > block ? block : left);
    const T* const from = dy + (row / n * count + at) * d;
    for (int64_t c = first; c < d; c += step) dx[row * d + c] = from[c] / by;
  }
};

/// The gate of each query block: sigmoid(alpha), or 1 where every key block is selected.
template <class T>
struct Gates {
  static constexpr const char* name = "attention gates";
  const T* alpha;
  int64_t heads, tm, tn;
  bool per_block;        ///< alpha is (H, T_m)
  const int64_t* start;  ///< of the lists of rows, or null
  const T* mask;         ///< (B, H, T_m, T_n), or null
  T* gate;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t) const {
    if (first != 0) return;
    bool full = (start != nullptr || mask != nullptr) && tn > 0;
    if (start != nullptr) full = full && start[row + 1] - start[row] == tn;
    for (int64_t j = 0; mask != nullptr && full && j < tn; ++j) full = mask[row * tn + j] == 1;
    const int64_t h = row / tm % heads;
    const auto logit = static_cast<double>(alpha[per_block ? h * tm + row % tm : h]);
    gate[row] = full ? T(1) : static_cast<T>(math::sigmoid(logit));
  }
};

/// With P = exp(s - lse) the gradient of a gated branch is that of P' = g P, which is exp(s - lse')
/// with lse' = lse - ln(g): no scaled copy of dy. g = 0 gives +inf, that is P' = 0.
template <class T>
struct GatedLse {
  static constexpr const char* name = "gated lse";
  const T *lse, *gate;
  T* y;
  int64_t n, tm, block;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t) const {
    if (first != 0) return;
    const T g = gate[row / n * tm + row % n / block];
    y[row] = lse[row] - (g == 1 ? T(0) : math::log(g));
  }
};

/// Gradient of a block's logit: g (1 - g) times the sum over its rows of a - b, in double.
template <class T>
struct GateGradient {
  static constexpr const char* name = "attention gate gradient";
  const T *a, *b, *gate;
  T* slope;
  int64_t n, tm, block;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t) const {
    if (first != 0) return;
    const int64_t from = row % tm * block, to = from + block < n ? from + block : n;
    double sum = 0;
    for (int64_t i = row / tm * n + from; i < row / tm * n + to; ++i)
      sum += static_cast<double>(a[i]) - static_cast<double>(b[i]);
    const auto g = static_cast<double>(gate[row]);
    slope[row] = static_cast<T>(sum * g * (1 - g));
  }
};

}  // namespace tenun::attn

#include "tenun/ops/attention/row_functors_methods.h"

namespace tenun::attn {

template <class... F>
struct FunctorList {};
template <class T>
using RowFunctors =
    FunctorList<SubtractMean<T>, BlockMeanGradient<T>, Gates<T>, GatedLse<T>, GateGradient<T>,
                MergeRows<T>, GatherRows<T>, AddRows<T>, AddCoarse<T>, CoarseGradient<T>,
                CoarseGateGradient<T>, CellMask<T>, CellMaskGradient<T>, Renormalise<T>,
                RenormaliseGradient<T>, UnitSums<T>>;

}  // namespace tenun::attn
