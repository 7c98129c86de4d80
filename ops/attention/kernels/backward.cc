// Compiled once a level: the backward kernels.
#include "tenun/ops/attention/kernels/backward.h"

#include "tenun/ops/attention/kernels/policy.h"

namespace tenun::simd::TENUN_ISA {

extern const FlashBackwardKernels flash_backward_kernels{
    backward_column<Policy<float, F32Kind, 1, F32Kind, 1, 5>>,
    backward_column<Policy<double, F64Kind, 1, F64Kind, 1, 5>>,
    backward_column<Policy<float, Bf16Kind, 2, Bf16Kind, 2, 4>>};

}  // namespace tenun::simd::TENUN_ISA
