#include "tenun/ops/norm_rows.h"

#include <vector>

#include "tenun/ops/norm_row.h"
#include "tenun/ops/rows.h"

namespace tenun {
namespace {

using namespace detail;

// A [S, C] or [1, C] table; a constant row where the tensor is undefined.
template <class C>
class GroupRows {
 public:
  GroupRows(const Tensor& t, int64_t n, C otherwise) {
    if (t.defined()) {
      data_ = t.data<C>();
      stride_ = t.dim(0) == 1 ? 0 : n;
    } else {
      constant_.assign(static_cast<size_t>(n), otherwise);
      data_ = constant_.data();
    }
  }
  const C* operator[](int64_t group) const { return data_ + group * stride_; }

 private:
  std::vector<C> constant_;
  const C* data_ = nullptr;
  int64_t stride_ = 0;
};

void norm_rows_cpu(Tensor& y, RowStats& stats, const Tensor& x, const Tensor& gain,
                   const Tensor& bias, double eps) {
  const int64_t groups = x.dim(0), per_group = x.dim(1), n = x.dim(2);
  if (x.numel() == 0) return;
  by_compute({&x, &y}, [&]<class C>() {
    const RowReader<C> in(x);
    const RowWriter<C> out(y);
    const GroupRows<C> gains(gain, n, C(1)), biases(bias, n, C(0));
    const RowNorm norm = stats.kind();
    C* const means = stats.mean.defined() ? stats.mean.mutable_data<C>() : nullptr;
    C* const rstds = stats.rstd.defined() ? stats.rstd.mutable_data<C>() : nullptr;
    for_rows(groups * per_group, n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(n), b(n);
      for (int64_t row = begin; row < end; ++row) {
        const C* __restrict xr = in.at(row * n, n, a);
        C* __restrict yr = out.at(row * n, b);
        const C* __restrict g = gains[row / per_group];
        const C* __restrict shift = biases[row / per_group];
        C mean = 0, rstd = 1;
        if (norm == RowNorm::layer) means[row] = mean = mean_of(xr, n);
        if (norm != RowNorm::none) rstds[row] = rstd = inverse_deviation(xr, mean, n, eps);
        for (int64_t i = 0; i < n; ++i) yr[i] = (xr[i] - mean) * rstd * g[i] + shift[i];
        out.done(row * n, n, yr);
      }
    });
  });
}

// total[s, c] = sum over the chunks of part[s, chunk, c], in order.
template <class C>
void combine(Tensor& total, const std::vector<C>& part, int64_t groups, int64_t chunks, int64_t n) {
  constexpr int64_t kColumns = 512;
  C* const out = total.mutable_data<C>();
  const int64_t blocks = (n + kColumns - 1) / kColumns;
  parallel_for(0, groups * blocks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t group = block / blocks, first = block % blocks * kColumns;
      const int64_t count = std::min(kColumns, n - first);
      double sum[kColumns] = {};
      for (int64_t k = 0; k < chunks; ++k) {
        const C* __restrict p = part.data() + (group * chunks + k) * n + first;
        for (int64_t i = 0; i < count; ++i) sum[i] += static_cast<double>(p[i]);
      }
      for (int64_t i = 0; i < count; ++i) out[group * n + first + i] = static_cast<C>(sum[i]);
    }
  });
}

