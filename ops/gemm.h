// The CPU matrix product behind kernel::gemm: Eigen's register-blocked kernels on panels whose
// bounds depend on the sizes alone, so the bits do not depend on the number of threads.
#pragma once
#include "tenun/core/tensor.h"

namespace tenun {

void gemm_cpu(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& bias);

}  // namespace tenun
