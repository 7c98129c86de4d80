// Norms over rows (ops/norm_rows.h): rms_norm, layer_norm, modulation and their backward passes. A
// team reads a row two or three times; the sums over rows are a reduction like any other.
#include "tenun/cuda/elements.h"
#include "tenun/cuda/reduce_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/cuda/team.h"
#include "tenun/ops/norm_rows.h"

namespace tenun::TENUN_BACKEND {
namespace {

/// A table [S, C] or [1, C], or nothing: then `otherwise` everywhere.
template <class C>
struct GroupRows {
  const C* data = nullptr;
  int64_t stride = 0;
  __device__ C at(int64_t group, int64_t i, C otherwise) const {
    return data == nullptr ? otherwise : data[group * stride + i];
  }
};
template <class C>
GroupRows<C> group_rows(const Tensor& t, int64_t n) {
  if (!t.defined()) return {};
  return {t.data<C>(), t.dim(0) == 1 ? 0 : n};
}

struct NormSizes {
  int64_t groups, per_group, n;
  RowNorm norm;
  double share;  ///< 1 / n: a division is a subroutine around which registers spill
};
/// f(group, row) for the rows of a team; the grid has the groups in y.
template <int kWarps, class F>
__device__ void each_group_row(const Team<kWarps>& team, const NormSizes& s, F&& f) {
  for (int64_t group = blockIdx.y; group < s.groups; group += gridDim.y)
    team.each_row(s.per_group, [&](int64_t r) { f(group, group * s.per_group + r); });
}
/// Of the rows; null: 0 and 1.
template <class C>
struct Statistics {
  C *mean, *rstd;
};
template <class C>
struct KnownStatistics {
  const C *mean, *rstd;
  __device__ C mean_of(int64_t row) const { return mean == nullptr ? C(0) : mean[row]; }
  __device__ C rstd_of(int64_t row) const { return rstd == nullptr ? C(1) : rstd[row]; }
};

template <class X, class Y, class C, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    normalise_rows(Y* y, const X* x, const GroupRows<C> gain, const GroupRows<C> bias,
                   const NormSizes s, const Statistics<C> stats, C eps) {
  const Team<kWarps> team;
  each_group_row(team, s, [&](int64_t group, int64_t row) {
    const X* const from = x + row * s.n;
    C mean = 0, rstd = 1;
    if (s.norm == RowNorm::layer) {
      team.each(s.n, [&](int64_t i) { mean += static_cast<C>(from[i]); });
      mean = team.sum(mean) * static_cast<C>(s.share);
      if (team.first()) stats.mean[row] = mean;
    }
    if (s.norm != RowNorm::none) {
      C square = 0;
      team.each(s.n, [&](int64_t i) {
        const C d = static_cast<C>(from[i]) - mean;
        square += d * d;
      });
      rstd = C(1) / std::sqrt(team.sum(square) * static_cast<C>(s.share) + eps);
      if (team.first()) stats.rstd[row] = rstd;
    }
    team.each(s.n, [&](int64_t i) {
      y[row * s.n + i] = convert<Y>((static_cast<C>(from[i]) - mean) * rstd * gain.at(group, i, 1) +
                                    bias.at(group, i, 0));
    });
  });
}

template <class C>
struct Two {
  C a, b;
};
// dx alone: dx = rstd (g - mean(g) - x^ mean(g x^)) with g = dy gain.
template <class X, class G, class D, class C, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    norm_gradients(D* dx, const G* dy, const X* x, const GroupRows<C> gain, const NormSizes s,
                   const KnownStatistics<C> stats) {
  const Team<kWarps> team;
  each_group_row(team, s, [&](int64_t group, int64_t row) {
    const X* const v = x + row * s.n;
    const G* const d = dy + row * s.n;
    const C mean = stats.mean_of(row), rstd = stats.rstd_of(row);
    Two<C> sums{0, 0};
    if (s.norm != RowNorm::none) {
      team.each(s.n, [&](int64_t i) {
        const C g = static_cast<C>(d[i]) * gain.at(group, i, 1);
        sums.a += g;
        sums.b += g * ((static_cast<C>(v[i]) - mean) * rstd);
      });
      sums = team.reduce(sums, [](Two<C> p, Two<C> q) { return Two<C>{p.a + q.a, p.b + q.b}; });
    }
    const C level = s.norm == RowNorm::layer ? sums.a * static_cast<C>(s.share) : C(0);
    const C slope = sums.b * static_cast<C>(s.share) * rstd;
    team.each(s.n, [&](int64_t i) {
      const C g = static_cast<C>(d[i]) * gain.at(group, i, 1);
      dx[row * s.n + i] = convert<D>(
          s.norm == RowNorm::none ? g : rstd * (g - level - (static_cast<C>(v[i]) - mean) * slope));
    });
  });
}

/// Sums of dy and dy x^ over the rows of a group (cuda/reduce_kernel.h).
template <class X, class G, class C>
struct ColumnSums {
  using Value = Two<C>;
  C *sum_dy, *sum_dyx;  // may be null
  const G* dy;
  const X* x;
  NormSizes s;
  KnownStatistics<C> stats;
  __device__ Value identity() const { return {0, 0}; }
  __device__ Value take(int64_t at, int64_t r, int64_t out) const {
    const int64_t row = out / s.n * s.per_group + r;
    const C d = static_cast<C>(dy[at]), v = static_cast<C>(x[at]);
    return {d, d * ((v - stats.mean_of(row)) * stats.rstd_of(row))};
  }
  __device__ Value combine(Value p, Value q) const { return {p.a + q.a, p.b + q.b}; }
  __device__ void finish(Value v, int64_t out) const {
    if (sum_dy != nullptr) sum_dy[out] = v.a;
    if (sum_dyx != nullptr) sum_dyx[out] = v.b;
  }
};

// Pairs of input and other types that ops ask for: f64 goes with f64 alone.
template <class F>
void visit_pair(DType a, DType b, const char* op, F&& f) {
  if (a == DType::f64 || b == DType::f64) {
    visit<DType::f64>(a, op, [&]<class A>() {
      visit<DType::f64>(b, op, [&]<class B>() { f.template operator()<A, B>(); });
    });
    return;
  }
  visit<DType::f32, DType::bf16, DType::f16>(a, op, [&]<class A>() {
    visit<DType::f32, DType::bf16, DType::f16>(b, op,
                                               [&]<class B>() { f.template operator()<A, B>(); });
  });
}

void norm_rows(Tensor& y, RowStats& stats, const Tensor& x, const Tensor& gain, const Tensor& bias,
               double eps) {
  if (x.numel() == 0) return;
  const int64_t n = x.dim(2);
  visit_pair(x.dtype(), y.dtype(), "norm_rows", [&]<class X, class Y>() {
    using C = Compute<X>;
    const NormSizes s{x.dim(0), x.dim(1), n, stats.kind(), 1 / static_cast<double>(n)};
    const Statistics<C> found{stats.mean.defined() ? stats.mean.mutable_data<C>() : nullptr,
                              stats.rstd.defined() ? stats.rstd.mutable_data<C>() : nullptr};
    rows_launch(s.per_group, n, [&]<int kWarps>(dim3 grid) {
      launch(normalise_rows<X, Y, C, kWarps>, grid_deep(grid, s.groups), kThreads, 0,
             y.mutable_data<Y>(), x.data<X>(), group_rows<C>(gain, n), group_rows<C>(bias, n), s,
             found, static_cast<C>(eps));
    });
  });
}

void norm_rows_backward(Tensor& dx, Tensor& sum_dy, Tensor& sum_dyx, const Tensor& dy,
                        const Tensor& x, const RowStats& stats, const Tensor& gain) {
  const int64_t n = x.dim(2);
  if (dx.defined() && dx.dtype() != x.dtype())
    throw DTypeError("norm_rows_backward: dx is of another type than x");
  visit_pair(x.dtype(), dy.dtype(), "norm_rows_backward", [&]<class X, class G>() {
    using C = Compute<X>;
    const NormSizes s{x.dim(0), x.dim(1), n, stats.kind(), 1 / static_cast<double>(n)};
    const KnownStatistics<C> known{stats.mean.defined() ? stats.mean.data<C>() : nullptr,
                                   stats.rstd.defined() ? stats.rstd.data<C>() : nullptr};
    if (dx.defined() && x.numel() > 0)
      rows_launch(s.per_group, n, [&]<int kWarps>(dim3 grid) {
        launch(norm_gradients<X, G, X, C, kWarps>, grid_deep(grid, s.groups), kThreads, 0,
               dx.mutable_data<X>(), dy.data<G>(), x.data<X>(), group_rows<C>(gain, n), s, known);
      });
    if (!sum_dy.defined() && !sum_dyx.defined()) return;
    reduce_middle(ColumnSums<X, G, C>{sum_dy.defined() ? sum_dy.mutable_data<C>() : nullptr,
                                      sum_dyx.defined() ? sum_dyx.mutable_data<C>() : nullptr,
                                      dy.data<G>(), x.data<X>(), s, known},
                  s.groups, s.per_group, n);
  });
}

}  // namespace

void register_norms() {
  kernel::norm_rows.set(kDevice, norm_rows);
  kernel::norm_rows_backward.set(kDevice, norm_rows_backward);
}

}  // namespace tenun::TENUN_BACKEND
