// SwiGLU and dropout.
#include "tenun/core/philox.h"
#include "tenun/cuda/elements.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/dropout.h"
#include "tenun/ops/swiglu.h"

namespace tenun::TENUN_BACKEND {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_values(T* y, const T* x, int64_t rows, int64_t h) {
  using C = Compute<T>;
  for_each_item(rows * h, [&](int64_t i) {
    const int64_t at = i / h * 2 * h + i % h;
    y[i] = T(fn::Swiglu::value(static_cast<C>(x[at]), static_cast<C>(x[at + h])));
  });
}
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_gradients(T* dx, const T* dy, const T* x, int64_t rows, int64_t h) {
  using C = Compute<T>;
  for_each_item(rows * h, [&](int64_t i) {
    const int64_t at = i / h * 2 * h + i % h;
    C da = 0, db = 0;
    fn::Swiglu::grad(static_cast<C>(dy[i]), static_cast<C>(x[at]), static_cast<C>(x[at + h]), da,
                     db);
    dx[at] = T(da), dx[at + h] = T(db);
  });
}
void swiglu(Tensor& y, const Tensor& x) {
  if (y.numel() == 0) return;
  visit_float(x.dtype(), "swiglu", [&]<class T>() {
    launch(swiglu_values<T>, grid_for(y.numel()), kThreads, 0, y.mutable_data<T>(), x.data<T>(),
           y.dim(0), y.dim(1));
  });
}
void swiglu_backward(Tensor& dx, const Tensor& dy, const Tensor& x) {
  if (dy.numel() == 0) return;
  visit_float(x.dtype(), "swiglu", [&]<class T>() {
    launch(swiglu_gradients<T>, grid_for(dy.numel()), kThreads, 0, dx.mutable_data<T>(),
           dy.data<T>(), x.data<T>(), dy.dim(0), dy.dim(1));
  });
}

// Element i takes word i % 4 of Philox block i / 4: a thread makes one block.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    drop_elements(T* y, const T* x, int64_t n, uint64_t key, uint32_t threshold, Compute<T> scale) {
  using C = Compute<T>;
  for_each_item((n + 3) / 4, [&](int64_t i) {
    const Philox p = Philox::at(key, 0, static_cast<uint64_t>(i));
    TENUN_UNROLL
    for (int k = 0; k < 4; ++k) {
      const int64_t at = 4 * i + k;
      if (at < n) y[at] = T((p.x[k] >> 8) < threshold ? C(0) : static_cast<C>(x[at]) * scale);
    }
  });
}
void dropout(Tensor& y, const Tensor& x, double drop, RandomKey key) {
  if (x.numel() == 0) return;
  const auto threshold = static_cast<uint32_t>(std::ceil(drop * 0x1p24));
  visit_float(x.dtype(), "dropout", [&]<class T>() {
    launch(drop_elements<T>, grid_for((x.numel() + 3) / 4), kThreads, 0, y.mutable_data<T>(),
           x.data<T>(), x.numel(), key.key, threshold, static_cast<Compute<T>>(1 / (1 - drop)));
  });
}

}  // namespace

void register_gates() {
  kernel::swiglu.set(kDevice, swiglu);
  kernel::swiglu_backward.set(kDevice, swiglu_backward);
  kernel::dropout.set(kDevice, dropout);
}

}  // namespace tenun::TENUN_BACKEND
