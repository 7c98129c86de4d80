// The CPU kernels of ops/reduce.h, for x as [A, R, C]. Rows (C = 1) and columns are separate loops,
// both over contiguous memory; columns go in blocks whose running values stay in the cache.
#include <cmath>

#include "tenun/core/math.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/reduce.h"

namespace tenun {
namespace {

constexpr int64_t kColumns = 128;
constexpr int64_t kWork = 1 << 15;  // elements that are worth a task

template <class T>
using Wide = std::conditional_t<is_floating(dtype_of<T>), Compute<T>, int64_t>;

// visit over what can be compared and added.
template <class F>
void visit_numbers(DType d, const char* op, F&& f) {
  visit<DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::u8, DType::i32,
        DType::i64>(d, op, std::forward<F>(f));
}

// Calls body(a, first column, number of columns) for blocks of columns of every a.
template <class F>
void for_column_blocks(int64_t outer, int64_t rows, int64_t cols, F&& body) {
  const int64_t blocks = (cols + kColumns - 1) / kColumns;
  const int64_t cost = std::max<int64_t>(1, rows * std::min(cols, kColumns));
  parallel_for(0, outer * blocks, std::max<int64_t>(1, kWork / cost), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t c = i % blocks * kColumns;
      body(i / blocks, c, std::min(kColumns, cols - c));
    }
  });
}
template <class F>
void for_rows(int64_t rows, int64_t length, F&& body) {
  parallel_for(0, rows, std::max<int64_t>(1, kWork / std::max<int64_t>(1, length)),
               [&](int64_t b, int64_t e) {
                 for (int64_t r = b; r < e; ++r) body(r);
               });
}

struct Greater {
  template <class V>
  bool operator()(V a, V b) const {
    return a > b;
  }
};
struct Less {
  template <class V>
  bool operator()(V a, V b) const {
    return a < b;
  }
};

// The best value by independent lanes, then the first place that holds it (or the first NaN).
template <class T, class Better>
int64_t best_of_row(const T* p, int64_t n, Better better) {
  using V = Wide<T>;
  constexpr int kLanes = 16;
  V best[kLanes];
  for (V& b : best) b = static_cast<V>(p[0]);
  int nan[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) {
      const V v = static_cast<V>(p[i + k]);
      best[k] = better(v, best[k]) ? v : best[k];
      nan[k] |= static_cast<int>(v != v);
    }
  V top = static_cast<V>(p[0]);
  bool any_nan = false;
  for (int k = 0; k < kLanes; ++k) {
    top = better(best[k], top) ? best[k] : top;
    any_nan = any_nan || nan[k] != 0;
  }
  for (; i < n; ++i) {
    const V v = static_cast<V>(p[i]);
    top = better(v, top) ? v : top;
    any_nan = any_nan || v != v;
  }
  any_nan = any_nan || static_cast<V>(p[0]) != static_cast<V>(p[0]);
  for (i = 0; i < n; ++i) {
    const V v = static_cast<V>(p[i]);
    if (any_nan ? v != v : v == top) return i;
  }
  return 0;
}

