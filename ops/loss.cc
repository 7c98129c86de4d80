#include "tenun/ops/loss.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/functors_norm.h"
#include "tenun/ops/rows.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

using namespace detail;

// A loss of elements: Value(pred, target), and Slope(pred, target, dy) for pred; target gets minus
// that.
template <class Value, class Slope>
struct PairLoss {
  static constexpr const char* name = Value::name;
  static constexpr Cast cast = Cast::f32;
  Reduction reduction = Reduction::mean;
  Saved pred{}, target{};
  DType target_dtype = DType::f32;

  Tensor forward(const Ctx& c, const Tensor& p, const Tensor& t) {
    if (c.recording) pred = p, target = t, target_dtype = t.dtype();
    const Tensor each = map(Value{}, p, t);
    if (reduction == Reduction::none) return each;
    const Tensor total = sum_axes(each, (1u << each.rank()) - 1, false);
    return reduction == Reduction::sum ? total : map(fn::Scaled{1 / count(p)}, total);
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    const Tensor& p = pred.get();
    Tensor g = dy;
    if (reduction == Reduction::mean) g = map(fn::Scaled{1 / count(p)}, g);
    const Tensor dp = map(Slope{}, p, target.get(), g.expand(p.shape()));
    Grads<2> r;
    if (c.needs[0]) r[0] = dp;
    if (c.needs[1]) r[1] = map(fn::Scaled{-1}, dp).to(target_dtype);
    return r;
  }
  static double count(const Tensor& t) { return static_cast<double>(t.numel()); }
};

// What the cosine of two rows is made of.
template <class C>
struct CosineRow {
  C a, b;  // clamped norms
  C cosine;
  bool a_clamped, b_clamped;

  CosineRow(const C* x, const C* y, int64_t n, C eps) {
    const auto root = [n](const C* p) {
      return std::sqrt(lane_sum<C>(n, [p](int64_t i) { return p[i] * p[i]; }));
    };
    a = root(x), b = root(y);
    a_clamped = a < eps, b_clamped = b < eps;
    a = a_clamped ? eps : a, b = b_clamped ? eps : b;
    cosine = lane_sum<C>(n, [x, y](int64_t i) { return x[i] * y[i]; }) / a / b;
  }
};

void cosine_cpu(Tensor& y, const Tensor& a, const Tensor& b, double eps) {
  const int64_t n = a.dim(1);
  by_compute({&a, &b}, [&]<class C>() {
    const RowReader<C> in_a(a), in_b(b);
    const RowWriter<C> out(y);
    for_rows(a.dim(0), n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> ba(n), bb(n), one(1);
      for (int64_t r = begin; r < end; ++r) {
        C* const to = out.at(r, one);
        *to = CosineRow<C>(in_a.at(r * n, n, ba), in_b.at(r * n, n, bb), n, static_cast<C>(eps))
                  .cosine;
        out.done(r, 1, to);
      }
    });
  });
}

// dx = dy (y / |y| - cosine x / |x|) / |x|; a clamped norm is constant.
template <class C>
void cosine_slope(C* __restrict dx, const C* __restrict x, const C* __restrict y, C along, C across,
                  int64_t n) {
  for (int64_t i = 0; i < n; ++i) dx[i] = across * y[i] - along * x[i];
}

void cosine_backward_cpu(Tensor& da, Tensor& db, const Tensor& dy, const Tensor& a, const Tensor& b,
                         double eps) {
  const int64_t n = a.dim(1);
  by_compute({&a, &b}, [&]<class C>() {
    const RowReader<C> in_a(a), in_b(b), grad(dy);
    Tensor unused({1}, dtype_of<C>);
    const RowWriter<C> out_a(da.defined() ? da : unused), out_b(db.defined() ? db : unused);
    for_rows(a.dim(0), n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> ba(n), bb(n), to(n), one(1);
      for (int64_t r = begin; r < end; ++r) {
        const C *x = in_a.at(r * n, n, ba), *y = in_b.at(r * n, n, bb);
        const CosineRow<C> row(x, y, n, static_cast<C>(eps));
        const C g = *grad.at(r, 1, one), across = g / row.a / row.b;
        const auto along = [&](C norm, bool clamped) {
          return clamped ? C(0) : g * row.cosine / norm / norm;
        };
        if (da.defined()) {
          C* const p = out_a.at(r * n, to);
          cosine_slope(p, x, y, along(row.a, row.a_clamped), across, n);
          out_a.done(r * n, n, p);
        }
        if (db.defined()) {
          C* const p = out_b.at(r * n, to);
          cosine_slope(p, y, x, along(row.b, row.b_clamped), across, n);
          out_b.done(r * n, n, p);
        }
      }
    });
  });
}

