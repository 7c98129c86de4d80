// Elementwise kernels: comparisons, logic, and choices.
#include "tenun/cuda/map_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/functors_unary.h"

namespace tenun::TENUN_BACKEND {

void register_comparisons() {
  use_maps<fn::Compare<fn::Eq>, fn::Compare<fn::Ne>, fn::Compare<fn::Lt>, fn::Compare<fn::Le>,
           fn::Compare<fn::And>, fn::Compare<fn::Or>, fn::Compare<fn::Xor>>();
  use_maps<fn::Test<fn::Not>, fn::Test<fn::IsNan>, fn::Test<fn::IsFinite>>();
  use_maps<fn::Where, fn::WhereGrad>();
}

}  // namespace tenun::TENUN_BACKEND
