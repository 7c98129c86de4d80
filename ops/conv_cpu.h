// The CPU kernels behind conv2d (ops/conv.h has the contract).
#pragma once
#include "tenun/ops/conv.h"

namespace tenun {

void conv2d_cpu(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                const ConvShape& s);
void conv2d_dx_cpu(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s);
void conv2d_dw_cpu(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s);

/// The same where every group has one input channel (depthwise): plane by plane, without columns.
void conv2d_planes_cpu(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                       const ConvShape& s);
void conv2d_planes_dx_cpu(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s);
void conv2d_planes_dw_cpu(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s);

}  // namespace tenun
