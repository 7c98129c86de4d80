// SwiGLU and dropout.
#include "tenun/core/philox.h"
#include "tenun/cuda/elements.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/dropout.h"
#include "tenun/ops/swiglu.h"

namespace tenun::TENUN_BACKEND {
namespace {

// P: what is read and written at once.
template <class T, class P>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_values(T* y, const T* x, int64_t rows, int64_t h) {
  using C = Compute<T>;
  for_each_in_rows(rows, h / P::kCount, [&](int64_t r, int64_t i) {
    const int64_t at = r * h + i * P::kCount;
    const T* const from = x + at + r * h;
    const P a = P::load(from), b = P::load(from + h);
    P out;
    TENUN_UNROLL
    for (int e = 0; e < P::kCount; ++e)
      out.v[e] = T(fn::Swiglu::value(static_cast<C>(a.v[e]), static_cast<C>(b.v[e])));
    out.store(y + at);
  });
}
template <class T, class P>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_gradients(T* dx, const T* dy, const T* x, int64_t rows, int64_t h) {
  using C = Compute<T>;
  for_each_in_rows(rows, h / P::kCount, [&](int64_t r, int64_t i) {
    const int64_t at = r * h + i * P::kCount, first = at + r * h;
    const P a = P::load(x + first), b = P::load(x + first + h), d = P::load(dy + at);
    P da, db;
    TENUN_UNROLL
    for (int e = 0; e < P::kCount; ++e) {
      C u = 0, v = 0;
      fn::Swiglu::grad(static_cast<C>(d.v[e]), static_cast<C>(a.v[e]), static_cast<C>(b.v[e]), u,
                       v);
      da.v[e] = T(u), db.v[e] = T(v);
    }
    da.store(dx + first), db.store(dx + first + h);
  });
}
/// Calls go<T, Pack>: 16 bytes where every half row of the tensors begins at a multiple of them.
template <class F>
void by_packs(DType type, int64_t h, std::initializer_list<const void*> tensors, F&& go) {
  visit_float(type, "swiglu", [&]<class T>() {
    if (h % Pack<T>::kCount == 0 && aligned_16(tensors))
      go.template operator()<T, Pack<T>>();
    else
      go.template operator()<T, Pack<T, 1>>();
  });
}
void swiglu(Tensor& y, const Tensor& x) {
  if (y.numel() == 0) return;
  const int64_t rows = y.dim(0), h = y.dim(1);
  by_packs(x.dtype(), h, {y.raw(), x.raw()}, [&]<class T, class P>() {
    const auto [grid, block] = grid_of_rows(rows, h / P::kCount);
    launch(swiglu_values<T, P>, grid, block, 0, y.mutable_data<T>(), x.data<T>(), rows, h);
  });
}
void swiglu_backward(Tensor& dx, const Tensor& dy, const Tensor& x) {
  if (dy.numel() == 0) return;
  const int64_t rows = dy.dim(0), h = dy.dim(1);
  by_packs(x.dtype(), h, {dx.raw(), dy.raw(), x.raw()}, [&]<class T, class P>() {
    const auto [grid, block] = grid_of_rows(rows, h / P::kCount);
    launch(swiglu_gradients<T, P>, grid, block, 0, dx.mutable_data<T>(), dy.data<T>(), x.data<T>(),
           rows, h);
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
