#include "tenun/ops/swiglu.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/rows.h"

namespace tenun {
namespace {

using namespace detail;

template <class C>
void forward_row(C* __restrict y, const C* __restrict x, int64_t h) {
  for (int64_t i = 0; i < h; ++i) y[i] = fn::Swiglu::value(x[i], x[h + i]);
}
template <class C>
void backward_row(C* __restrict dx, const C* __restrict dy, const C* __restrict x, int64_t h) {
  C* __restrict db = dx + h;
  for (int64_t i = 0; i < h; ++i) fn::Swiglu::grad(dy[i], x[i], x[h + i], dx[i], db[i]);
}

void swiglu_cpu(Tensor& y, const Tensor& x) {
  const int64_t h = y.dim(1), n = 2 * h;
  by_compute({&x}, [&]<class C>() {
    const RowReader<C> in(x);
    const RowWriter<C> out(y);
    for_rows(y.dim(0), n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(n), b(h);
      for (int64_t r = begin; r < end; ++r) {
        C* const to = out.at(r * h, b);
        forward_row(to, in.at(r * n, n, a), h);
        out.done(r * h, h, to);
      }
    });
  });
}

void swiglu_backward_cpu(Tensor& dx, const Tensor& dy, const Tensor& x) {
  const int64_t h = dy.dim(1), n = 2 * h;
  by_compute({&x}, [&]<class C>() {
    const RowReader<C> in(x), grad(dy);
    const RowWriter<C> out(dx);
    for_rows(dy.dim(0), n, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(n), b(h), c(n);
      for (int64_t r = begin; r < end; ++r) {
        C* const to = out.at(r * n, c);
        backward_row(to, grad.at(r * h, h, b), in.at(r * n, n, a), h);
        out.done(r * n, n, to);
      }
    });
  });
}

struct SwigluOp {
  static constexpr const char* name = "swiglu";
  Saved x{};

  static Tensor rows(const Tensor& t) {
    return t.contiguous().view({t.dim(-1) == 0 ? 0 : t.numel() / t.dim(-1), t.dim(-1)});
  }

  Tensor forward(const Ctx& c, const Tensor& x_) {
    if (c.recording) x = x_;
    const Tensor in = rows(x_);
    Tensor y({in.dim(0), in.dim(1) / 2}, x_.dtype(), x_.device());
    kernel::swiglu(x_.device(), y, in);
    Shape shape = x_.shape();
    shape[shape.size() - 1] /= 2;
    return y.view(shape);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor in = rows(x.get());
    Tensor dx = empty_like(in);
    kernel::swiglu_backward(in.device(), dx, rows(dy), in);
    return {dx.view(x.get().shape())};
  }
};

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& x)> kernel::swiglu{"swiglu", swiglu_cpu};
constinit Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& x)> kernel::swiglu_backward{
    "swiglu_backward", swiglu_backward_cpu};

Var swiglu(const Var& x) {
  check<DTypeError>(is_floating(x.dtype()), "swiglu", "needs a floating type, got {}", x.value());
  check<ShapeError>(x.rank() >= 1 && x.dim(-1) % 2 == 0, "swiglu",
                    "the last axis holds two halves, so its size must be even; got {}", x.value());
  return apply(SwigluOp{}, x);
}

}  // namespace tenun
