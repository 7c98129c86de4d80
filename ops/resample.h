// Separable linear maps of images: y = R x C^T for every plane, where each row of R (and of C) has
// one short run of weights. Resizing and average pooling are such maps with different tables, and
// their backward passes are the same maps with the transposed tables: exact adjoints.
//
//   AxisTable rows{.inputs = 4};
//   rows.add(0, {0.5, 0.5}), rows.add(2, {0.5, 0.5});         // halves: means of two rows
//   Tensor y = resample(x, rows, columns);                     // x (..., H, W)
#pragma once
#include <functional>
#include <vector>

#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun {

/// y[i] = sum over k of weight[offset[i] + k] * x[first[i] + k], k < offset[i + 1] - offset[i].
struct AxisTable {
  int64_t inputs = 0;
  std::vector<int64_t> first, offset{0};
  std::vector<double> weight;  ///< rounded to f32 where the data is not f64

  [[nodiscard]] int64_t outputs() const { return static_cast<int64_t>(first.size()); }
  /// Appends one output.
  void add(int64_t from, const std::vector<double>& weights);
  /// The table of the adjoint map.
  [[nodiscard]] AxisTable transposed() const;
};

/// Applies the tables to the last two axes; x floating, any layout.
[[nodiscard]] Tensor resample(const Tensor& x, const AxisTable& rows, const AxisTable& columns);

namespace kernel {
/// x [P, H, W] and y [P, OH, OW] contiguous, same dtype.
extern Kernel<void(Tensor& y, const Tensor& x, const AxisTable& rows, const AxisTable& columns)>
    resample;
}  // namespace kernel

}  // namespace tenun
