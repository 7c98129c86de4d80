// The kernels behind every op that normalises rows, or only scales and shifts them: rms_norm,
// layer_norm, rms_norm_modulate, modulate, layer_scale, residual_gate.
//
//   x^ = x | x / sqrt(mean(x^2) + eps) | (x - mean) / sqrt(var + eps)         y = x^ gain + bias
//   dx = rstd (g - mean(g) - x^ mean(g x^)),  g = dy gain;   dgain = sum dy x^;   dbias = sum dy
//
// x is contiguous [S, R, C]: S groups (samples, or 1) of R rows; gain and bias are [S, C], in the
// compute type of x, or undefined (1 and 0). Arithmetic in f32 (f64 for f64). Each row is read once
// from memory; the sums over rows go by chunks that depend on the sizes alone.
#pragma once
#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun {

enum class RowNorm : uint8_t { none, rms, layer };

/// What a norm tells its backward pass: one number for each row, in the compute type.
struct RowStats {
  Tensor mean;  ///< layer only
  Tensor rstd;  ///< undefined: RowNorm::none
  [[nodiscard]] RowNorm kind() const {
    return mean.defined() ? RowNorm::layer : rstd.defined() ? RowNorm::rms : RowNorm::none;
  }
};

namespace kernel {
/// Fills y (its dtype may differ from x's) and the tensors of `stats` (allocated by the caller).
extern Kernel<void(Tensor& y, RowStats& stats, const Tensor& x, const Tensor& gain,
                   const Tensor& bias, double eps)>
    norm_rows;
/// Fills those of dx (any dtype), sum_dy = sum over R of dy and sum_dyx = sum over R of dy x^ (both
/// [S, C] in the compute type) that are defined.
extern Kernel<void(Tensor& dx, Tensor& sum_dy, Tensor& sum_dyx, const Tensor& dy, const Tensor& x,
                   const RowStats& stats, const Tensor& gain)>
    norm_rows_backward;
}  // namespace kernel

/// Allocates and runs the above. x and dy may have any layout; their last axis has C elements and
/// the others are `groups` * R rows. y gets dtype `out`.
[[nodiscard]] Tensor norm_rows(RowNorm norm, RowStats& stats, const Tensor& x, int64_t groups,
                               const Tensor& gain, const Tensor& bias, double eps, DType out);

struct RowGrads {
  Tensor dx;               ///< x's shape and dtype
  Tensor sum_dy, sum_dyx;  ///< [groups, C]
};
enum class RowWants : unsigned { none = 0, dx = 1, sum_dy = 2, sum_dyx = 4 };
[[nodiscard]] constexpr RowWants operator|(RowWants a, RowWants b) {
  return static_cast<RowWants>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
[[nodiscard]] constexpr RowWants when(bool yes, RowWants w) { return yes ? w : RowWants::none; }
[[nodiscard]] RowGrads norm_rows_backward(RowWants wants, const Tensor& dy, const Tensor& x,
                                          const RowStats& stats, int64_t groups,
                                          const Tensor& gain);

}  // namespace tenun
