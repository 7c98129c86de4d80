// Pooling over sliding windows of images x (B, C, H, W); sizes are floor((n + 2 p - k) / s) + 1.
//   max_pool2d   padding counts as -infinity; NaN propagates; the first of equal values gets the
//                gradient
//   avg_pool2d   the mean; with count_include_pad the divisor is always the window's size, else the
//                number of its pixels inside the image
// The stride is the kernel unless given; padding is at most half of the kernel. The global average
// is mean over the last two axes.
//
//   Var y = max_pool2d(x, {.kernel = 2});
//   Var z = avg_pool2d(x, {.kernel = 3, .stride = 1, .padding = 1, .count_include_pad = false});
//
// Errors: ShapeError, ValueError, DTypeError.
#pragma once
#include <optional>

#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"
#include "tenun/ops/window.h"

namespace tenun {

struct PoolOptions {
  Pair kernel = 1;
  std::optional<Pair> stride{};  ///< default: the kernel
  Pair padding = 0;
  bool count_include_pad = true;  ///< avg_pool2d only
};

[[nodiscard]] Var max_pool2d(const Var& x, const PoolOptions& options);
[[nodiscard]] Var avg_pool2d(const Var& x, const PoolOptions& options);

namespace kernel {
/// x [P, H, W], y [P, OH, OW] contiguous; `index` (i32 like y: the pixel of the plane that won) may
/// be undefined.
extern Kernel<void(Tensor& y, Tensor& index, const Tensor& x, const Windows& w)> max_pool2d;
/// dx [P, H, W] receives, at each pixel, the sum of dy over the windows that it won.
extern Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& index, const Windows& w)>
    max_pool2d_backward;
}  // namespace kernel

}  // namespace tenun
