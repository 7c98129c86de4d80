#include "tenun/ops/softmax.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/math.h"
#include "tenun/ops/functors_norm.h"
#include "tenun/ops/rows.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

using namespace detail;

// y[i] = exp(x[i] - shift), x <= shift; the sum of y.
template <class C>
C exp_row(C* __restrict y, const C* __restrict x, C shift, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = math::exp_below_zero(x[i] - shift);
  return lane_sum<C>(n, [y](int64_t i) { return y[i]; });
}

template <class C>
void softmax_row(C* __restrict y, const C* __restrict x, int64_t n, SoftmaxForm form) {
  const C top = lane_max(x, n);
  const C sum = exp_row(y, x, top, n);
  if (form == SoftmaxForm::log) {
    const C shift = math::log(sum);
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] - top - shift;
  } else {
    const C factor = C(1) / sum;
    for (int64_t i = 0; i < n; ++i) y[i] *= factor;
  }
}

template <class C>
void softmax_backward_row(C* __restrict dx, const C* __restrict dy, const C* __restrict y,
                          int64_t n, SoftmaxForm form) {
  if (form == SoftmaxForm::log) {
    const C sum = lane_sum<C>(n, [dy](int64_t i) { return dy[i]; });
    for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] - math::exp(y[i]) * sum;
  } else {
    const C sum = lane_sum<C>(n, [dy, y](int64_t i) { return dy[i] * y[i]; });
    for (int64_t i = 0; i < n; ++i) dx[i] = y[i] * (dy[i] - sum);
  }
}

void softmax_cpu(Tensor& y, const Tensor& x, SoftmaxForm form) {
  const int64_t n = x.dim(1);
  if (x.numel() == 0) return;
  by_compute({&x}, [&]<class C>() {
    const RowReader<C> in(x);
    const RowWriter<C> out(y);
    for_rows(x.dim(0), n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(n), b(n);
      for (int64_t at = begin * n; at < end * n; at += n) {
        C* const to = out.at(at, b);
        softmax_row(to, in.at(at, n, a), n, form);
        out.done(at, n, to);
      }
    });
  });
}

void softmax_backward_cpu(Tensor& dx, const Tensor& dy, const Tensor& y, SoftmaxForm form) {
  const int64_t n = y.dim(1);
  if (y.numel() == 0) return;
  by_compute({&y}, [&]<class C>() {
    const RowReader<C> grad(dy), in(y);
    const RowWriter<C> out(dx);
    for_rows(y.dim(0), n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(n), b(n), c(n);
      for (int64_t at = begin * n; at < end * n; at += n) {
        C* const to = out.at(at, c);
        softmax_backward_row(to, grad.at(at, n, a), in.at(at, n, b), n, form);
        out.done(at, n, to);
      }
    });
  });
}

void cross_entropy_cpu(Tensor& loss, Tensor& lse, const Tensor& x, const Tensor& target) {
  const int64_t rows = x.dim(0), n = x.dim(1);
  const int64_t* const t = target.data<int64_t>();
  for (int64_t r = 0; r < rows; ++r)
    check(t[r] >= 0 && t[r] < n, "cross_entropy", "target[{}] is {}, outside the {} classes", r,
          t[r], n);
  by_compute({&x}, [&]<class C>() {
    const RowReader<C> in(x);
    const RowWriter<C> out(loss);
    C* const sums = lse.mutable_data<C>();
    for_rows(rows, n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(n), b(n), one(1);
      for (int64_t r = begin; r < end; ++r) {
        const C* const p = in.at(r * n, n, a);
        const C top = lane_max(p, n);
        const C log_sum = math::log(exp_row<C>(b, p, top, n));
        sums[r] = top + log_sum;
        C* const to = out.at(r, one);
        *to = log_sum - (p[t[r]] - top);
        out.done(r, 1, to);
      }
    });
  });
}

void cross_entropy_backward_cpu(Tensor& dx, const Tensor& dloss, const Tensor& x, const Tensor& lse,
                                const Tensor& target) {
  const int64_t n = x.dim(1);
  const int64_t* const t = target.data<int64_t>();
  by_compute({&x}, [&]<class C>() {
    const RowReader<C> in(x);
    const RowWriter<C> out(dx);
    const C* const sums = lse.data<C>();
    const C* const grads = dloss.data<C>();
    for_rows(x.dim(0), n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(n), b(n);
      for (int64_t r = begin; r < end; ++r) {
        const C* __restrict p = in.at(r * n, n, a);
        C* __restrict to = out.at(r * n, b);
        const C shift = sums[r], g = grads[r];
        for (int64_t i = 0; i < n; ++i) to[i] = g * math::exp(p[i] - shift);
        to[t[r]] -= g;
        out.done(r * n, n, to);
      }
    });
  });
}

