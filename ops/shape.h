// Shapes: views, joining, splitting, padding, repeating, mirroring. Any dtype; axes may be
// negative.
//
//   Var q = select(reshape(qkv, {b, n, 3, heads, d}), 2, 0);      // a view
//   auto [a, b] = std::pair(slice(x, 1, 0, 4), slice(x, 1, 4));   // two views of x
//   std::vector<Var> parts = split(x, {4, 1, 3}, 1);              // views; one op, one gradient
//   Var y = concat({a, b}, 1);
//
// view, permute, transpose, squeeze, unsqueeze, slice, select, expand, split, chunk and unbind
// return views: no data moves, and the result shares memory with x. Their gradients are views too
// where that is possible; slice and select write into a tensor of zeros, so to take a tensor apart
// use split, chunk or unbind, whose single backward step fills one tensor.
// Errors: ShapeError (sizes that do not fit), ValueError (axes, ranges, counts), DTypeError.
#pragma once
#include <limits>
#include <vector>

#include "tenun/autograd/var.h"

namespace tenun {

inline constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();  ///< "up to the end" in slice

/// Other sizes, same elements; one size may be -1. ShapeError where the strides forbid a view.
[[nodiscard]] Var view(const Var& x, const Shape& shape);
/// A view where that is possible, else a copy.
[[nodiscard]] Var reshape(const Var& x, const Shape& shape);
/// Merges the axes first..last (both included).
[[nodiscard]] Var flatten(const Var& x, int first = 0, int last = -1);
[[nodiscard]] Var squeeze(const Var& x);           ///< drops every axis of size 1
[[nodiscard]] Var squeeze(const Var& x, int dim);  ///< drops one axis, which must have size 1
[[nodiscard]] Var unsqueeze(const Var& x, int dim);
[[nodiscard]] Var permute(const Var& x, const Dims& dims);
[[nodiscard]] Var transpose(const Var& x, int a, int b);
/// Repeats axes of size 1 without a copy; -1 keeps a size; new axes may appear in front.
[[nodiscard]] Var expand(const Var& x, const Shape& shape);
/// Elements start, start + step, ... before stop. Negative start and stop count from the end; a
/// range that leaves the axis is an error.
[[nodiscard]] Var slice(const Var& x, int dim, int64_t start, int64_t stop = kEnd,
                        int64_t step = 1);
/// One index of an axis, which disappears.
[[nodiscard]] Var select(const Var& x, int dim, int64_t index);
/// x itself, or a row-major copy where its strides are others.
[[nodiscard]] Var contiguous(const Var& x);

/// Joins along an existing axis; all other sizes are equal.
[[nodiscard]] Var concat(const std::vector<Var>& xs, int dim);
/// Joins tensors of one shape along a new axis.
[[nodiscard]] Var stack(const std::vector<Var>& xs, int dim = 0);
/// Pieces of the given sizes, whose sum is that of the axis.
[[nodiscard]] std::vector<Var> split(const Var& x, const std::vector<int64_t>& sizes, int dim);
/// At most `count` pieces of ceil(size / count) elements; the last one may be smaller.
[[nodiscard]] std::vector<Var> chunk(const Var& x, int64_t count, int dim);
/// All indices of an axis, as `select` gives them.
[[nodiscard]] std::vector<Var> unbind(const Var& x, int dim = 0);

struct Padding {
  int64_t before = 0, after = 0;  ///< not negative: slice cuts
};
/// A constant border. The last entry is for the last axis; axes in front may be left out.
[[nodiscard]] Var pad(const Var& x, const std::vector<Padding>& axes, double value = 0);

/// Tiles: counts[i] copies of the whole along axis i; more counts than axes add axes in front.
[[nodiscard]] Var repeat(const Var& x, const Shape& counts);
/// Every element `repeats` times in a row along an axis: a a b b c c.
[[nodiscard]] Var repeat_interleave(const Var& x, int64_t repeats, int dim);
/// Reverses the order along the axes.
[[nodiscard]] Var flip(const Var& x, const Dims& dims);
/// Shifts cyclically: element i goes to i + shifts[k] along dims[k].
[[nodiscard]] Var roll(const Var& x, const Shape& shifts, const Dims& dims);
/// Zero above (tril) or below (triu) the diagonal of the last two axes; `diagonal` > 0 is a
/// diagonal further up.
[[nodiscard]] Var tril(const Var& x, int64_t diagonal = 0);
[[nodiscard]] Var triu(const Var& x, int64_t diagonal = 0);

/// The border of pad on a tensor, one entry for each axis; every element is written once.
[[nodiscard]] Tensor pad_tensor(const Tensor& x, const std::vector<Padding>& axes, double value);

}  // namespace tenun