void norm_rows_backward_cpu(Tensor& dx, Tensor& sum_dy, Tensor& sum_dyx, const Tensor& dy,
                            const Tensor& x, const RowStats& stats, const Tensor& gain) {
  const int64_t groups = x.dim(0), per_group = x.dim(1), n = x.dim(2);
  by_compute({&x, &dy}, [&]<class C>() {
    // At most 32 partial sums for each group, however many rows there are.
    const int64_t rows =
        std::max<int64_t>({1, kRowGrain / std::max<int64_t>(n, 1), (per_group + 31) / 32});
    const int64_t chunks = std::max<int64_t>(1, (per_group + rows - 1) / rows);
    const auto size = static_cast<size_t>(groups * chunks * n);
    std::vector<C> part_dy(sum_dy.defined() ? size : 0), part_dyx(sum_dyx.defined() ? size : 0);
    const RowReader<C> in(x), grad(dy);
    Tensor unused;
    if (!dx.defined()) unused = Tensor({1}, dtype_of<C>);
    const RowWriter<C> out(dx.defined() ? dx : unused);
    const GroupRows<C> gains(gain, n, C(1));
    const RowNorm norm = stats.kind();
    const C* const means = stats.mean.defined() ? stats.mean.data<C>() : nullptr;
    const C* const rstds = stats.rstd.defined() ? stats.rstd.data<C>() : nullptr;
    parallel_for(0, groups * chunks, 1, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(n), b(n), c(n);
      for (int64_t chunk = begin; chunk < end; ++chunk) {
        const int64_t group = chunk / chunks, first = chunk % chunks * rows;
        for (int64_t r = first; r < std::min(per_group, first + rows); ++r) {
          const int64_t row = group * per_group + r;
          const BackwardRow<C> one{
              .dy = grad.at(row * n, n, a),
              .x = in.at(row * n, n, b),
              .gain = gains[group],
              .sum = part_dy.empty() ? nullptr : part_dy.data() + chunk * n,
              .product = part_dyx.empty() ? nullptr : part_dyx.data() + chunk * n,
              .mean = means != nullptr ? means[row] : C(0),
              .rstd = rstds != nullptr ? rstds[row] : C(1),
              .n = n};
          if (dx.defined()) {
            C* const o = out.at(row * n, c);
            one.run(o, norm);
            out.done(row * n, n, o);
          } else {
            one.run(nullptr, norm);
          }
        }
      }
    });
    if (sum_dy.defined()) combine(sum_dy, part_dy, groups, chunks, n);
    if (sum_dyx.defined()) combine(sum_dyx, part_dyx, groups, chunks, n);
  });
}

Tensor grouped(const Tensor& x, int64_t groups) {
  const int64_t n = x.dim(-1), rows = n == 0 ? 0 : x.numel() / n;
  return x.contiguous().view({groups, groups == 0 ? 0 : rows / groups, n});
}

}  // namespace

constinit Kernel<void(Tensor& y, RowStats& stats, const Tensor& x, const Tensor& gain,
                      const Tensor& bias, double eps)>
    kernel::norm_rows{"norm_rows", norm_rows_cpu};
constinit Kernel<void(Tensor& dx, Tensor& sum_dy, Tensor& sum_dyx, const Tensor& dy,
                      const Tensor& x, const RowStats& stats, const Tensor& gain)>
    kernel::norm_rows_backward{"norm_rows_backward", norm_rows_backward_cpu};

Tensor norm_rows(RowNorm norm, RowStats& stats, const Tensor& x, int64_t groups, const Tensor& gain,
                 const Tensor& bias, double eps, DType out) {
  const Tensor rows = grouped(x, groups);
  const Shape per_row{rows.dim(0) * rows.dim(1)};
  const DType c = compute_dtype(wider(x.dtype(), out));
  if (norm != RowNorm::none) stats.rstd = Tensor(per_row, c, x.device());
  if (norm == RowNorm::layer) stats.mean = Tensor(per_row, c, x.device());
  Tensor y(rows.shape(), out, x.device());
  kernel::norm_rows(x.device(), y, stats, rows, gain, bias, eps);
  return y.view(x.shape());
}

RowGrads norm_rows_backward(RowWants wants, const Tensor& dy, const Tensor& x,
                            const RowStats& stats, int64_t groups, const Tensor& gain) {
  const auto want = [&](RowWants w) {
    return (static_cast<unsigned>(wants) & static_cast<unsigned>(w)) != 0;
  };
  const Shape sums{groups, x.dim(-1)};
  const DType c = compute_dtype(wider(x.dtype(), dy.dtype()));
  RowGrads g;
  const Tensor rows = grouped(x, groups);
  if (want(RowWants::dx)) g.dx = Tensor(rows.shape(), x.dtype(), x.device());
  if (want(RowWants::sum_dy)) g.sum_dy = Tensor(sums, c, x.device());
  if (want(RowWants::sum_dyx)) g.sum_dyx = Tensor(sums, c, x.device());
  kernel::norm_rows_backward(x.device(), g.dx, g.sum_dy, g.sum_dyx, grouped(dy, groups), rows,
                             stats, gain);
  if (g.dx.defined()) g.dx = g.dx.view(x.shape());
  return g;
}

}  // namespace tenun
