#include "tenun/ops/reduce.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/functors_reduce.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

// What every reduction over several axes knows. Backward works on `kept`, the result's shape with
// the reduced axes of size 1, which broadcasts against x.
struct Axes {
  unsigned mask = 0;
  KeepDims keep = KeepDims::no;
  Shape from;  // x's shape

  [[nodiscard]] Shape kept() const { return reduced_shape(from, mask, true); }
  [[nodiscard]] Shape out() const { return reduced_shape(from, mask, keep == KeepDims::yes); }
  [[nodiscard]] int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < from.size(); ++i)
      if ((mask >> i & 1u) != 0) n *= from[i];
    return n;
  }
};
Axes axes_of(const Var& x, const std::vector<int>& dims, KeepDims keep, const char* op) {
  return {axis_mask(dims, x.rank(), op), keep, x.shape()};
}
void check_float(const Var& x, const char* op) {
  check<DTypeError>(is_floating(x.dtype()), op, "does not take {}; cast it to f32 first",
                    x.value());
}
DType compute_type(DType d) { return d == DType::f64 ? DType::f64 : DType::f32; }

struct Sum {
  static constexpr const char* name = "sum";
  Axes axes;
  Tensor forward(const Ctx&, const Tensor& x) {
    return sum_axes(is_floating(x.dtype()) ? x : x.to(DType::i64), axes.mask,
                    axes.keep == KeepDims::yes);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    return {dy.reshape(axes.kept()).expand(axes.from)};
  }
};

struct Mean {
  static constexpr const char* name = "mean";
  Axes axes;
  Tensor forward(const Ctx&, const Tensor& x) {
    return sum_axes(x, axes.mask, axes.keep == KeepDims::yes,
                    1 / static_cast<double>(axes.count()));
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor g = map(fn::MulScalar(1 / static_cast<double>(axes.count())), dy);
    return {g.view(axes.kept()).expand(axes.from)};
  }
};

// Variance, and its square root.
struct Deviation {
  static constexpr const char* name = "var";
  static constexpr Cast cast = Cast::f32;
  Axes axes;
  int64_t correction = 1;
  bool root = false;
  Saved x, mean, y;

  [[nodiscard]] double scale() const {
    return 1 / static_cast<double>(std::max<int64_t>(axes.count() - correction, 0));
  }
  Tensor forward(const Ctx& c, const Tensor& x_) {
    const Tensor v = reduce_view(x_, axes.mask);
    Tensor m({v.dim(0), v.dim(2)}, compute_type(x_.dtype()), x_.device()), q = empty_like(m);
    kernel::sum_middle(x_.device(), m, v, 1 / static_cast<double>(axes.count()));
    kernel::sum_squares(x_.device(), q, v, m, scale());
    Tensor out = root ? map_to(x_.dtype(), fn::Sqrt{}, q) : q.to(x_.dtype());
    if (c.recording) {
      x = x_, mean = m.view(axes.kept());
      if (root) y = out.view(axes.kept());
    }
    return out.view(axes.out());
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor d = dy.reshape(axes.kept());
    if (root) return {map(fn::DeviationGradOverRoot{scale()}, x.get(), mean.get(), y.get(), d)};
    return {map(fn::DeviationGrad{2 * scale()}, x.get(), mean.get(), d)};
  }
};

struct Norm {
  static constexpr const char* name = "norm";
  static constexpr Cast cast = Cast::f32;
  Axes axes;
  Saved x, y;
  Tensor forward(const Ctx& c, const Tensor& x_) {
    const Tensor v = reduce_view(x_, axes.mask);
    Tensor q({v.dim(0), v.dim(2)}, compute_type(x_.dtype()), x_.device());
    kernel::sum_squares(x_.device(), q, v, {}, 1);
    Tensor out = map_to(x_.dtype(), fn::Sqrt{}, q);
    if (c.recording) x = x_, y = out.view(axes.kept());
    return out.view(axes.out());
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    return {map(fn::NormGrad{}, x.get(), y.get(), dy.reshape(axes.kept()))};
  }
};

struct LogSumExp {
  static constexpr const char* name = "logsumexp";
  static constexpr Cast cast = Cast::f32;
  Axes axes;
  Saved x, y;
  Tensor forward(const Ctx& c, const Tensor& x_) {
    const Tensor v = reduce_view(x_, axes.mask);
    Tensor out({v.dim(0), v.dim(2)}, x_.dtype(), x_.device());
    kernel::logsumexp(x_.device(), out, v);
    if (c.recording) x = x_, y = out.view(axes.kept());
    return out.view(axes.out());
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    return {map(fn::LogSumExpGrad{}, x.get(), y.get(), dy.reshape(axes.kept()))};
  }
};

struct Prod {
  static constexpr const char* name = "prod";
  Axes axes;
  Saved x;
  Tensor forward(const Ctx& c, const Tensor& x_) {
    const Tensor v = reduce_view(x_, axes.mask);
    Tensor out({v.dim(0), v.dim(2)}, x_.dtype(), x_.device());
    kernel::prod(x_.device(), out, v);
    if (c.recording) x = x_;
    return out.view(axes.out());
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor v = reduce_view(x.get(), axes.mask);
    Tensor dx = empty_like(v);
    kernel::prod_backward(v.device(), dx, dy.contiguous().view({v.dim(0), v.dim(2)}), v);
    return {undo_reduce_view(dx, axes.from, axes.mask)};
  }
};

