// Two-dimensional convolution (cross-correlation, as every deep learning framework calls it):
//   y[b, o, i, j] = bias[o] + sum over c, r, s of
//                   weight[o, c, r, s] x[b, c', i stride - padding + r dilation, ...]
// x (B, C, H, W), weight (O, C / groups, kh, kw), bias (O) optional, y (B, O, OH, OW); outside of
// the image x is 0. Sums run in f32 (f64 for f64). Autocast: Cast::low.
//
//   Var y = conv2d(x, w, b, {.stride = 2, .padding = 1});
//
// On the CPU blocks of columns that fit the cache go through kernel::gemm; kernels of size 1, and
// windows that tile the image (kernel = stride: patch embedding), are one plain matrix product;
// depthwise convolutions go plane by plane.
// The gradients are the adjoints, with equal bits for any number of threads.
// Errors: ShapeError (ranks, channels, groups, an empty output), ValueError, DTypeError.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"
#include "tenun/ops/window.h"

namespace tenun {

struct Conv2dOptions {
  Pair stride = 1, padding = 0, dilation = 1;
  int64_t groups = 1;
};

[[nodiscard]] Var conv2d(const Var& x, const Var& weight, const Var& bias = {},
                         const Conv2dOptions& options = {});

/// All sizes of a convolution.
struct ConvShape {
  int64_t batch = 0, in_channels = 0, out_channels = 0, groups = 1;
  Pair image = 0, out = 0;
  Windows windows;
  [[nodiscard]] int64_t taps() const { return windows.kernel.h * windows.kernel.w; }
  [[nodiscard]] int64_t in_group() const { return in_channels / groups; }
  [[nodiscard]] int64_t out_group() const { return out_channels / groups; }
  [[nodiscard]] int64_t positions() const { return out.h * out.w; }
  /// Do the windows tile the image without overlap, so that columns are a mere reordering?
  [[nodiscard]] bool tiles() const {
    return groups == 1 && windows.kernel == windows.stride && windows.padding == Pair(0) &&
           windows.dilation == Pair(1);
  }
};

namespace kernel {
/// All tensors contiguous and of one dtype, shapes as `s` says; bias may be undefined.
extern Kernel<void(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                   const ConvShape& s)>
    conv2d;
extern Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s)> conv2d_dx;
extern Kernel<void(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s)> conv2d_dw;
}  // namespace kernel

}  // namespace tenun
