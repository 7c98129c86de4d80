// Reductions over one axis or several (none named: all), and running sums.
//   mean(x)   sum(x, {0, 2})   var(x, {-1}, Correction::one, KeepDims::yes)   max(x, 1).indices
// Floating results keep x's dtype and are computed in f32 (f64 for f64), in an order that does not
// depend on the number of threads. sum of integers and bool is i64, exactly; max and its kin take
// them too. NaN propagates. An empty sum is 0, an empty mean NaN, an empty max a ValueError.
// Gradients: mean and sum return an expanded view of dy and save nothing; var, stddev and norm save
// x and the statistics (0 where the result is 0); max, min, amax, amin save indices: the first of
// equal elements gets the gradient. Errors: ValueError for axes, DTypeError.
#pragma once
#include <vector>

#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"

namespace tenun {

/// Do the reduced axes stay, with size 1?
enum class KeepDims { no, yes };

[[nodiscard]] Var sum(const Var& x, const std::vector<int>& dims = {},
                      KeepDims keep = KeepDims::no);
[[nodiscard]] Var mean(const Var& x, const std::vector<int>& dims = {},
                       KeepDims keep = KeepDims::no);
/// Sum of squared distances from the mean, over count - correction (two passes).
[[nodiscard]] Var var(const Var& x, const std::vector<int>& dims = {}, int64_t correction = 1,
                      KeepDims keep = KeepDims::no);
[[nodiscard]] Var stddev(const Var& x, const std::vector<int>& dims = {}, int64_t correction = 1,
                         KeepDims keep = KeepDims::no);
/// Euclidean length.
[[nodiscard]] Var norm(const Var& x, const std::vector<int>& dims = {},
                       KeepDims keep = KeepDims::no);
/// log of the sum of e^x, without overflow; -infinity where all elements are.
[[nodiscard]] Var logsumexp(const Var& x, const std::vector<int>& dims = {},
                            KeepDims keep = KeepDims::no);
[[nodiscard]] Var prod(const Var& x, const std::vector<int>& dims = {},
                       KeepDims keep = KeepDims::no);
[[nodiscard]] Var amax(const Var& x, const std::vector<int>& dims = {},
                       KeepDims keep = KeepDims::no);
[[nodiscard]] Var amin(const Var& x, const std::vector<int>& dims = {},
                       KeepDims keep = KeepDims::no);

struct Extremum {
  Var values, indices;  ///< indices i64: the first of equal elements, or the first NaN
};
[[nodiscard]] Extremum max(const Var& x, int dim, KeepDims keep = KeepDims::no);
[[nodiscard]] Extremum min(const Var& x, int dim, KeepDims keep = KeepDims::no);
[[nodiscard]] Var argmax(const Var& x, int dim, KeepDims keep = KeepDims::no);
[[nodiscard]] Var argmin(const Var& x, int dim, KeepDims keep = KeepDims::no);

/// y_i = x_0 + ... + x_i along an axis.
[[nodiscard]] Var cumsum(const Var& x, int dim);

/// Is any (are all) of the elements not 0? bool.
[[nodiscard]] Var any(const Var& x, const std::vector<int>& dims = {},
                      KeepDims keep = KeepDims::no);
[[nodiscard]] Var all(const Var& x, const std::vector<int>& dims = {},
                      KeepDims keep = KeepDims::no);

enum class Extreme { least, greatest };
enum class Direction { forward, backward };

// x is contiguous [A, R, C], the results [A, C] (cumsum: [A, R, C]).
namespace kernel {
extern Kernel<void(Tensor& values, Tensor& indices, const Tensor& x, Extreme which)> extremum;
/// dx must be zero: dx[a, indices[a, c], c] = dy[a, c].
extern Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& indices)> extremum_backward;
extern Kernel<void(Tensor& y, const Tensor& x)> logsumexp;
extern Kernel<void(Tensor& y, const Tensor& x, Direction direction)> cumsum;
extern Kernel<void(Tensor& y, const Tensor& x)> prod;
extern Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& x)> prod_backward;
}  // namespace kernel

}  // namespace tenun
