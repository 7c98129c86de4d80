#include "tenun/ops/norm.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/functors_norm.h"
#include "tenun/ops/norm_rows.h"
#include "tenun/ops/rows.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

// A [C] table as the [1, C] gain or bias of norm_rows.
Tensor one_row(const Tensor& t, DType x) {
  return t.defined() ? in_compute(t, x).view({1, t.numel()}) : t;
}
// A [1, C] sum as the gradient of a [C] table.
Tensor table_grad(const Tensor& sum, const Shape& shape, DType d) { return sum.to(d).view(shape); }

template <RowNorm kNorm>
struct Normalise {
  static constexpr const char* name = kNorm == RowNorm::rms ? "rms_norm" : "layer_norm";
  double eps = 0;
  Saved x{}, gain{}, mean{}, rstd{};
  Shape table{};
  DType weight_dtype = DType::f32, bias_dtype = DType::f32;

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& w, const Tensor& b) {
    const Tensor g = one_row(w, x_.dtype());
    RowStats stats;
    const Tensor y = norm_rows(kNorm, stats, x_, 1, g, one_row(b, x_.dtype()), eps, x_.dtype());
    if (c.recording) {
      weight_dtype = w.dtype(), bias_dtype = b.dtype();
      table = {x_.dim(-1)};
      x = x_, gain = g, mean = stats.mean, rstd = stats.rstd;
    }
    return y;
  }
  Grads<3> backward(const Ctx& c, const Tensor& dy) {
    const RowGrads r =
        norm_rows_backward(when(c.needs[0], RowWants::dx) | when(c.needs[1], RowWants::sum_dyx) |
                               when(c.needs[2], RowWants::sum_dy),
                           dy, x.get(), {.mean = mean.get(), .rstd = rstd.get()}, 1, gain.get());
    Grads<3> g;
    if (c.needs[0]) g[0] = r.dx;
    if (c.needs[1]) g[1] = table_grad(r.sum_dyx, table, weight_dtype);
    if (c.needs[2]) g[2] = table_grad(r.sum_dy, table, bias_dtype);
    return g;
  }
};

// With r = 1 / sqrt(var + eps): dx = dy w r, dw = sum dy (x - mean) r, db = sum dy,
// dmean = -w r db, dvar = -w r^2 dw / 2.
struct BatchNormEval {
  static constexpr const char* name = "batch_norm_eval";
  double eps = 0;
  Saved x{}, w{}, mean{}, rstd{};
  std::array<DType, 5> dtypes{};

  // [N, C, ...] as [N, C, P], tables as [C, 1].
  static Tensor planes(const Tensor& t) {
    const int64_t n = t.dim(0), c = t.dim(1), area = n * c == 0 ? 0 : t.numel() / (n * c);
    return t.reshape({n, c, area});
  }
  static Tensor column(const Tensor& t, DType like) {
    return in_compute(t, like).view({t.numel(), 1});
  }

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& w_, const Tensor& b_,
                 const Tensor& mean_, const Tensor& var_) {
    const DType d = x_.dtype();
    const Tensor weight = column(w_, d), centre = column(mean_, d);
    const Tensor r = map(fn::InverseRoot{eps}, column(var_, d));
    if (c.recording) {
      dtypes = {d, w_.dtype(), b_.dtype(), mean_.dtype(), var_.dtype()};
      w = weight, rstd = r;
      if (c.needs[1] || c.needs[4]) x = x_, mean = centre;
    }
    return map(fn::CentredAffine{}, planes(x_), centre, map(fn::TimesBy{}, weight, r),
               column(b_, d))
        .view(x_.shape());
  }
  Grads<5> backward(const Ctx& c, const Tensor& dy) {
    const Tensor d = planes(dy);
    const Shape table{dy.dim(1)};
    const Tensor gain = map(fn::TimesBy{}, w.get(), rstd.get());
    Grads<5> g;
    if (c.needs[0]) g[0] = map(fn::TimesBy{}, d, gain).view(dy.shape());
    Tensor db, dw;
    if (c.needs[2] || c.needs[3]) db = sum_axes(in_compute(d, d.dtype()), 0b101, false);
    if (c.needs[1] || c.needs[4])
      dw = sum_axes(map(fn::CentredProduct{}, in_compute(d, d.dtype()), planes(x.get()), mean.get(),
                        rstd.get()),
                    0b101, false);
    const auto flat = [&](const Tensor& t, size_t i) { return t.view(table).to(dtypes[i]); };
    if (c.needs[1]) g[1] = flat(dw, 1);
    if (c.needs[2]) g[2] = flat(db, 2);
    if (c.needs[3]) g[3] = flat(map(fn::TimesBy{-1}, db, gain.view(table)), 3);
    if (c.needs[4])
      g[4] = flat(
          map(fn::TimesBy{-0.5}, map(fn::TimesBy{}, dw, rstd.get().view(table)), gain.view(table)),
          4);
    return g;
  }
};

void check_float(const char* op, const Var& x) {
  check<DTypeError>(is_floating(x.dtype()), op, "needs a floating type, got {}", x.value());
}
void check_table(const char* op, const char* what, const Var& t, int64_t c, const Var& x) {
  check<ShapeError>(!t.defined() || t.shape() == Shape{c}, op, "{} {} for x {}: expected [{}]",
                    what, t.value(), x.value(), c);
}

}  // namespace

Var rms_norm(const Var& x, const Var& weight, double eps) {
  check_float("rms_norm", x);
  check<ShapeError>(x.rank() >= 1, "rms_norm", "needs at least one axis, got a scalar");
  check_table("rms_norm", "weight", weight, x.dim(-1), x);
  return apply(Normalise<RowNorm::rms>{.eps = eps}, x, weight, Var());
}

Var layer_norm(const Var& x, const Var& weight, const Var& bias, double eps) {
  check_float("layer_norm", x);
  check<ShapeError>(x.rank() >= 1, "layer_norm", "needs at least one axis, got a scalar");
  check_table("layer_norm", "weight", weight, x.dim(-1), x);
  check_table("layer_norm", "bias", bias, x.dim(-1), x);
  return apply(Normalise<RowNorm::layer>{.eps = eps}, x, weight, bias);
}

Var batch_norm_eval(const Var& x, const Var& weight, const Var& bias, const Var& running_mean,
                    const Var& running_var, double eps) {
  const char* const op = "batch_norm_eval";
  check_float(op, x);
  check<ShapeError>(x.rank() >= 2, op, "x must be [N, C, ...], got {}", x.value());
  const std::pair<const char*, const Var*> tables[] = {{"weight", &weight},
                                                       {"bias", &bias},
                                                       {"running_mean", &running_mean},
                                                       {"running_var", &running_var}};
  for (const auto& [what, t] : tables) {
    check<ShapeError>(t->defined(), op, "{} is not given", what);
    check_table(op, what, *t, x.dim(1), x);
  }
  return apply(BatchNormEval{.eps = eps}, x, weight, bias, running_mean, running_var);
}

}  // namespace tenun
