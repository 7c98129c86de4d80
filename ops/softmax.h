// Softmax and what is built on it, along one axis; sums in f32 (f64 for f64).
//   softmax(x, dim)       y = exp(x - max) / sum;          dx = y (dy - sum(dy y))
//   log_softmax(x, dim)   y = x - max - log(sum);          dx = dy - exp(y) sum(dy)
//   cross_entropy(logits [N, C], target i64 [N])           -log_softmax(logits)[target]
// Inputs of -inf get weight 0. A row that is -inf throughout gives NaN, as in PyTorch: no
// distribution is right there, and a silent 0 would hide the mistake. Saved: y, or for
// cross_entropy the logits and one number for each row (its gradient is made in one pass).
//
//   Var p = softmax(scores, -1);
//   Var loss = cross_entropy(logits, labels);
//
// Errors: ShapeError, DTypeError; ValueError for a target outside [0, C).
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"
#include "tenun/ops/reduction.h"

namespace tenun {

[[nodiscard]] Var softmax(const Var& x, int dim = -1);
[[nodiscard]] Var log_softmax(const Var& x, int dim = -1);
/// A scalar, or [N] with Reduction::none. Autocast: f32.
[[nodiscard]] Var cross_entropy(const Var& logits, const Var& target,
                                Reduction reduction = Reduction::mean);

/// Softmax of a tensor along its last axis.
[[nodiscard]] Tensor softmax_rows(const Tensor& x);

enum class SoftmaxForm : uint8_t { plain, log };

namespace kernel {
/// All contiguous [R, C], rows are normalised.
extern Kernel<void(Tensor& y, const Tensor& x, SoftmaxForm form)> softmax;
extern Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& y, SoftmaxForm form)>
    softmax_backward;
/// loss[r] = lse[r] - x[r, target[r]], lse = log sum exp in the compute type; x [R, C]. Throws
/// ValueError for a target out of range.
extern Kernel<void(Tensor& loss, Tensor& lse, const Tensor& x, const Tensor& target)> cross_entropy;
/// dx[r, c] = dloss[r] (exp(x[r, c] - lse[r]) - [c == target[r]]); dloss [R] in the compute type.
extern Kernel<void(Tensor& dx, const Tensor& dloss, const Tensor& x, const Tensor& lse,
                   const Tensor& target)>
    cross_entropy_backward;
}  // namespace kernel

}  // namespace tenun
