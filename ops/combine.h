// Weighted sums of tensors, with weights that may differ from sample to sample: what noising, the
// residual of a flow matching loss and the steps of samplers are made of.
#pragma once
#include <span>

#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun::kernel {

/// y[s, ...] = sum_k weights[k S + s] x_k[s, ...], added in the order of k, for S samples (the
/// first axis); or with one weight for each x_k, if there are as many weights as tensors. 1 to 3
/// tensors, contiguous, of y's shape and dtype (f32 or f64). `factor`, a scalar of that dtype
/// beside them, multiplies the weights; undefined: 1.
extern Kernel<void(Tensor& y, std::span<const Tensor> x, std::span<const double> weights,
                   const Tensor& factor)>
    combine;
constexpr size_t kCombineMost = 3;

}  // namespace tenun::kernel
