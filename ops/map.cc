#include "tenun/ops/map.h"

#include <utility>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/core/strided.h"

namespace tenun::detail {
namespace {

constexpr int64_t kPiece =
    1024;  // elements of one buffer: a few of them fit in the first-level cache
constexpr int64_t kGrain = kPiece * 16;

// Reads n elements with a stride as compute type C.
template <class C>
using Gather = void (*)(C* out, const std::byte* data, int64_t offset, int64_t stride, int64_t n);
template <class C>
Gather<C> gather_for(DType d) {
  return visit_all(d, "map", []<class T>() -> Gather<C> {
    return [](C* __restrict out, const std::byte* data, int64_t offset, int64_t stride, int64_t n) {
      const T* p = reinterpret_cast<const T*>(data) + offset;
      if (stride == 1) {
        for (int64_t i = 0; i < n; ++i) out[i] = static_cast<C>(p[i]);
      } else if (stride == 0) {
        const C v = static_cast<C>(*p);
        for (int64_t i = 0; i < n; ++i) out[i] = v;
      } else {
        for (int64_t i = 0; i < n; ++i) out[i] = static_cast<C>(p[i * stride]);
      }
    };
  });
}

template <int N, class C>
void run(Tensor& y, const MapInputs& x, MapLoop<C> f, const void* functor) {
  std::array<Tensor, N> in;
  std::array<const Layout*, N + 1> layouts{&y.layout()};
  std::array<const std::byte*, N> data;
  std::array<Gather<C>, N> gather;
  for (size_t k = 0; k < N; ++k) {
    in[k] = x[k]->shape() == y.shape() ? *x[k] : x[k]->expand(y.shape());
    layouts[k + 1] = &in[k].layout();
    data[k] = std::as_const(in[k]).raw() - in[k].layout().offset * size_of(in[k].dtype());
    gather[k] = gather_for<C>(in[k].dtype());
  }
  const StridedLoop<N + 1> loop(layouts);
  const bool direct_out = y.dtype() == dtype_of<C>;
  std::byte* const out_data = y.raw() - y.layout().offset * size_of(y.dtype());
  parallel_for(0, loop.numel(), kGrain, [&](int64_t begin, int64_t end) {
    alignas(64) C buffer[N + 1][kPiece];
    loop.run(begin, end, [&](const int64_t* off, const int64_t* stride, int64_t, int64_t count) {
      for (int64_t at = 0; at < count; at += kPiece) {
        const int64_t n = std::min(kPiece, count - at);
        const C* in_ptr[N];
        for (size_t k = 0; k < N; ++k) {
          const int64_t o = off[k + 1] + at * stride[k + 1];
          if (stride[k + 1] == 1 && in[k].dtype() == dtype_of<C>) {
            in_ptr[k] = reinterpret_cast<const C*>(data[k]) + o;
          } else {
            gather[k](buffer[k], data[k], o, stride[k + 1], n);
            in_ptr[k] = buffer[k];
          }
        }
        const int64_t o = off[0] + at * stride[0];
        if (direct_out && stride[0] == 1) {
          f(in_ptr, reinterpret_cast<C*>(out_data) + o, n, functor);
        } else {
          f(in_ptr, buffer[N], n, functor);
          visit_all(y.dtype(), "map", [&]<class T>() {
            T* p = reinterpret_cast<T*>(out_data) + o;
            for (int64_t i = 0; i < n; ++i) p[i * stride[0]] = T(buffer[N][i]);
          });
        }
      }
    });
  });
}

template <class C>
void by_arity(Tensor& y, const MapInputs& x, int arity, MapLoop<C> f, const void* functor) {
  switch (arity) {
    case 1: return run<1, C>(y, x, f, functor);
    case 2: return run<2, C>(y, x, f, functor);
    case 3: return run<3, C>(y, x, f, functor);
    default: return run<4, C>(y, x, f, functor);
  }
}

}  // namespace

void map_cpu(Tensor& y, const MapInputs& x, const MapLoops& loops, const void* functor) {
  if (y.numel() == 0) return;
  bool wide = y.dtype() == DType::f64, whole = loops.i64 != nullptr && !is_floating(y.dtype());
  for (int k = 0; k < loops.arity; ++k) {
    const DType d = x[static_cast<size_t>(k)]->dtype();
    check<ShapeError>(x[static_cast<size_t>(k)]->defined(), "map", "operand {} is undefined", k);
    check<DeviceError>(x[static_cast<size_t>(k)]->device() == y.device(), "map",
                       "operands on {} and {}; use to(device)", y.device(),
                       x[static_cast<size_t>(k)]->device());
    wide = wide || d == DType::f64 || d == DType::i64 || d == DType::i32;
    whole = whole && !is_floating(d);
  }
  if (whole)
    by_arity<int64_t>(y, x, loops.arity, loops.i64, functor);
  else if (wide)
    by_arity<double>(y, x, loops.arity, loops.f64, functor);
  else
    by_arity<float>(y, x, loops.arity, loops.f32, functor);
}

}  // namespace tenun::detail
