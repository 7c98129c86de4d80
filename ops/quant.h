// Symmetric INT8 quantisation: q = round(x / scale), halves to even, in -127..127 (-128 is unused),
// scale = amax / 127 of each group. A group of zeros has scale 0 and gives zeros. Groups of x
// (..., N, D), where N counts tokens and D channels, and the shape of the scale:
//   tensor    everything                          []
//   block     `block` tokens, the last one shorter (..., ceil(N / block))
//   token     one token                           (..., N)
//   channel   one channel over all tokens         (..., D)
// Scales are f32 (f64 for f64 input). fake_quant_int8 rounds to the grid and back, y = q scale:
//   amax scale      dx = dy (straight-through; nothing saturates)
//   learned scale   LSQ (Esser et al. 2020, eq. 3-5): dx = dy where |x / scale| <= 127, else 0;
//                   dscale = sum over the group of dy (q - x / scale) inside, dy (+-127) outside,
//                   times 1 / sqrt(127 n) for groups of n elements (ScaleGradient::plain: times 1)
//
//   Quantized k8 = quantize_int8(k, {.granularity = Granularity::block, .block = 64});
//   Var w8 = fake_quant_int8(w, scale, {.granularity = Granularity::tensor});
//
// Errors: ShapeError, ValueError, DTypeError.
#pragma once
#include <string_view>

#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"

namespace tenun {

enum class Granularity : uint8_t { tensor, block, token, channel };
/// "token" -> Granularity::token; ValueError otherwise.
[[nodiscard]] Granularity granularity_from_name(std::string_view name);

struct QuantOptions {
  Granularity granularity = Granularity::tensor;
  int64_t block = 0;  ///< tokens of a group; for Granularity::block only
};

struct Quantized {
  Tensor q;      ///< i8, the shape of x
  Tensor scale;  ///< of each group
};
[[nodiscard]] Quantized quantize_int8(const Tensor& x, const QuantOptions& options);

/// Rounds to the grid of amax / 127 and back.
[[nodiscard]] Var fake_quant_int8(const Var& x, const QuantOptions& options);

enum class ScaleGradient : uint8_t { lsq, plain };
/// The same with a learned scale, floating, in the shape above. Values below 1e-12 count as 1e-12.
[[nodiscard]] Var fake_quant_int8(const Var& x, const Var& scale, const QuantOptions& options,
                                  ScaleGradient gradient = ScaleGradient::lsq);

/// The shape of the scale for x.
[[nodiscard]] Shape scale_shape(const Shape& x, const QuantOptions& options);

namespace kernel {
/// scale = amax / 127 of the groups of x [P, N, D] (contiguous): of `tokens` rows, scale [P, ceil(N
/// / tokens)], or of every channel (tokens = 0), scale [P, D]. NaN propagates.
extern Kernel<void(Tensor& scale, const Tensor& x, int64_t tokens)> int8_scale;
}  // namespace kernel

}  // namespace tenun
