// Losses between two tensors of one shape.
//   mse_loss            (pred - target)^2                        dpred = 2 (pred - target) dy
//   l1_loss             |pred - target|, slope 0 at 0
//   cosine_similarity   <a, b> / (max(|a|, eps) max(|b|, eps)) along one axis: each norm is clamped
//                       by itself, so a zero vector gives 0 and finite gradients
// The reduction makes a scalar of the elements (mean, sum) or leaves them. Autocast: f32.
//
//   Var loss = mse_loss(model(x), target);
//
// Errors: ShapeError for unequal shapes (nothing is broadcast), DTypeError, ValueError.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"
#include "tenun/ops/reduction.h"

namespace tenun {

[[nodiscard]] Var mse_loss(const Var& pred, const Var& target,
                           Reduction reduction = Reduction::mean);
[[nodiscard]] Var l1_loss(const Var& pred, const Var& target,
                          Reduction reduction = Reduction::mean);
[[nodiscard]] Var cosine_similarity(const Var& a, const Var& b, int dim = 1, double eps = 1e-8);

namespace kernel {
/// y[r] = cosine of the rows a[r], b[r]; a and b contiguous [R, C].
extern Kernel<void(Tensor& y, const Tensor& a, const Tensor& b, double eps)> cosine;
/// Fills those of da and db that are defined; y [R] is recomputed, dy [R] in the compute type.
extern Kernel<void(Tensor& da, Tensor& db, const Tensor& dy, const Tensor& a, const Tensor& b,
                   double eps)>
    cosine_backward;
}  // namespace kernel

}  // namespace tenun
