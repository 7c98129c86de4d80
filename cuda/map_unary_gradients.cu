// Elementwise kernels: the gradients of the functions of one argument.
#include "tenun/cuda/map_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/functors_unary.h"

namespace tenun::TENUN_BACKEND {
namespace {
template <class... F>
void use_gradients() {
  use_maps<fn::Grad<F>...>();
}
}  // namespace

void register_unary_gradients() {
  use_gradients<fn::Neg, fn::Abs, fn::Exp, fn::Log, fn::Log1p, fn::Sqrt, fn::Rsqrt, fn::Square,
                fn::Reciprocal, fn::Sin, fn::Cos, fn::Tan, fn::Tanh, fn::Sigmoid, fn::Silu,
                fn::Gelu, fn::GeluTanh, fn::Relu, fn::Elu, fn::Softplus>();
}

}  // namespace tenun::TENUN_BACKEND
