// Scaling, shifting and gating of tokens x [B, N, C] by vectors of the sample [B, C]: the adaLN of
// diffusion transformers (arXiv 2212.09748).
//   modulate(x, shift, scale)            y = x (1 + scale) + shift
//   rms_norm_modulate(x, w, shift, scale, eps)     modulate(rms_norm(x, w)) in one pass: x is read
//                                        once forward and once backward, and one tensor less is
//                                        kept
//   residual_gate(h, gate, y)            h + gate y in one pass; h and y may differ in dtype
//   layer_scale(x, gamma)                x gamma; x [..., C], gamma [C]
// Arithmetic in f32 (f64 for f64). dtypes: modulate and layer_scale give the widest of their
// inputs; residual_gate the wider of h and y (an f32 residual stream stays f32 under Autocast).
// rms_norm_modulate gives x's dtype; under Autocast the guard's 16-bit type, which is what the
// matrix product after it would round to anyway.
//
//   Var a = attention(rms_norm_modulate(h, norm1, shift, scale));
//   h = residual_gate(h, gate, a);
//
// Errors: ShapeError, DTypeError.
#pragma once
#include "tenun/autograd/var.h"

namespace tenun {

[[nodiscard]] Var modulate(const Var& x, const Var& shift, const Var& scale);
/// `weight` [C] may be undefined (ones).
[[nodiscard]] Var rms_norm_modulate(const Var& x, const Var& weight, const Var& shift,
                                    const Var& scale, double eps = 1e-6);
[[nodiscard]] Var residual_gate(const Var& h, const Var& gate, const Var& y);
[[nodiscard]] Var layer_scale(const Var& x, const Var& gamma);

}  // namespace tenun