struct Cosine {
  static constexpr const char* name = "cosine_similarity";
  static constexpr Cast cast = Cast::f32;
  int dim = -1;
  double eps = 0;
  Saved a{}, b{};

  [[nodiscard]] Tensor turned(const Tensor& t) const { return t.transpose(dim, -1); }
  [[nodiscard]] Tensor rows(const Tensor& t) const {
    const int64_t n = t.dim(dim);
    return turned(t).contiguous().view({n == 0 ? 0 : t.numel() / n, n});
  }

  Tensor forward(const Ctx& c, const Tensor& a_, const Tensor& b_) {
    if (c.recording) a = a_, b = b_;
    // The reduced axis goes last and disappears; the rows keep the order of the others only if the
    // axis that it changed places with is moved back.
    Shape shape = turned(a_).shape();
    shape[shape.size() - 1] = 1;
    Tensor y(shape, wider(a_.dtype(), b_.dtype()), a_.device());
    Tensor flat = y.view({y.numel()});
    kernel::cosine(y.device(), flat, rows(a_), rows(b_), eps);
    return turned(y).contiguous().squeeze(dim);
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    const Tensor x = rows(a.get()), y = rows(b.get());
    const Tensor g = turned(dy.unsqueeze(dim)).contiguous().view({x.dim(0)});
    Grads<2> r;
    if (c.needs[0]) r[0] = empty_like(x);
    if (c.needs[1]) r[1] = empty_like(y);
    kernel::cosine_backward(x.device(), r[0], r[1], g, x, y, eps);
    for (Tensor& t : r)
      if (t.defined()) t = turned(t.view(turned(a.get()).shape())).contiguous();
    return r;
  }
};

void check_pair(const char* op, const Var& a, const Var& b) {
  check<ShapeError>(a.shape() == b.shape(), op, "shapes differ: {} and {}", a.value(), b.value());
  check<DTypeError>(is_floating(a.dtype()) && is_floating(b.dtype()), op,
                    "needs floating types, got {} and {}", a.value(), b.value());
}

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& a, const Tensor& b, double eps)> kernel::cosine{
    "cosine_similarity", cosine_cpu};
constinit Kernel<void(Tensor& da, Tensor& db, const Tensor& dy, const Tensor& a, const Tensor& b,
                      double eps)>
    kernel::cosine_backward{"cosine_similarity_backward", cosine_backward_cpu};

Var mse_loss(const Var& pred, const Var& target, Reduction reduction) {
  check_pair("mse_loss", pred, target);
  return apply(PairLoss<fn::SquaredError, fn::SquaredErrorGrad>{.reduction = reduction}, pred,
               target);
}
Var l1_loss(const Var& pred, const Var& target, Reduction reduction) {
  check_pair("l1_loss", pred, target);
  return apply(PairLoss<fn::AbsoluteError, fn::AbsoluteErrorGrad>{.reduction = reduction}, pred,
               target);
}
Var cosine_similarity(const Var& a, const Var& b, int dim, double eps) {
  check_pair("cosine_similarity", a, b);
  check<ShapeError>(a.rank() >= 1, "cosine_similarity", "needs at least one axis, got a scalar");
  return apply(Cosine{.dim = normalize_axis(dim, a.rank(), "cosine_similarity"), .eps = eps}, a, b);
}

}  // namespace tenun
