// Rows of scores, and their order. Internal to the selectors.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/ops/attention/select.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::attn {

/// Rows of a (..., R, T) tensor: calls f(row, first free column), the latter T where all are
/// forced.
template <class F>
void each_row(const Tensor& x, Forced forced, F&& f) {
  const int64_t cols = x.dim(-1), rows = x.rank() > 1 ? x.dim(-2) : 1;
  const int64_t count = cols == 0 ? 0 : x.numel() / cols;
  parallel_for(0, count, grain(400 * cols), [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r)
      f(r, r % rows < forced.rows ? cols : std::min(forced.cols, cols));
  });
}

/// Rows of a mask like the scores: calls f(scores, mask, first free column), where the mask is 1
/// for what is forced and 0 for the rest.
template <class T, class F>
void each_mask_row(Tensor& mask, const Tensor& scores, Forced forced, F&& f) {
  const T* const in = scores.data<T>();
  uint8_t* const out = mask.mutable_data<uint8_t>();
  const int64_t cols = scores.dim(-1);
  each_row(scores, forced, [&](int64_t r, int64_t first) {
    uint8_t* const m = out + r * cols;
    std::fill(m, m + first, uint8_t{1});
    std::fill(m + first, m + cols, uint8_t{0});
    f(in + r * cols, m, first);
  });
}

/// A score as it is compared: NaN is worse than all.
template <class T>
[[nodiscard]] T ranked(T score) {
  return std::isnan(score) ? -std::numeric_limits<T>::infinity() : score;
}

/// The `most` best of x[first .. last), best first; of equal ones the lowest index first.
template <class T>
[[nodiscard]] std::vector<int64_t> best_first(const T* x, int64_t first, int64_t last,
                                              int64_t most) {
  std::vector<std::pair<T, int64_t>> all;
  all.reserve(static_cast<size_t>(std::max<int64_t>(last - first, 0)));
  for (int64_t i = first; i < last; ++i) all.emplace_back(ranked(x[i]), i);
  const auto better = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  const auto end = all.begin() + std::min<int64_t>(most, std::ssize(all));
  if (end != all.end()) std::nth_element(all.begin(), end, all.end(), better);
  std::sort(all.begin(), end, better);
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(end - all.begin()));
  for (auto i = all.begin(); i != end; ++i) order.push_back(i->second);
  return order;
}

/// x . y, in a fixed order of eight lanes.
template <class T>
[[nodiscard]] T dot(const T* __restrict x, const T* __restrict y, int64_t d) {
  T sum[8] = {};
  int64_t c = 0;
  for (; c + 8 <= d; c += 8)
    for (int64_t j = 0; j < 8; ++j) sum[j] += x[c + j] * y[c + j];
  for (; c < d; ++c) sum[0] += x[c] * y[c];
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

}  // namespace tenun::attn
