// Picking elements by index, and choosing which: gather, scatter_add, index_select, embedding,
// masked_fill, top-k and sorting. Indices are i64 (i32 is converted) in [0, size); another value is
// a ValueError that names its position. What was picked twice gets the sum of both gradients, added
// in a fixed order (no atomics): equal bits for any number of threads. Sums of 16-bit gradients run
// in f32.
//
//   Var rows = embedding(table, ids);                       // [ids..., width]
//   Ranked best = topk(scores, 3);                          // best.values, best.indices
//   Var picked = gather(x, best.indices, -1);
//
// Order (topk, sort): equal values keep the order of their indices; -0 equals +0; a NaN counts as
// larger than every number, as in PyTorch. Errors: ShapeError, ValueError, DTypeError.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"

namespace tenun {

/// y[i][j][k] = x[i][index[i][j][k]][k] for dim = 1. Index has x's rank and, outside dim, at most
/// x's sizes; y has its shape.
[[nodiscard]] Var gather(const Var& x, const Var& index, int dim);
/// gather after broadcasting x and index against each other outside dim.
[[nodiscard]] Var take_along(const Var& x, const Var& index, int dim);
/// y = x, then y[i][index[i][j][k]][k] += src[i][j][k] for dim = 1. Index may be smaller than src
/// and, outside dim, than x.
[[nodiscard]] Var scatter_add(const Var& x, const Var& index, const Var& src, int dim);
/// Whole slices of an axis; index has rank 1.
[[nodiscard]] Var index_select(const Var& x, const Var& index, int dim);
/// Rows of weight [count, width...] for ids of any shape: [ids..., width...]. The gradient of the
/// weight is dense. Ids on the CPU are checked there and copied to the weight's device; a device
/// has to be waited for.
[[nodiscard]] Var embedding(const Var& weight, const Var& ids);
/// x with `value` where mask (which broadcasts to x) is not zero.
[[nodiscard]] Var masked_fill(const Var& x, const Var& mask, double value);

/// Values and where they stood (i64); no gradient flows into indices.
struct Ranked {
  Var values, indices;
};
struct TopKOptions {
  bool largest = true;
  bool sorted = true;  ///< best first; else in the order of the indices
};
[[nodiscard]] Ranked topk(const Var& x, int64_t k, int dim = -1, TopKOptions options = {});
enum class Order : uint8_t { ascending, descending };
/// Stable in both orders.
[[nodiscard]] Ranked sort(const Var& x, int dim = -1, Order order = Order::ascending);
[[nodiscard]] Tensor argsort(const Var& x, int dim = -1, Order order = Order::ascending);

/// [index..., classes] with 1 at the index.
[[nodiscard]] Tensor one_hot(const Tensor& index, int64_t classes, DType dtype = DType::f32);
/// The positions [count, rank] of elements that are not zero, in row-major order; on the CPU.
[[nodiscard]] Tensor nonzero(const Tensor& x);

/// A tensor of zeros to which src is scatter-added: the gradient of gather.
[[nodiscard]] Tensor scatter_sum(const Shape& shape, const Tensor& index, const Tensor& src,
                                 int dim);
/// Index as contiguous i64 with all values in [0, n); ValueError otherwise.
[[nodiscard]] Tensor checked_index(const Tensor& index, int64_t n, const char* op);

namespace kernel {
/// The row-major position of the first value outside [0, n); -1 if there is none. Contiguous i64.
extern Kernel<int64_t(const Tensor& index, int64_t n)> first_outside;
/// y (contiguous, of the index's shape) from x with any strides.
extern Kernel<void(Tensor& y, const Tensor& x, const Tensor& index, int dim)> gather;
/// Adds to y in the order of the index along dim. f32, f64, i32, i64; any strides.
extern Kernel<void(Tensor& y, const Tensor& index, const Tensor& src, int dim)> scatter_add;
/// y[o, m, :] = x[o, index[m], :]; contiguous, three axes.
extern Kernel<void(Tensor& y, const Tensor& x, const Tensor& index)> take_rows;
/// y[o, index[m], :] += x[o, m, :], m ascending; contiguous, three axes; f32, f64, i32, i64.
extern Kernel<void(Tensor& y, const Tensor& index, const Tensor& x)> add_rows;
/// The k = values.dim(1) best of each row of x; contiguous [rows, k], [rows, k], [rows, n].
extern Kernel<void(Tensor& values, Tensor& indices, const Tensor& x, TopKOptions options)> topk;
}  // namespace kernel

}  // namespace tenun
