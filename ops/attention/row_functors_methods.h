// Row functors of single methods: merging of partial results (llsa, vmoba), the coarse branch
// (vsa), cells and renormalisation (pixelgen_sla2), self-similarity (sparge). Included by
// attention/row_functors.h.
#pragma once
#include <cmath>
#include <cstdint>

#include "tenun/core/math.h"

namespace tenun::attn {

/// Which rows of a part belong to a row of the whole: entry e of its list stands in row
/// first[index[e] - begin] + place[e], where index[e] is in [begin, end). Without a list: row r.
struct PartRows {
  const int64_t* start = nullptr;
  const int32_t* index = nullptr;
  const int64_t *place = nullptr, *first = nullptr;
  int64_t begin = 0, end = 0;
  template <class F>
  TENUN_HD void each(int64_t row, F&& f) const {
    if (start == nullptr) return f(row);
    for (int64_t e = start[row]; e < start[row + 1]; ++e)
      if (index[e] >= begin && index[e] < end) f(first[index[e] - begin] + place[e]);
  }
};

/// (o, lse) of a row takes in its parts' (po, plse + log_weight): lse = log(e^lse + e^plse), o by
/// their shares. The new lse goes to a tensor of its own.
template <class T>
struct MergeRows {
  static constexpr const char* name = "merge attention parts";
  T* o;
  const T *lse, *part_o, *part_lse;
  T* new_lse;
  double log_weight;
  int64_t d;
  PartRows rows{};
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    T* const to = o + row * d;
    T all = lse[row];
    rows.each(row, [&](int64_t r) {
      const T part = part_lse[r] + static_cast<T>(log_weight);
      if (part == -static_cast<T>(INFINITY)) return;
      const T most = all > part ? all : part, a = math::exp(all - most), b = math::exp(part - most),
              sum = a + b, keep = a / sum, add = b / sum;
      const T* const from = part_o + r * d;
      for (int64_t c = first; c < d; c += step) to[c] = keep * to[c] + add * from[c];
      all = most + math::log(sum);
    });
    if (first == 0) new_lse[row] = all;
  }
};

/// y = rows of x by number; 0 for a negative one.
template <class T>
struct GatherRows {
  static constexpr const char* name = "gather queries";
  const T* x;
  const int32_t* source;
  T* y;
  int64_t d;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const int32_t from = source[row];
    for (int64_t c = first; c < d; c += step) y[row * d + c] = from < 0 ? T(0) : x[from * d + c];
  }
};

/// y += the rows of its parts, in order.
template <class T>
struct AddRows {
  static constexpr const char* name = "add query gradients";
  const T* part;
  T* y;
  int64_t d;
  PartRows rows{};
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    rows.each(row, [&](int64_t r) {
      for (int64_t c = first; c < d; c += step) y[row * d + c] += part[r * d + c];
    });
  }
};

/// y = fine + gate * coarse of the token's block; no gate: 1.
template <class T>
struct AddCoarse {
  static constexpr const char* name = "vsa add coarse";
  const T *fine, *coarse, *gate;
  T* y;
  int64_t n, d, block, count;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const T* const x = coarse + (row / n * count + row % n / block) * d;
    for (int64_t c = first; c < d; c += step)
      y[row * d + c] = fine[row * d + c] + (gate == nullptr ? x[c] : gate[row * d + c] * x[c]);
  }
};
/// Rows are blocks: sums of gate * dy over their tokens.
template <class T>
struct CoarseGradient {
  static constexpr const char* name = "vsa coarse gradient";
  const T *dy, *gate;
  T* dx;
  int64_t n, d, block, count;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const int64_t from = row % count * block, to = from + block < n ? from + block : n;
    for (int64_t c = first; c < d; c += step) dx[row * d + c] = 0;
    for (int64_t i = row / count * n + from; i < row / count * n + to; ++i)
      for (int64_t c = first; c < d; c += step)
        dx[row * d + c] += gate == nullptr ? dy[i * d + c] : gate[i * d + c] * dy[i * d + c];
  }
};
template <class T>
struct CoarseGateGradient {
  static constexpr const char* name = "vsa gate gradient";
  const T *dy, *coarse;
  T* dgate;
  int64_t n, d, block, count;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const T* const x = coarse + (row / n * count + row % n / block) * d;
    for (int64_t c = first; c < d; c += step) dgate[row * d + c] = dy[row * d + c] * x[c];
  }
};