template <class T, class Better>
void extremum_typed(Tensor& values, Tensor& indices, const Tensor& x, Better better) {
  using V = Wide<T>;
  const int64_t outer = x.dim(0), rows = x.dim(1), cols = x.dim(2);
  const T* const p = x.data<T>();
  T* const y = values.mutable_data<T>();
  int64_t* const at = indices.mutable_data<int64_t>();
  if (cols == 1) {
    for_rows(outer, rows, [&](int64_t a) {
      at[a] = best_of_row(p + a * rows, rows, better);
      y[a] = p[a * rows + at[a]];
    });
    return;
  }
  for_column_blocks(outer, rows, cols, [&](int64_t a, int64_t c0, int64_t n) {
    V best[kColumns];
    int64_t where[kColumns];
    const T* row = p + a * rows * cols + c0;
    for (int64_t c = 0; c < n; ++c) best[c] = static_cast<V>(row[c]), where[c] = 0;
    for (int64_t r = 1; r < rows; ++r) {
      row += cols;
      for (int64_t c = 0; c < n; ++c) {
        const V v = static_cast<V>(row[c]);
        const bool take = better(v, best[c]) || (v != v && best[c] == best[c]);
        best[c] = take ? v : best[c];
        where[c] = take ? r : where[c];
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      y[a * cols + c0 + c] = static_cast<T>(best[c]);
      at[a * cols + c0 + c] = where[c];
    }
  });
}
void extremum_cpu(Tensor& values, Tensor& indices, const Tensor& x, Extreme which) {
  visit_numbers(x.dtype(), "max", [&]<class T>() {
    if (which == Extreme::greatest)
      extremum_typed<T>(values, indices, x, Greater{});
    else
      extremum_typed<T>(values, indices, x, Less{});
  });
}

void extremum_backward_cpu(Tensor& dx, const Tensor& dy, const Tensor& indices) {
  const int64_t rows = dx.dim(1), cols = dx.dim(2);
  visit_float(dx.dtype(), "max", [&]<class T>() {
    T* const out = dx.mutable_data<T>();
    const T* const g = dy.data<T>();
    const int64_t* const at = indices.data<int64_t>();
    parallel_for(0, dy.numel(), kWork, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) out[(i / cols * rows + at[i]) * cols + i % cols] = g[i];
    });
  });
}

// Subtracting an infinite maximum would make NaN; 0 serves as well then.
template <class C>
C finite_or_zero(C v) {
  return v - v == 0 ? v : C(0);
}

template <class T>
Compute<T> logsumexp_row(const T* p, int64_t n) {
  using C = Compute<T>;
  constexpr int kLanes = 16;
  C top[kLanes], lane[kLanes] = {};
  for (C& t : top) t = -std::numeric_limits<C>::infinity();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k)
      top[k] = static_cast<C>(p[i + k]) > top[k] ? static_cast<C>(p[i + k]) : top[k];
  C m = top[0];
  for (const C t : top) m = t > m ? t : m;
  for (; i < n; ++i) m = static_cast<C>(p[i]) > m ? static_cast<C>(p[i]) : m;
  m = finite_or_zero(m);
  for (i = 0; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) lane[k] += math::exp(static_cast<C>(p[i + k]) - m);
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(math::exp(static_cast<C>(p[i]) - m));
  for (const C v : lane) total += static_cast<double>(v);
  return static_cast<C>(static_cast<double>(m) + std::log(total));
}

void logsumexp_cpu(Tensor& y, const Tensor& x) {
  const int64_t outer = x.dim(0), rows = x.dim(1), cols = x.dim(2);
  visit_float(x.dtype(), "logsumexp", [&]<class T>() {
    using C = Compute<T>;
    const T* const p = x.data<T>();
    T* const out = y.mutable_data<T>();
    if (cols == 1) {
      for_rows(outer, rows, [&](int64_t a) { out[a] = T(logsumexp_row(p + a * rows, rows)); });
      return;
    }
    for_column_blocks(outer, rows, cols, [&](int64_t a, int64_t c0, int64_t n) {
      C top[kColumns], total[kColumns] = {};
      for (int64_t c = 0; c < n; ++c) top[c] = -std::numeric_limits<C>::infinity();
      const T* const first = p + a * rows * cols + c0;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < n; ++c) {
          const C v = static_cast<C>(first[r * cols + c]);
          top[c] = v > top[c] ? v : top[c];
        }
      for (int64_t c = 0; c < n; ++c) top[c] = finite_or_zero(top[c]);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < n; ++c)
          total[c] += math::exp(static_cast<C>(first[r * cols + c]) - top[c]);
      for (int64_t c = 0; c < n; ++c)
        out[a * cols + c0 + c] = T(static_cast<C>(top[c] + std::log(total[c])));
    });
  });
}