template <Extreme Which>
struct ExtremumOp {
  static constexpr const char* name = Which == Extreme::greatest ? "max" : "min";
  Axes axes;
  Saved indices;
  Shape view;

  std::array<Tensor, 2> forward(const Ctx& c, const Tensor& x) {
    const Tensor v = reduce_view(x, axes.mask);
    view = v.shape();
    Tensor values({v.dim(0), v.dim(2)}, x.dtype(), x.device());
    Tensor at(values.shape(), DType::i64, x.device());
    kernel::extremum(x.device(), values, at, v, Which);
    if (c.recording) indices = at;
    return {values.view(axes.out()), at.view(axes.out())};
  }
  Grads<1> backward(const Ctx&, const std::array<Tensor, 2>& dy) {
    Tensor dx = Tensor::zeros(view, dy[0].dtype(), dy[0].device());
    kernel::extremum_backward(dx.device(), dx, dy[0].contiguous().view(indices.get().shape()),
                              indices.get());
    return {undo_reduce_view(dx, axes.from, axes.mask)};
  }
};

struct CumSum {
  static constexpr const char* name = "cumsum";
  unsigned mask = 1;
  static Tensor run(const Tensor& x, unsigned mask, Direction direction) {
    const Tensor v = reduce_view(x, mask);
    Tensor y = empty_like(v);
    kernel::cumsum(x.device(), y, v, direction);
    return y.view(x.shape());
  }
  Tensor forward(const Ctx&, const Tensor& x) { return run(x, mask, Direction::forward); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {run(dy, mask, Direction::backward)}; }
};

template <Extreme Which>
std::array<Var, 2> extremum(const Var& x, const std::vector<int>& dims, KeepDims keep,
                            const char* op) {
  const Axes axes = axes_of(x, dims, keep, op);
  check(axes.count() > 0, op, "{} has no element along the reduced axes", x.value());
  return apply(ExtremumOp<Which>{.axes = axes, .indices = {}, .view = {}}, x);
}
Var deviation(const Var& x, const std::vector<int>& dims, int64_t correction, KeepDims keep,
              const char* op, bool root) {
  check_float(x, op);
  return apply(Deviation{.axes = axes_of(x, dims, keep, op),
                         .correction = correction,
                         .root = root,
                         .x = {},
                         .mean = {},
                         .y = {}},
               x);
}
// How many elements are not 0, over the axes.
Tensor count_true(const Var& x, const Axes& axes) {
  return sum_axes(x.value().to(DType::boolean).to(DType::i64), axes.mask,
                  axes.keep == KeepDims::yes);
}

}  // namespace

Var sum(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  return apply(Sum{axes_of(x, dims, keep, "sum")}, x);
}
Var mean(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  check_float(x, "mean");
  return apply(Mean{axes_of(x, dims, keep, "mean")}, x);
}
Var var(const Var& x, const std::vector<int>& dims, int64_t correction, KeepDims keep) {
  return deviation(x, dims, correction, keep, "var", false);
}
Var stddev(const Var& x, const std::vector<int>& dims, int64_t correction, KeepDims keep) {
  return deviation(x, dims, correction, keep, "std", true);
}
Var norm(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  check_float(x, "norm");
  return apply(Norm{.axes = axes_of(x, dims, keep, "norm"), .x = {}, .y = {}}, x);
}
Var logsumexp(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  check_float(x, "logsumexp");
  return apply(LogSumExp{.axes = axes_of(x, dims, keep, "logsumexp"), .x = {}, .y = {}}, x);
}
Var prod(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  check_float(x, "prod");
  return apply(Prod{.axes = axes_of(x, dims, keep, "prod"), .x = {}}, x);
}
Var amax(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  return extremum<Extreme::greatest>(x, dims, keep, "amax")[0];
}
Var amin(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  return extremum<Extreme::least>(x, dims, keep, "amin")[0];
}
Extremum max(const Var& x, int dim, KeepDims keep) {
  const auto [values, indices] = extremum<Extreme::greatest>(x, {dim}, keep, "max");
  return {values, indices};
}
Extremum min(const Var& x, int dim, KeepDims keep) {
  const auto [values, indices] = extremum<Extreme::least>(x, {dim}, keep, "min");
  return {values, indices};
}
Var argmax(const Var& x, int dim, KeepDims keep) {
  return extremum<Extreme::greatest>(x.detach(), {dim}, keep, "argmax")[1];
}
Var argmin(const Var& x, int dim, KeepDims keep) {
  return extremum<Extreme::least>(x.detach(), {dim}, keep, "argmin")[1];
}
Var cumsum(const Var& x, int dim) { return apply(CumSum{axis_mask({dim}, x.rank(), "cumsum")}, x); }
Var any(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  const Tensor n = count_true(x, axes_of(x, dims, keep, "any"));
  return Var(n.to(DType::boolean));
}
Var all(const Var& x, const std::vector<int>& dims, KeepDims keep) {
  const Axes axes = axes_of(x, dims, keep, "all");
  const Tensor want = Tensor::scalar(static_cast<double>(axes.count()), DType::i64, x.device());
  return Var(map_to(DType::boolean, fn::Compare<fn::Eq>{}, count_true(x, axes), want));
}

}  // namespace tenun
