// The skeleton of all elementwise kernels (ops/map.h): a functor of ops/functors*.h and its dtypes
// make a kernel. Contiguous tensors of one type are read and written 16 bytes at a time, and so are
// rows of several floating types that begin anywhere (x [B, N, C] with a vector [B, 1, C] or [C]);
// everything else goes element by element, in the compute type that the CPU would take.
// use_map<F>() fills the slot of a functor.
#pragma once
#include "tenun/cuda/elements.h"
#include "tenun/ops/map.h"

namespace tenun::TENUN_BACKEND {

struct MapArgs {
  Places<kMapArity + 1> at;  ///< the output, then the inputs
  DType types[kMapArity + 1] = {};
  void* out = nullptr;
  const void* in[kMapArity] = {};
};
enum class MapPath { nothing, flat_f32, flat_bf16, flat_f16, rows, f32, f64, i64 };
/// Fills in the arguments and chooses the kernel. `integers`: the functor takes whole numbers.
[[nodiscard]] MapPath plan_map(MapArgs& args, Tensor& y, const MapInputs& x, int arity,
                               bool integers);

template <class C, class F>
__device__ C call_map(const F& f, const C (&v)[kMapArity]) {
  if constexpr (F::arity == 1)
    return static_cast<C>(f(v[0]));
  else if constexpr (F::arity == 2)
    return static_cast<C>(f(v[0], v[1]));
  else if constexpr (F::arity == 3)
    return static_cast<C>(f(v[0], v[1], v[2]));
  else
    return static_cast<C>(f(v[0], v[1], v[2], v[3]));
}

template <class F, class C>
__global__ void __launch_bounds__(kThreads, 1) map_elements(const MapArgs a, const F f) {
  for_each_item(a.at.numel, [&](int64_t i) {
    int64_t o[kMapArity + 1];
    a.at.template find<F::arity + 1>(i, o);
    C v[kMapArity] = {};
    TENUN_UNROLL
    for (int k = 0; k < F::arity; ++k) v[k] = load_as<C>(a.in[k], a.types[k + 1], o[k + 1]);
    store_as(a.out, a.types[0], o[0], call_map<C>(f, v));
  });
}

/// Contiguous tensors of one type: nothing but addresses.
struct FlatArgs {
  int64_t n;
  void* out;
  const void* in[kMapArity];
};
template <class F, class T>
__global__ void __launch_bounds__(kThreads, 1) map_packs(const FlatArgs a, const F f) {
  constexpr int kCount = Pack<T>::kCount;
  auto* const out = static_cast<T*>(a.out);
  const auto in = [&](int k) { return static_cast<const T*>(a.in[k]); };
  for_each_item(a.n / kCount, [&](int64_t i) {
    const int64_t at = i * kCount;
    Pack<T> x[F::arity], y;
    TENUN_UNROLL
    for (int k = 0; k < F::arity; ++k) x[k] = Pack<T>::load(in(k) + at);
    TENUN_UNROLL
    for (int e = 0; e < kCount; ++e) {
      float v[kMapArity] = {};
      TENUN_UNROLL
      for (int k = 0; k < F::arity; ++k) v[k] = static_cast<float>(x[k].v[e]);
      y.v[e] = T(call_map<float>(f, v));
    }
    y.store(out + at);
  });
  // What is left is less than a pack: the first threads have one element each.
  const int64_t e = a.n / kCount * kCount + int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (e < a.n) {
    float v[kMapArity] = {};
    TENUN_UNROLL
    for (int k = 0; k < F::arity; ++k) v[k] = static_cast<float>(in(k)[e]);
    out[e] = T(call_map<float>(f, v));
  }
}

/// Eight elements of f32, bf16 or f16. The type is known at run time only: one kernel serves all
/// combinations, and the branch is one for eight elements.
struct Eight {
  static constexpr int kCount = 8;
  uint4 words[2];

