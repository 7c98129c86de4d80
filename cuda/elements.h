// Elements of tensors inside kernels: reading and writing them by a type that is known at run time
// only (one kernel for all combinations of dtypes), and finding them in strided tensors.
#pragma once
#include <array>
#include <initializer_list>

#include "tenun/core/dtype.h"
#include "tenun/core/strided.h"
#include "tenun/cuda/device_code.h"

namespace tenun::TENUN_BACKEND {

template <class To, class From>
__host__ __device__ constexpr To convert(From v) {
  if constexpr (std::is_same_v<To, bool>)
    return v != From(0);
  else if constexpr (std::is_same_v<To, bf16> || std::is_same_v<To, f16>)
    return To(static_cast<float>(v));
  else
    return static_cast<To>(v);
}

/// Element i of `p`, which holds elements of type d.
template <class C>
__device__ C load_as(const void* p, DType d, int64_t i) {
  switch (d) {
    case DType::f32: return convert<C>(static_cast<const float*>(p)[i]);
    case DType::f64: return convert<C>(static_cast<const double*>(p)[i]);
    case DType::bf16: return convert<C>(static_cast<float>(static_cast<const bf16*>(p)[i]));
    case DType::f16: return convert<C>(static_cast<float>(static_cast<const f16*>(p)[i]));
    case DType::i8: return convert<C>(static_cast<const int8_t*>(p)[i]);
    case DType::u8: return convert<C>(static_cast<const uint8_t*>(p)[i]);
    case DType::i32: return convert<C>(static_cast<const int32_t*>(p)[i]);
    case DType::i64: return convert<C>(static_cast<const int64_t*>(p)[i]);
    default: return convert<C>(static_cast<const bool*>(p)[i]);
  }
}
template <class C>
__device__ void store_as(void* p, DType d, int64_t i, C v) {
  switch (d) {
    case DType::f32: static_cast<float*>(p)[i] = convert<float>(v); break;
    case DType::f64: static_cast<double*>(p)[i] = convert<double>(v); break;
    case DType::bf16: static_cast<bf16*>(p)[i] = convert<bf16>(v); break;
    case DType::f16: static_cast<f16*>(p)[i] = convert<f16>(v); break;
    case DType::i8: static_cast<int8_t*>(p)[i] = convert<int8_t>(v); break;
    case DType::u8: static_cast<uint8_t*>(p)[i] = convert<uint8_t>(v); break;
    case DType::i32: static_cast<int32_t*>(p)[i] = convert<int32_t>(v); break;
    case DType::i64: static_cast<int64_t*>(p)[i] = convert<int64_t>(v); break;
    default: static_cast<bool*>(p)[i] = convert<bool>(v); break;
  }
}

/// Elements in registers. Those of 16 bytes, or a single one (for what packs do not fit), are read
/// and written at once; longer runs as cuda/runs.h does it.
template <class T, int N = 16 / sizeof(T)>
struct Pack {
  static constexpr int kCount = N;
  using Word = std::conditional_t<N == 1, T, uint4>;
  T v[N];
  __device__ static Pack load(const T* p) {
    return std::bit_cast<Pack>(*reinterpret_cast<const Word*>(p));
  }
  __device__ void store(T* p) const { *reinterpret_cast<Word*>(p) = std::bit_cast<Word>(*this); }
};
[[nodiscard]] inline bool aligned_16(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}
[[nodiscard]] inline bool aligned_16(std::initializer_list<const void*> all) {
  for (const void* p : all)
    if (!aligned_16(p)) return false;
  return true;
}

/// Up to N tensors of one shape; axis 0 is the innermost, and axes that lie together in all of them
/// are one.
template <int N>
struct Places {
  int rank = 0;
  bool flat = false;  ///< every tensor is contiguous
  int64_t numel = 0;
  int64_t sizes[kMaxRank] = {};
  int64_t strides[kMaxRank][N] = {};
  int64_t base[N] = {};

  /// The offsets of element i, counted in row-major order.
  template <int M = N>
  __device__ void find(int64_t i, int64_t (&offset)[N]) const {
    for (int k = 0; k < M; ++k) offset[k] = base[k];
    if (numel <= 0xffffffff) {  // a division of 32 bits costs a fraction of one of 64
      auto rest = static_cast<uint32_t>(i);
      for (int axis = 0; axis < rank; ++axis) {
        const auto size = static_cast<uint32_t>(sizes[axis]);
        const uint32_t up = rest / size, at = rest - up * size;
        for (int k = 0; k < M; ++k) offset[k] += at * strides[axis][k];
        rest = up;
      }
      return;
    }
    for (int axis = 0; axis < rank; ++axis) {
      const int64_t up = i / sizes[axis], at = i - up * sizes[axis];
      for (int k = 0; k < M; ++k) offset[k] += at * strides[axis][k];
      i = up;
    }
  }
};
template <int N>
[[nodiscard]] Places<N> places_of(const std::array<const Layout*, N>& layouts) {
  const StridedLoop<N> loop(layouts);
  Places<N> p;
  p.rank = loop.rank();
  p.flat = loop.flat();
  p.numel = loop.numel();
  for (int axis = 0; axis < p.rank; ++axis) {
    p.sizes[axis] = loop.size(axis);
    for (int k = 0; k < N; ++k) p.strides[axis][k] = loop.stride(axis, k);
  }
  for (int k = 0; k < N; ++k) p.base[k] = loop.base(k);
  return p;
}

}  // namespace tenun::TENUN_BACKEND
