// Normalisation.
//   rms_norm(x, w)      y = w x / sqrt(mean(x^2) + eps)                 (arXiv 1910.07467)
//   layer_norm(x, w, b) y = w (x - mean) / sqrt(var + eps) + b          (arXiv 1607.06450)
// both over the last axis; w [C] and b [C] may be undefined. Means, variances and the products run
// in f32 (f64 for f64) whatever the dtype; y has x's dtype. Saved: x and one or two numbers a row.
//   batch_norm_eval     y = w (x - running_mean) / sqrt(running_var + eps) + b for each channel of
//                       x [N, C, ...]; all four tables are [C]
//
//   Var h = rms_norm(x, weight, 1e-6);
//
// Errors: ShapeError where the tables do not have C elements, DTypeError for integers.
#pragma once
#include "tenun/autograd/var.h"

namespace tenun {

[[nodiscard]] Var rms_norm(const Var& x, const Var& weight = {}, double eps = 1e-6);
[[nodiscard]] Var layer_norm(const Var& x, const Var& weight = {}, const Var& bias = {},
                             double eps = 1e-5);
[[nodiscard]] Var batch_norm_eval(const Var& x, const Var& weight, const Var& bias,
                                  const Var& running_mean, const Var& running_var,
                                  double eps = 1e-5);

}  // namespace tenun
