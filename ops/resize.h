// Resizing of images x (B, C, H, W) to a given size: nearest, bilinear or bicubic (Keys 1981, with
// parameter a). Pixel centres lie at k + 1/2, so output i looks at (i + 0.5) in/out - 0.5. Without
// antialias the border pixels are repeated; with antialias the kernel is stretched by
// max(1, in/out), cut at the border and renormalised. Weights are computed in f64. The gradient is
// the exact adjoint. `scale` replaces out/in in the map of coordinates, as PyTorch's scale_factor.
//
//   Var small = resize(x, {224, 224}, {.mode = ResizeMode::bicubic, .antialias = true});
//
// nearest takes pixel floor(i in/out). Errors: ShapeError, ValueError.
#pragma once
#include <optional>
#include <string_view>

#include "tenun/autograd/var.h"
#include "tenun/ops/resample.h"
#include "tenun/ops/window.h"

namespace tenun {

enum class ResizeMode : uint8_t { nearest, bilinear, bicubic };
/// "bilinear" -> ResizeMode::bilinear; ValueError otherwise.
[[nodiscard]] ResizeMode resize_mode(std::string_view name);

struct ResizeOptions {
  ResizeMode mode = ResizeMode::bilinear;
  bool antialias = false;
  double cubic_a = -0.75;  ///< bicubic only; -0.5 is usual with antialias
  std::optional<double> scale_h{}, scale_w{};
};

[[nodiscard]] Var resize(const Var& x, Pair size, const ResizeOptions& options = {});

/// The weights of one axis.
[[nodiscard]] AxisTable resize_table(int64_t in, int64_t out, const ResizeOptions& options,
                                     std::optional<double> scale);

}  // namespace tenun
