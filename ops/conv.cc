#include "tenun/ops/conv.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/conv_cpu.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

struct Conv2d {
  static constexpr const char* name = "conv2d";
  static constexpr Cast cast = Cast::low;
  ConvShape s;
  Saved x, w;

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& w_, const Tensor& b_) {
    check<DTypeError>(w_.dtype() == x_.dtype() && (!b_.defined() || b_.dtype() == x_.dtype()), name,
                      "operands of different types: x {}, weight {}", x_, w_);
    if (c.recording) {
      if (c.needs[1]) x = x_;
      if (c.needs[0]) w = w_;
    }
    Tensor y({s.batch, s.out_channels, s.out.h, s.out.w}, x_.dtype(), x_.device());
    if (y.numel() > 0)
      kernel::conv2d(x_.device(), y, x_.contiguous(), w_.contiguous(),
                     b_.defined() ? b_.contiguous() : b_, s);
    return y;
  }

  Grads<3> backward(const Ctx& c, const Tensor& dy_) {
    const Tensor dy = dy_.contiguous();
    Grads<3> g;
    if (c.needs[0]) {
      g[0] = Tensor({s.batch, s.in_channels, s.image.h, s.image.w}, dy.dtype(), dy.device());
      kernel::conv2d_dx(dy.device(), g[0], dy, w.get().contiguous(), s);
    }
    if (c.needs[1]) {
      g[1] = Tensor({s.out_channels, s.in_group(), s.windows.kernel.h, s.windows.kernel.w},
                    dy.dtype(), dy.device());
      kernel::conv2d_dw(dy.device(), g[1], dy, x.get().contiguous(), s);
    }
    if (c.needs[2]) g[2] = sum_axes(sum_axes(dy, 0b1100, false), 0b01, false);
    return g;
  }
};

void check_axis(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                const char* op) {
  constexpr int64_t kMost = int64_t{1} << 30;  // keeps the arithmetic of positions inside int64
  check(kernel >= 1 && stride >= 1 && dilation >= 1 && padding >= 0 && kernel < kMost &&
            stride < kMost && dilation < kMost && padding < kMost && size < kMost,
        op, "kernel {}, stride {}, dilation {} must be at least 1, padding {} at least 0", kernel,
        stride, dilation, padding);
}

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                      const ConvShape& s)>
    kernel::conv2d{"conv2d", conv2d_cpu};
constinit Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s)>
    kernel::conv2d_dx{"conv2d_dx", conv2d_dx_cpu};
constinit Kernel<void(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s)>
    kernel::conv2d_dw{"conv2d_dw", conv2d_dw_cpu};

Pair window_counts(const Shape& x, const Windows& w, const char* op) {
  check<ShapeError>(x.size() == 4, op, "x must be (B, C, H, W), got {}", x);
  check_axis(x[2], w.kernel.h, w.stride.h, w.padding.h, w.dilation.h, op);
  check_axis(x[3], w.kernel.w, w.stride.w, w.padding.w, w.dilation.w, op);
  const auto room = [](int64_t n, int64_t k, int64_t p, int64_t d) {
    return n + 2 * p - d * (k - 1) - 1;
  };
  const int64_t h = room(x[2], w.kernel.h, w.padding.h, w.dilation.h);
  const int64_t v = room(x[3], w.kernel.w, w.padding.w, w.dilation.w);
  check<ShapeError>(h >= 0 && v >= 0, op,
                    "the output would be empty: a {} x {} window (dilation {} x {}) does not fit "
                    "into {} with padding {} x {}",
                    w.kernel.h, w.kernel.w, w.dilation.h, w.dilation.w, x, w.padding.h,
                    w.padding.w);
  return {h / w.stride.h + 1, v / w.stride.w + 1};
}

Var conv2d(const Var& x, const Var& weight, const Var& bias, const Conv2dOptions& o) {
  constexpr const char* op = "conv2d";
  check<ShapeError>(x.rank() == 4 && weight.rank() == 4, op,
                    "needs x (B, C, H, W) and weight (O, C / groups, kh, kw), got {} and {}",
                    x.value(), weight.value());
  check(o.groups >= 1, op, "groups must be at least 1, got {}", o.groups);
  check<ShapeError>(x.dim(1) % o.groups == 0 && weight.dim(0) % o.groups == 0, op,
                    "groups = {} must divide the {} input and the {} output channels", o.groups,
                    x.dim(1), weight.dim(0));
  check<ShapeError>(weight.dim(1) == x.dim(1) / o.groups, op,
                    "weight {} expects {} channels in each of {} groups, x {} has {}",
                    weight.value(), weight.dim(1), o.groups, x.value(), x.dim(1) / o.groups);
  check<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.dim(0)}, op,
                    "bias {} for weight {}", bias.value(), weight.value());
  const Windows w{{weight.dim(2), weight.dim(3)}, o.stride, o.padding, o.dilation};
  Conv2d f;
  f.s = {x.dim(0),
         x.dim(1),
         weight.dim(0),
         o.groups,
         {x.dim(2), x.dim(3)},
         window_counts(x.shape(), w, op),
         w};
  return apply(std::move(f), x, weight, bias);
}

}  // namespace tenun