// Running sums are kept in double (int64 for integers): rounding errors must not pile up.
void cumsum_cpu(Tensor& y, const Tensor& x, Direction direction) {
  const int64_t outer = x.dim(0), rows = x.dim(1), cols = x.dim(2);
  visit_numbers(x.dtype(), "cumsum", [&]<class T>() {
    using S = std::conditional_t<is_floating(dtype_of<T>), double, int64_t>;
    const T* const p = x.data<T>();
    T* const out = y.mutable_data<T>();
    if (cols == 1) {
      const int64_t step = direction == Direction::forward ? 1 : -1;
      for_rows(outer, rows, [&](int64_t a) {
        S total = 0;
        int64_t at = direction == Direction::forward ? a * rows : (a + 1) * rows - 1;
        for (int64_t i = 0; i < rows; ++i, at += step) {
          total += static_cast<S>(static_cast<Wide<T>>(p[at]));
          out[at] = T(static_cast<Wide<T>>(total));
        }
      });
      return;
    }
    for_column_blocks(outer, rows, cols, [&](int64_t a, int64_t c0, int64_t n) {
      S total[kColumns] = {};
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t r = direction == Direction::forward ? i : rows - 1 - i;
        const int64_t at = (a * rows + r) * cols + c0;
        for (int64_t c = 0; c < n; ++c) {
          total[c] += static_cast<S>(static_cast<Wide<T>>(p[at + c]));
          out[at + c] = T(static_cast<Wide<T>>(total[c]));
        }
      }
    });
  });
}

void prod_cpu(Tensor& y, const Tensor& x) {
  const int64_t outer = x.dim(0), rows = x.dim(1), cols = x.dim(2);
  visit_float(x.dtype(), "prod", [&]<class T>() {
    const T* const p = x.data<T>();
    T* const out = y.mutable_data<T>();
    for_column_blocks(outer, rows, cols, [&](int64_t a, int64_t c0, int64_t n) {
      double total[kColumns];
      for (int64_t c = 0; c < n; ++c) total[c] = 1;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < n; ++c)
          total[c] *= static_cast<double>(p[(a * rows + r) * cols + c0 + c]);
      for (int64_t c = 0; c < n; ++c) out[a * cols + c0 + c] = T(static_cast<Compute<T>>(total[c]));
    });
  });
}

// dx_i = dy times the product of all others: (those before) x (those after), right at zeros too.
void prod_backward_cpu(Tensor& dx, const Tensor& dy, const Tensor& x) {
  const int64_t outer = x.dim(0), rows = x.dim(1), cols = x.dim(2);
  visit_float(x.dtype(), "prod", [&]<class T>() {
    const T* const p = x.data<T>();
    const T* const g = dy.data<T>();
    T* const out = dx.mutable_data<T>();
    for_column_blocks(outer, rows, cols, [&](int64_t a, int64_t c0, int64_t n) {
      std::vector<double> before(static_cast<size_t>(rows));
      for (int64_t c = c0; c < c0 + n; ++c) {
        double total = static_cast<double>(g[a * cols + c]);
        for (int64_t r = 0; r < rows; ++r) {
          before[static_cast<size_t>(r)] = total;
          total *= static_cast<double>(p[(a * rows + r) * cols + c]);
        }
        total = 1;
        for (int64_t r = rows - 1; r >= 0; --r) {
          const int64_t at = (a * rows + r) * cols + c;
          out[at] = T(static_cast<Compute<T>>(before[static_cast<size_t>(r)] * total));
          total *= static_cast<double>(p[at]);
        }
      }
    });
  });
}

}  // namespace

constinit Kernel<void(Tensor&, Tensor&, const Tensor&, Extreme)> kernel::extremum{"max",
                                                                                  extremum_cpu};
constinit Kernel<void(Tensor&, const Tensor&, const Tensor&)> kernel::extremum_backward{
    "max_backward", extremum_backward_cpu};
constinit Kernel<void(Tensor&, const Tensor&)> kernel::logsumexp{"logsumexp", logsumexp_cpu};
constinit Kernel<void(Tensor&, const Tensor&, Direction)> kernel::cumsum{"cumsum", cumsum_cpu};
constinit Kernel<void(Tensor&, const Tensor&)> kernel::prod{"prod", prod_cpu};
constinit Kernel<void(Tensor&, const Tensor&, const Tensor&)> kernel::prod_backward{
    "prod_backward", prod_backward_cpu};

}  // namespace tenun
