// The arithmetic of one row of a norm on the CPU, in the compute type C: shared by norm_rows and
// the fused ops that normalise on the way (qk_norm_rope).
#pragma once
#include <cmath>

#include "tenun/ops/norm_rows.h"
#include "tenun/ops/rows.h"

namespace tenun::detail {

template <class C>
C mean_of(const C* x, int64_t n) {
  return lane_sum<C>(n, [x](int64_t i) { return x[i]; }) / static_cast<C>(n);
}
/// 1 / sqrt(mean((x - mean)^2) + eps)
template <class C>
C inverse_deviation(const C* x, C mean, int64_t n, double eps) {
  const C square = lane_sum<C>(n, [x, mean](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  return C(1) / std::sqrt(square / static_cast<C>(n) + static_cast<C>(eps));
}

// One row of the backward pass. `sum` and `product` are the chunk's partial column sums, or null.
template <class C>
struct BackwardRow {
  const C* dy;
  const C* x;
  const C* gain;
  C* sum;
  C* product;
  C mean, rstd;
  int64_t n;

  // Column sums alone: no statistics of the row are needed.
  void columns() const {
    const C* __restrict d = dy;
    const C* __restrict v = x;
    C* __restrict s = sum;
    C* __restrict p = product;
    const C m = mean, r = rstd;
    if (s != nullptr)
      for (int64_t i = 0; i < n; ++i) s[i] += d[i];
    if (p != nullptr)
      for (int64_t i = 0; i < n; ++i) p[i] += d[i] * ((v[i] - m) * r);
  }
  // Sums over the row of g = dy gain and of g x^, with the column sums in the same pass (separate
  // passes take twice the time even in the first-level cache).
  [[nodiscard]] std::array<C, 2> row_sums() const {
    C* __restrict s = sum;
    C* __restrict p = product;
    if (s != nullptr && p != nullptr)
      return row_sums([s, p](int64_t i, C d, C dx) { s[i] += d, p[i] += dx; });
    if (s != nullptr) return row_sums([s](int64_t i, C d, C) { s[i] += d; });
    if (p != nullptr) return row_sums([p](int64_t i, C, C dx) { p[i] += dx; });
    return row_sums([](int64_t, C, C) {});
  }
  template <class F>
  [[nodiscard]] std::array<C, 2> row_sums(F add) const {
    const C* __restrict d = dy;
    const C* __restrict v = x;
    const C* __restrict g = gain;
    const C m = mean, r = rstd;
    return lane_sums<C, 2>(n, [=](int64_t i) {
      const C one = d[i], normal = (v[i] - m) * r, scaled = one * g[i];
      add(i, one, one * normal);
      return std::array<C, 2>{scaled, scaled * normal};
    });
  }
  void run(C* __restrict out, RowNorm norm) const {
    const C* __restrict d = dy;
    const C* __restrict v = x;
    const C* __restrict g = gain;
    if (out == nullptr || norm == RowNorm::none) columns();
    if (out == nullptr) return;
    if (norm == RowNorm::none) {
      for (int64_t i = 0; i < n; ++i) out[i] = d[i] * g[i];
      return;
    }
    const auto [all, along] = row_sums();
    const C m = mean, r = rstd, slope = along / static_cast<C>(n) * r;
    const C level = norm == RowNorm::layer ? all / static_cast<C>(n) : C(0);
    for (int64_t i = 0; i < n; ++i) out[i] = r * (d[i] * g[i] - level - (v[i] - m) * slope);
  }
};

}  // namespace tenun::detail
