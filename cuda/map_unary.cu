// Elementwise kernels: functions of one argument.
#include "tenun/cuda/map_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/functors_unary.h"

namespace tenun::TENUN_BACKEND {

void register_unary() {
  use_maps<fn::Neg, fn::Abs, fn::Exp, fn::Log, fn::Log1p, fn::Sqrt, fn::Rsqrt, fn::Square,
           fn::Reciprocal, fn::Sin, fn::Cos, fn::Tan, fn::Tanh, fn::Sigmoid, fn::Silu, fn::Gelu,
           fn::GeluTanh, fn::Relu, fn::Elu, fn::Softplus>();
  use_maps<fn::Sign, fn::Floor, fn::Ceil, fn::Round>();
}

}  // namespace tenun::TENUN_BACKEND
