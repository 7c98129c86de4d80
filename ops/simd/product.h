// The one micro-kernel, for the per-level sources (rules: ops/simd/isa.h):
//
//   acc[m][v] += sum_k A(m, k) * B[k][lanes of vector v]
//
// A elements are broadcast from anywhere (run-time strides), B gives the lanes; M x NV accumulators
// stay in registers. Element kinds: F32Kind, F64Kind, Bf16Kind (pairs along k, f32 sums), S8U8Kind
// (quads along k: signed A, unsigned B, exact 32-bit sums; for signed B add 128 to it and start the
// sums of row m at -128 sum_k A(m, k)). Below the levels that have the instruction, pairs and quads
// are multiplied by exact emulation. 16 accumulators (4 x 4) with AVX-512 and 12 (6 x 2) with AVX2
// keep the multipliers busy: kRows<NV> gives M; packed products (gemm.cc) use 6 x 4 and 6 x 2.
#pragma once
#include "tenun/ops/simd/product_kernels.h"
#include "tenun/ops/simd/vector.h"

namespace tenun::simd::TENUN_ISA {

/// Vectors beside each other, and rows for a given number of them.
inline constexpr int kVectors = kBytes == 64 ? 4 : 2;
template <int NV>
inline constexpr int kRows = kBytes == 64 ? (NV == 4   ? 4
                                             : NV == 2 ? 8
                                                       : 16)
                                          : (NV == 2 ? 6 : 12);

template <class T>
struct FloatKind {
  using Element = T;  ///< of A and B
  using Out = T;      ///< of C
  using Sum = typename Vector<T>::type;
  using Lanes = Sum;  ///< a vector of B
  using Spread = Sum;
  static constexpr int kWidth = kLanes<T>;
  TENUN_VECTOR static Lanes lanes(const T* p) { return in_register(load(p)); }
  TENUN_VECTOR static Spread spread(const T* p) { return broadcast(*p); }
  TENUN_VECTOR static Sum mac(Spread a, Lanes b, Sum c) { return fma(a, b, c); }
  TENUN_VECTOR static Sum zero() { return Sum{}; }
  TENUN_VECTOR static Sum load_sum(const T* p) { return load(p); }
  TENUN_VECTOR static void store_sum(T* p, Sum x) { store(p, x); }
};
using F32Kind = FloatKind<float>;
using F64Kind = FloatKind<double>;

struct Bf16Kind {
  using Element = Group;
  using Out = float;
  using Sum = F32;
  static constexpr int kWidth = kLanes<float>;
  TENUN_VECTOR static Sum zero() { return Sum{}; }
  TENUN_VECTOR static Sum load_sum(const float* p) { return load(p); }
  TENUN_VECTOR static void store_sum(float* p, Sum x) { store(p, x); }
#if defined(__AVX512BF16__)
  using Lanes = Bits;
  using Spread = Bits;
  TENUN_VECTOR static Lanes lanes(const Group* p) { return in_register(load_bits(p)); }
  TENUN_VECTOR static Spread spread(const Group* p) {
    return broadcast(static_cast<int32_t>(p->bits));
  }
  TENUN_VECTOR static Sum mac(Spread a, Lanes b, Sum c) {
    return _mm512_dpbf16_ps(c, (__m512bh)b, (__m512bh)a);
  }
#else
  struct Lanes {
    F32 first, second;
  };
  using Spread = Lanes;
  TENUN_VECTOR static Lanes split(Bits x) {
    return {as_float(left32<16>(x)),
            as_float(both(x, broadcast(static_cast<int32_t>(0xffff0000))))};
  }
  TENUN_VECTOR static Lanes lanes(const Group* p) { return split(load_bits(p)); }
  TENUN_VECTOR static Spread spread(const Group* p) {
    return split(broadcast(static_cast<int32_t>(p->bits)));
  }
  TENUN_VECTOR static Sum mac(Spread a, Lanes b, Sum c) {
    return fma(a.second, b.second, fma(a.first, b.first, c));
  }
#endif
};

struct S8U8Kind {
  using Element = Group;
  using Out = int32_t;
  using Sum = Bits;
  static constexpr int kWidth = kLanes<float>;
  TENUN_VECTOR static Sum zero() { return in_register(Sum{}); }  // each sum its own register
  TENUN_VECTOR static Sum load_sum(const int32_t* p) { return load_bits(p); }
  TENUN_VECTOR static void store_sum(int32_t* p, Sum x) { store_bits(p, x); }
#if defined(__AVX512VNNI__)
  using Lanes = Bits;
  using Spread = Bits;
  TENUN_VECTOR static Lanes lanes(const Group* p) { return in_register(load_bits(p)); }
  TENUN_VECTOR static Spread spread(const Group* p) {
    return broadcast(static_cast<int32_t>(p->bits));
  }
  // The intrinsic changes the type of its operands, and g++ 12 then copies sums around the loop,
  // two of them through memory.
  TENUN_VECTOR static Sum mac(Spread a, Lanes b, Sum c) {
    asm("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(b), "v"(a));
    return c;
  }
#else
  // Bytes 0, 2 and 1, 3 of each quad as 16-bit numbers: their products and sums are exact.
  struct Lanes {
    Bits even, odd;
  };
  using Spread = Lanes;
  TENUN_VECTOR static Lanes lanes(const Group* p) {
    const Bits x = load_bits(p);
    return {both(x, broadcast(int32_t{0x00ff00ff})), right16<8>(x)};
  }
  TENUN_VECTOR static Spread spread(const Group* p) {
    const Bits x = broadcast(static_cast<int32_t>(p->bits));
    return {right16_signed<8>(left16<8>(x)), right16_signed<8>(x)};
  }
  TENUN_VECTOR static Sum mac(Spread a, Lanes b, Sum c) {
    return add32(c, add32(dot16(a.even, b.even), dot16(a.odd, b.odd)));
  }
#endif
};

/// acc += A B: row and col are the strides of A's m and k, ldb that of B's k, in elements (groups).
template <class Kind, int M, int NV>
TENUN_VECTOR void product(typename Kind::Sum (&acc)[M][NV], const typename Kind::Element* a,
                          int64_t row, int64_t col, const typename Kind::Element* b, int64_t ldb,
                          int64_t k) {
  for (int64_t i = 0; i < k; ++i) {
    typename Kind::Lanes y[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) y[v] = Kind::lanes(b + v * Kind::kWidth);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const typename Kind::Spread x = Kind::spread(a + m * row);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[m][v] = Kind::mac(x, y[v], acc[m][v]);
    }
    a += col;
    b += ldb;
  }
}

template <class Kind, int M, int NV>
TENUN_VECTOR void clear(typename Kind::Sum (&acc)[M][NV]) {
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[m][v] = Kind::zero();
}
template <class Kind, int M, int NV>
TENUN_VECTOR void load_sums(typename Kind::Sum (&acc)[M][NV], const typename Kind::Out* c,
                            int64_t ldc) {
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[m][v] = Kind::load_sum(c + m * ldc + v * Kind::kWidth);
}
template <class Kind, int M, int NV>
TENUN_VECTOR void store_sums(const typename Kind::Sum (&acc)[M][NV], typename Kind::Out* c,
                             int64_t ldc) {
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) Kind::store_sum(c + m * ldc + v * Kind::kWidth, acc[m][v]);
}