  // Reading and writing are apart from converting: no tensor's reads wait for another's.
  __device__ static Eight load(const void* p, DType d, int64_t i) {
    const auto* const from =
        reinterpret_cast<const uint4*>(static_cast<const std::byte*>(p) + i * bytes_of(d));
    Eight x;
    x.words[0] = from[0];
    if (d == DType::f32) x.words[1] = from[1];
    return x;
  }
  __device__ void store(void* p, DType d, int64_t i) const {
    auto* const to = reinterpret_cast<uint4*>(static_cast<std::byte*>(p) + i * bytes_of(d));
    to[0] = words[0];
    if (d == DType::f32) to[1] = words[1];
  }
  __device__ void unpack(float (&v)[kCount], DType d) const {
    as_type(d, [&]<class T>() {
      constexpr int n = Pack<T>::kCount;
      TENUN_UNROLL
      for (int e = 0; e < kCount; ++e)
        v[e] = static_cast<float>(std::bit_cast<Pack<T>>(words[e / n]).v[e % n]);
    });
  }
  __device__ void pack(const float (&v)[kCount], DType d) {
    as_type(d, [&]<class T>() {
      constexpr int n = Pack<T>::kCount;
      TENUN_UNROLL
      for (int w = 0; w < kCount / n; ++w) {
        Pack<T> x;
        TENUN_UNROLL
        for (int e = 0; e < n; ++e) x.v[e] = T(v[w * n + e]);
        words[w] = std::bit_cast<uint4>(x);
      }
    });
  }

 private:
  __device__ static int bytes_of(DType d) { return d == DType::f32 ? 4 : 2; }
  template <class F>
  __device__ static void as_type(DType d, F&& f) {
    if (d == DType::f32)
      f.template operator()<float>();
    else if (d == DType::bf16)
      f.template operator()<bf16>();
    else
      f.template operator()<f16>();
  }
};
/// At most three axes, the inner one contiguous in every tensor; the outer two are the grid's.
template <class F>
__global__ void __launch_bounds__(kThreads, 1) map_rows(const MapArgs a, const F f) {
  constexpr int kCount = Eight::kCount;
  for (int64_t o = blockIdx.z; o < a.at.sizes[2]; o += gridDim.z)
    for_each_in_rows(a.at.sizes[1], a.at.sizes[0] / kCount, [&](int64_t r, int64_t i) {
      // Nearly always there is one turn of each loop: no addresses in advance for the next ones.
      int row = static_cast<int>(r), sample = static_cast<int>(o);
      opaque(row), opaque(sample);
      const auto at = [&](int k) {
        return a.at.base[k] + sample * a.at.strides[2][k] + row * a.at.strides[1][k] + i * kCount;
      };
      Eight x[F::arity], y;
      TENUN_UNROLL
      for (int k = 0; k < F::arity; ++k) x[k] = Eight::load(a.in[k], a.types[k + 1], at(k + 1));
      float in[F::arity][kCount], out[kCount];
      TENUN_UNROLL
      for (int k = 0; k < F::arity; ++k) x[k].unpack(in[k], a.types[k + 1]);
      TENUN_UNROLL
      for (int e = 0; e < kCount; ++e) {
        float v[kMapArity] = {};
        TENUN_UNROLL
        for (int k = 0; k < F::arity; ++k) v[k] = in[k][e];
        out[e] = call_map<float>(f, v);
      }
      y.pack(out, a.types[0]);
      y.store(a.out, a.types[0], at(0));
    });
}

template <class F>
void map_device(Tensor& y, const MapInputs& x, const F& f) {
  constexpr bool kIntegers = requires { requires F::integers; };
  MapArgs a;
  const MapPath path = plan_map(a, y, x, F::arity, kIntegers);
  const dim3 each = grid_for(a.at.numel), packs = grid_for((a.at.numel + 3) / 4);
  const FlatArgs flat{a.at.numel, a.out, {a.in[0], a.in[1], a.in[2], a.in[3]}};
  switch (path) {
    case MapPath::nothing: return;
    case MapPath::flat_f32: return launch(map_packs<F, float>, packs, kThreads, 0, flat, f);
    case MapPath::flat_bf16: return launch(map_packs<F, bf16>, packs, kThreads, 0, flat, f);
    case MapPath::flat_f16: return launch(map_packs<F, f16>, packs, kThreads, 0, flat, f);
    case MapPath::rows:
      if constexpr (F::arity > 1) {
        const auto [grid, block] =
            grid_of_rows(a.at.sizes[1], a.at.sizes[0] / Eight::kCount, a.at.sizes[2]);
        launch(map_rows<F>, grid, block, 0, a, f);
      }
      return;
    case MapPath::f32: return launch(map_elements<F, float>, each, kThreads, 0, a, f);
    case MapPath::f64: return launch(map_elements<F, double>, each, kThreads, 0, a, f);
    case MapPath::i64:
      if constexpr (kIntegers) launch(map_elements<F, int64_t>, each, kThreads, 0, a, f);
  }
}

template <class... F>
void use_maps() {
  (kernel::map<F>.set(kDevice, map_device<F>), ...);
}

}  // namespace tenun::TENUN_BACKEND
