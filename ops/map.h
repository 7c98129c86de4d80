// The one skeleton of all elementwise kernels. A functor states the mathematics once, for host and
// device:
//
//   struct Silu {
//     static constexpr const char* name = "silu";
//     static constexpr int arity = 1;
//     template <class T> TENUN_HD T operator()(T x) const { return x * math::sigmoid(x); }
//   };
//   Tensor y = map(Silu{}, x);                     // new tensor of the broadcast shape
//
// The driver hands the functor's loop contiguous runs in the compute type (float, or double for
// f64): strided or broadcast inputs and 16-bit types pass through a small buffer in the cache. So
// there are two compiled loops for each functor, whatever the layouts and dtypes.
#pragma once
#include <array>
#include <span>

#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun {

inline constexpr int kMapArity = 4;
using MapInputs = std::array<const Tensor*, kMapArity>;  ///< the first `arity` are set

namespace detail {

template <class T>
using MapLoop = void (*)(const T* const* in, T* out, int64_t n, const void* functor);
struct MapLoops {
  int arity;
  MapLoop<float> f32;
  MapLoop<double> f64;
  MapLoop<int64_t> i64;  ///< empty: whole numbers go through double
};
/// Runs the loops over `y` (contiguous) and the inputs, all of y's shape after expansion. Inputs of
/// other dtypes are converted to the compute type: float; double if a 64-bit float or an integer
/// meets a float; int64 if all are whole and the functor says `integers`.
void map_cpu(Tensor& y, const MapInputs& x, const MapLoops& loops, const void* functor);

template <class F, class T>
void map_loop(const T* const* in, T* __restrict out, int64_t n, const void* functor) {
  const F f = *static_cast<const F*>(functor);
  if constexpr (F::arity == 1) {
    const T* __restrict a = in[0];
    for (int64_t i = 0; i < n; ++i) out[i] = f(a[i]);
  } else if constexpr (F::arity == 2) {
    const T* __restrict a = in[0], * __restrict b = in[1];
    for (int64_t i = 0; i < n; ++i) out[i] = f(a[i], b[i]);
  } else if constexpr (F::arity == 3) {
    const T* __restrict a = in[0], * __restrict b = in[1], * __restrict c = in[2];
    for (int64_t i = 0; i < n; ++i) out[i] = f(a[i], b[i], c[i]);
  } else {
    const T* __restrict a = in[0], * __restrict b = in[1], * __restrict c = in[2], * __restrict d = in[3];
    for (int64_t i = 0; i < n; ++i) out[i] = f(a[i], b[i], c[i], d[i]);
  }
}

template <class F>
void map_functor_cpu(Tensor& y, const MapInputs& x, const F& f) {
  if constexpr (requires { requires F::integers; })
    map_cpu(y, x, {F::arity, &map_loop<F, float>, &map_loop<F, double>, &map_loop<F, int64_t>}, &f);
  else
    map_cpu(y, x, {F::arity, &map_loop<F, float>, &map_loop<F, double>, nullptr}, &f);
}

}  // namespace detail

namespace kernel {
/// The slot of a functor's kernel; a backend sets it as map<Silu>.set(DeviceType::cuda, ...).
template <class F>
inline constinit Kernel<void(Tensor& y, const MapInputs& x, const F& f)> map{
    F::name, detail::map_functor_cpu<F>};
}  // namespace kernel

/// y = f(x...) elementwise into a new tensor of type `dtype`; inputs broadcast.
template <class F, class... X>
[[nodiscard]] Tensor map_to(DType dtype, const F& f, const Tensor& first, const X&... more) {
  static_assert(1 + sizeof...(X) == F::arity);
  Shape shape = first.shape();
  ((shape = broadcast_shapes(shape, more.shape(), F::name)), ...);
  Tensor y(shape, dtype, first.device());
  kernel::map<F>(y.device(), y, MapInputs{&first, &more...}, f);
  return y;
}
/// The same with the dtype of the first input.
template <class F, class... X>
[[nodiscard]] Tensor map(const F& f, const Tensor& first, const X&... more) {
  return map_to(first.dtype(), f, first, more...);
}

}  // namespace tenun
