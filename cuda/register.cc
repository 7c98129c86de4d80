// The CUDA backend's table of contents: which slots have a kernel.
#include "tenun/cuda/register.h"

#include <utility>

#include "tenun/core/check.h"
#include "tenun/cuda/map.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"

namespace tenun::cuda {
namespace {

template <class F>
void map_cuda(Tensor& y, const MapInputs& x, const F& f) {
  MapArgs a;
  a.dtype = y.dtype();
  a.rank = y.rank();
  a.numel = y.numel();
  a.flat = true;
  a.out = y.raw();
  for (int k = 0; k < y.rank(); ++k) a.sizes[k] = y.dim(k);
  for (int i = 0; i < F::arity; ++i) {
    const Tensor& t = *x[static_cast<size_t>(i)];
    check<DTypeError>(t.dtype() == y.dtype(), F::name, "on CUDA all operands are {}, got {}",
                      name(y.dtype()), name(t.dtype()));
    const Tensor in = t.shape() == y.shape() ? t : t.expand(y.shape());
    a.flat = a.flat && in.layout().contiguous();
    a.in[i] = std::as_const(in).raw();
    for (int k = 0; k < y.rank(); ++k) a.strides[i][k] = in.strides()[k];
  }
  const char* error = launch_map(a, f);
  check<DeviceError>(error == nullptr, F::name, "CUDA: {}", error == nullptr ? "" : error);
}

template <class... F>
void use_maps() {
  (kernel::map<F>.set(DeviceType::cuda, map_cuda<F>), ...);
}

}  // namespace

void register_kernels() {
  use_maps<fn::Add, fn::Sub, fn::Mul, fn::Exp, fn::Silu, fn::Grad<fn::Silu>>();
}

}  // namespace tenun::cuda