Tensor as_rows(const Tensor& x) {
  const int64_t n = x.rank() == 0 ? 1 : x.dim(-1);
  return x.contiguous().view({n == 0 ? 0 : x.numel() / n, n});
}
// Axis `dim` last.
Tensor axis_last(const Tensor& x, int dim) { return x.rank() < 2 ? x : x.transpose(dim, -1); }

template <SoftmaxForm kForm>
struct Softmax {
  static constexpr const char* name = kForm == SoftmaxForm::log ? "log_softmax" : "softmax";
  static constexpr Cast cast = kForm == SoftmaxForm::log ? Cast::f32 : Cast::keep;
  int dim = -1;
  Saved y{};  // rows along `dim`

  Tensor forward(const Ctx& c, const Tensor& x) {
    const Tensor turned = axis_last(x, dim), rows = as_rows(turned);
    Tensor result = empty_like(rows);
    kernel::softmax(x.device(), result, rows, kForm);
    if (c.recording) y = result;
    return axis_last(result.view(turned.shape()), dim).contiguous();
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor turned = axis_last(dy, dim);
    Tensor dx = empty_like(y.get());
    kernel::softmax_backward(dy.device(), dx, as_rows(turned), y.get(), kForm);
    return {axis_last(dx.view(turned.shape()), dim).contiguous()};
  }
};

struct CrossEntropy {
  static constexpr const char* name = "cross_entropy";
  static constexpr Cast cast = Cast::f32;
  Reduction reduction = Reduction::mean;
  Saved x{}, lse{}, target{};

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& target_) {
    const Tensor rows = as_rows(x_), t = target_.contiguous();
    const DType compute = compute_dtype(x_.dtype());
    Tensor loss(t.shape(), compute, x_.device()), sums(t.shape(), compute, x_.device());
    kernel::cross_entropy(x_.device(), loss, sums, rows, t);
    if (c.recording) x = x_, lse = sums, target = t;
    if (reduction == Reduction::none) return loss.to(x_.dtype());
    Tensor total = sum_axes(loss, 1, false);
    if (reduction == Reduction::mean)
      total = map(fn::Scaled{1 / static_cast<double>(t.numel())}, total);
    return total.to(x_.dtype());
  }
  Grads<2> backward(const Ctx&, const Tensor& dy) {
    const Tensor rows = as_rows(x.get());
    Tensor g = dy.to(compute_dtype(rows.dtype()));
    if (reduction == Reduction::mean) g = map(fn::Scaled{1 / static_cast<double>(rows.dim(0))}, g);
    if (reduction != Reduction::none) g = g.expand({rows.dim(0)});
    Tensor dx = empty_like(rows);
    kernel::cross_entropy_backward(dx.device(), dx, g.contiguous(), rows, lse.get(), target.get());
    return {dx, Tensor()};
  }
};

void check_axis(const char* op, const Var& x, int dim) {
  check<DTypeError>(is_floating(x.dtype()), op, "needs a floating type, got {}", x.value());
  if (x.rank() > 0) (void)normalize_axis(dim, x.rank(), op);
}

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& x, SoftmaxForm form)> kernel::softmax{"softmax",
                                                                                     softmax_cpu};
constinit Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& y, SoftmaxForm form)>
    kernel::softmax_backward{"softmax_backward", softmax_backward_cpu};
constinit Kernel<void(Tensor& loss, Tensor& lse, const Tensor& x, const Tensor& target)>
    kernel::cross_entropy{"cross_entropy", cross_entropy_cpu};
constinit Kernel<void(Tensor& dx, const Tensor& dloss, const Tensor& x, const Tensor& lse,
                      const Tensor& target)>
    kernel::cross_entropy_backward{"cross_entropy_backward", cross_entropy_backward_cpu};

Tensor softmax_rows(const Tensor& x) {
  const Tensor rows = as_rows(x);
  Tensor y = empty_like(rows);
  kernel::softmax(x.device(), y, rows, SoftmaxForm::plain);
  return y.view(x.shape());
}

Var softmax(const Var& x, int dim) {
  check_axis("softmax", x, dim);
  return apply(Softmax<SoftmaxForm::plain>{.dim = dim}, x);
}
Var log_softmax(const Var& x, int dim) {
  check_axis("log_softmax", x, dim);
  return apply(Softmax<SoftmaxForm::log>{.dim = dim}, x);
}

Var cross_entropy(const Var& logits, const Var& target, Reduction reduction) {
  const char* const op = "cross_entropy";
  check<ShapeError>(logits.rank() == 2 && target.shape() == Shape{logits.dim(0)}, op,
                    "needs logits [N, C] and target [N], got {} and {}", logits.value(),
                    target.value());
  check<DTypeError>(is_floating(logits.dtype()) && target.dtype() == DType::i64, op,
                    "needs floating logits and an i64 target, got {} and {}", logits.value(),
                    target.value());
  return apply(CrossEntropy{.reduction = reduction}, logits, target);
}

}  // namespace tenun