/// m = sigmoid(R / tau + lambda), R the row softmax of the scores, lambda from `iters` bisections
/// of [-20, 20] that return the upper end.
template <class T>
struct CellMask {
  static constexpr const char* name = "pixelgen cell mask";
  const T* x;
  T *soft, *m;
  int64_t n, iters;
  double target, tau;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t) const {
    if (first != 0) return;
    const int64_t at = row * n;
    double most = -INFINITY, sum = 0;
    for (int64_t i = at; i < at + n; ++i)
      most = static_cast<double>(x[i]) > most ? static_cast<double>(x[i]) : most;
    for (int64_t i = at; i < at + n; ++i) sum += ::exp(static_cast<double>(x[i]) - most);
    const auto share = [&](int64_t i) { return ::exp(static_cast<double>(x[i]) - most) / sum; };
    for (int64_t i = at; i < at + n; ++i) soft[i] = static_cast<T>(share(i));
    const auto gate = [&](int64_t i, double by) { return 1 / (1 + ::exp(-(share(i) / tau + by))); };
    double lo = -20, hi = 20;
    for (int64_t k = 0; k < iters; ++k) {
      const double mid = (lo + hi) / 2;
      double total = 0;
      for (int64_t i = at; i < at + n; ++i) total += gate(i, mid);
      if (total < target) lo = mid;
      if (total > target) hi = mid;
    }
    for (int64_t i = at; i < at + n; ++i) m[i] = static_cast<T>(gate(i, hi));
  }
};
/// lambda is a constant there.
template <class T>
struct CellMaskGradient {
  static constexpr const char* name = "pixelgen cell mask gradient";
  const T *soft, *m, *dy;
  T* dx;
  int64_t n;
  double tau;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t) const {
    if (first != 0) return;
    double dot = 0;
    for (int64_t i = row * n; i < (row + 1) * n; ++i) {
      dx[i] = dy[i] * m[i] * (1 - m[i]) / static_cast<T>(tau);
      dot += static_cast<double>(dx[i] * soft[i]);
    }
    for (int64_t i = row * n; i < (row + 1) * n; ++i)
      dx[i] = soft[i] * (dx[i] - static_cast<T>(dot));
  }
};

/// y = o c / (c + eps), c = exp(lse - full).
template <class T>
struct Renormalise {
  static constexpr const char* name = "pixelgen renormalise";
  const T *o, *lse, *full;
  T *y, *share;
  int64_t d;
  double eps;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const T s = math::exp(lse[row] - full[row]), f = s / (s + static_cast<T>(eps));
    for (int64_t c = first; c < d; c += step) y[row * d + c] = o[row * d + c] * f;
    if (first == 0) share[row] = s;
  }
};
/// dot = dy . o
template <class T>
struct RenormaliseGradient {
  static constexpr const char* name = "pixelgen renormalise gradient";
  const T *dy, *dot, *share;
  T *dx, *dlse, *dfull;
  int64_t d;
  double eps;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const T sum = share[row] + static_cast<T>(eps), f = share[row] / sum;
    for (int64_t c = first; c < d; c += step) dx[row * d + c] = dy[row * d + c] * f;
    if (first != 0) return;
    dlse[row] = dot[row] * (static_cast<T>(eps) / sum) * f;
    dfull[row] = -dlse[row];
  }
};

/// Rows are blocks: sums of their tokens, each divided by its length; square = x . x. A zero token
/// stays zero.
template <class T>
struct UnitSums {
  static constexpr const char* name = "block similarity";
  const T *x, *square;
  T* y;
  int64_t n, d, block, count;
  TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
    const int64_t from = row % count * block, to = from + block < n ? from + block : n;
    for (int64_t c = first; c < d; c += step) y[row * d + c] = 0;
    for (int64_t i = row / count * n + from; i < row / count * n + to; ++i) {
      const T unit = square[i] > 0 ? T(1) / ::sqrt(square[i]) : T(0);
      for (int64_t c = first; c < d; c += step) y[row * d + c] += unit * x[i * d + c];
    }
  }
};

}  // namespace tenun::attn