/// C (+)= A B for m rows and NV vectors of lanes, in strips of M rows, the rest in smaller ones.
template <class Kind, int M, int NV>
inline void strips(int64_t m, int64_t k, Strided<typename Kind::Element> a,
                   const typename Kind::Element* b, int64_t ldb, typename Kind::Out* c, int64_t ldc,
                   Into into) {
  int64_t i = 0;
  for (; i + M <= m; i += M) {
    typename Kind::Sum acc[M][NV];
    if (into == Into::add)
      load_sums<Kind>(acc, c + i * ldc, ldc);
    else
      clear<Kind>(acc);
    product<Kind>(acc, a.p + i * a.row, a.row, a.col, b, ldb, k);
    store_sums<Kind>(acc, c + i * ldc, ldc);
  }
  if constexpr (M > 1) {
    constexpr int kLess = M == 6 ? 3 : M == 3 ? 1 : M / 2;
    if (i < m)
      strips<Kind, kLess, NV>(m - i, k, {a.p + i * a.row, a.row, a.col}, b, ldb, c + i * ldc, ldc,
                              into);
  }
}

/// C[m][n] (+)= A B; n a whole number of cache lines.
template <class Kind>
inline void multiply(int64_t m, int64_t n, int64_t k, Strided<typename Kind::Element> a,
                     const typename Kind::Element* b, int64_t ldb, typename Kind::Out* c,
                     int64_t ldc, Into into) {
  constexpr int kWidth = Kind::kWidth, kMost = kVectors;
  int64_t j = 0;
  for (; j + kMost * kWidth <= n; j += kMost * kWidth)
    strips<Kind, kRows<kMost>, kMost>(m, k, a, b + j, ldb, c + j, ldc, into);
  if constexpr (kMost > 2) {
    for (; j + 2 * kWidth <= n; j += 2 * kWidth)
      strips<Kind, kRows<2>, 2>(m, k, a, b + j, ldb, c + j, ldc, into);
    for (; j < n; j += kWidth) strips<Kind, kRows<1>, 1>(m, k, a, b + j, ldb, c + j, ldc, into);
  }
}

}  // namespace tenun::simd::TENUN_ISA
