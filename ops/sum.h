// Sums on tensors, for the ops and for backward passes that undo a broadcast.
// Sums run in f32 (f64 for f64) over fixed chunks that are combined in order, in double: the bits
// do not depend on the number of threads.
#pragma once
#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun {

namespace kernel {
/// y[a, c] = sum over r of x[a, r, c]; x contiguous [A, R, C], y contiguous [A, C], same dtype.
extern Kernel<void(Tensor& y, const Tensor& x)> sum_middle;
}  // namespace kernel

/// Sum over the axes of `mask` (bit i for axis i); the axes stay with size 1 or go.
[[nodiscard]] Tensor sum_axes(const Tensor& x, unsigned mask, bool keepdim);
/// Sums `x` down to `shape`, which must broadcast to x's shape: the adjoint of expand.
[[nodiscard]] Tensor sum_to(const Tensor& x, const Shape& shape);
/// x as contiguous [A, R, C] where R runs over the axes of `mask` (a permuted copy if they are not
/// neighbours; then C = 1).
[[nodiscard]] Tensor reduce_view(const Tensor& x, unsigned mask);

}  // namespace tenun
