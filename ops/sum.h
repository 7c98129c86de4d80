// Sums on tensors, for the ops and for backward passes that undo a broadcast.
// Sums run in f32 (f64 for f64) over fixed chunks that are combined in order, in double: the bits
// do not depend on the number of threads.
#pragma once
#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun {

namespace kernel {
/// y[a, c] = scale * sum over r of x[a, r, c]; x contiguous [A, R, C], y contiguous [A, C], of x's
/// dtype or of its compute type (f32 for 16-bit floats).
extern Kernel<void(Tensor& y, const Tensor& x, double scale)> sum_middle;
/// y[a, c] = scale * sum over r of (x[a, r, c] - center[a, c])^2; an undefined center is 0. y and
/// center have x's compute type.
extern Kernel<void(Tensor& y, const Tensor& x, const Tensor& center, double scale)> sum_squares;
}  // namespace kernel

/// Bit i for axis i of `dims` (negative ones count from the end); no dims: all axes. ValueError for
/// an axis that is not there or is named twice.
[[nodiscard]] unsigned axis_mask(const std::vector<int>& dims, int rank, const char* op);
/// `shape` with the axes of `mask` of size 1, or without them.
[[nodiscard]] Shape reduced_shape(const Shape& shape, unsigned mask, bool keepdim);
/// Sum over the axes of `mask` (bit i for axis i), times `scale`; the axes stay with size 1 or go.
[[nodiscard]] Tensor sum_axes(const Tensor& x, unsigned mask, bool keepdim, double scale = 1);
/// Sums `x` down to `shape`, which must broadcast to x's shape: the adjoint of expand.
[[nodiscard]] Tensor sum_to(const Tensor& x, const Shape& shape);
/// x as contiguous [A, R, C] where R runs over the axes of `mask` (a permuted copy if they are not
/// neighbours; then C = 1).
[[nodiscard]] Tensor reduce_view(const Tensor& x, unsigned mask);
/// The way back: v [A, R, C] as a view of the given shape, of which reduce_view made it.
[[nodiscard]] Tensor undo_reduce_view(const Tensor& v, const Shape& shape, unsigned mask);

}  // namespace tenun
