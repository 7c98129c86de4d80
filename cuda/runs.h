// Runs: neighbouring elements of a row that one thread has in registers. Where all rows consist of
// whole packs at aligned addresses (kPacks), a run goes by 16 bytes and is there or is not there;
// everywhere else it goes element by element and may end early.
//
//   auto x = convert_run<float>(read_run<kPacks, 8>(from + c, d - c));   // zero beyond d
//   write_run<kPacks>(to + c, convert_run<T>(x), d - c);
#pragma once
#include "tenun/cuda/elements.h"

namespace tenun::TENUN_BACKEND {

template <class T, int n>
using Run = Pack<T, n>;

/// Elements from number `left` on are not there: they are read as zero, and not written.
template <bool kPacks, int n, class T>
__device__ Run<T, n> read_run(const T* p, int64_t left) {
  Run<T, n> r{};
  if constexpr (kPacks) {
    constexpr int kCount = Pack<T>::kCount;
    TENUN_UNROLL
    for (int k = 0; k < n; k += kCount) {
      uint4 words{0, 0, 0, 0};  // a choice between four words, not between eight halves
      if (left > 0) words = *reinterpret_cast<const uint4*>(p + k);
      const auto pack = std::bit_cast<Pack<T>>(words);
      TENUN_UNROLL
      for (int e = 0; e < kCount; ++e) r.v[k + e] = pack.v[e];
    }
  } else {
    TENUN_UNROLL
    for (int e = 0; e < n; ++e)
      if (e < left) r.v[e] = p[e];
  }
  return r;
}
template <bool kPacks, int n, class T>
__device__ void write_run(T* p, const Run<T, n>& r, int64_t left) {
  if constexpr (kPacks) {
    constexpr int kCount = Pack<T>::kCount;
    if (left <= 0) return;
    TENUN_UNROLL
    for (int k = 0; k < n; k += kCount) {
      Pack<T> pack;
      TENUN_UNROLL
      for (int e = 0; e < kCount; ++e) pack.v[e] = r.v[k + e];
      pack.store(p + k);
    }
  } else {
    TENUN_UNROLL
    for (int e = 0; e < n; ++e)
      if (e < left) p[e] = r.v[e];
  }
}

template <class To, class From, int n>
__device__ Run<To, n> convert_run(const Run<From, n>& x) {
  constexpr bool kLow = std::is_same_v<To, bf16> || std::is_same_v<To, f16>;
  if constexpr (kLow && std::is_same_v<From, float>) {  // two by one instruction
    std::array<unsigned, n / 2> words;
    TENUN_UNROLL
    for (int k = 0; k < n / 2; ++k)
      words[k] = std::is_same_v<To, bf16> ? pack_bf16(x.v[2 * k], x.v[2 * k + 1])
                                          : pack_f16(x.v[2 * k], x.v[2 * k + 1]);
    return std::bit_cast<Run<To, n>>(words);
  } else {
    Run<To, n> r;
    TENUN_UNROLL
    for (int e = 0; e < n; ++e) r.v[e] = convert<To>(x.v[e]);
    return r;
  }
}

template <class C, int n>
__device__ C dot(const Run<C, n>& a, const Run<C, n>& b) {
  C sum = 0;
  TENUN_UNROLL
  for (int e = 0; e < n; ++e) sum += a.v[e] * b.v[e];
  return sum;
}

}  // namespace tenun::TENUN_BACKEND
