// Vectors of one instruction set level: 64 bytes with AVX-512, else 32. Everything lives in
// tenun::simd::<level>; only the sources that are compiled once a level include this header (rules:
// ops/simd/isa.h). Types F32, F64 and Bits (integers, lanes as the operation says).
//
//   F32 p = exp2<5>(load(x) - load(m));   // minimax polynomial, max. relative error 7.5e-8
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#ifndef TENUN_ISA
#error "compile this for one instruction set level: -DTENUN_ISA=avx2|avx512|avx512_bf16"
#endif

namespace tenun::simd::TENUN_ISA {

#if defined(__AVX512F__)
inline constexpr int kBytes = 64;
using F32 = __m512;
using F64 = __m512d;
using Bits = __m512i;
#else
inline constexpr int kBytes = 32;
using F32 = __m256;
using F64 = __m256d;
using Bits = __m256i;
#endif
template <class T>
inline constexpr int kLanes = kBytes / static_cast<int>(sizeof(T));

/// Vector<float>::type is F32, Vector<double>::type F64.
template <class T>
struct Vector;
template <>
struct Vector<float> {
  using type = F32;
};
template <>
struct Vector<double> {
  using type = F64;
};

#define TENUN_VECTOR [[gnu::always_inline]] inline

/// Keeps x in a register: under pressure compilers load a vector again for each use, and then the
/// load ports limit the product (measured: 96 instead of 108 GFLOP/s).
template <class V>
TENUN_VECTOR V in_register(V x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#else
  asm("" : "+x"(x));
#endif
  return x;
}

/// The largest power of two that is not above x; 0 for 0; x normal and positive.
TENUN_VECTOR F32 power_of_two(F32 x) {
#if defined(__AVX512F__)
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7f800000)));
#else
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000)));
#endif
}
TENUN_VECTOR F64 power_of_two(F64 x) {
#if defined(__AVX512F__)
  return _mm512_castsi512_pd(
      _mm512_and_si512(_mm512_castpd_si512(x), _mm512_set1_epi64(0x7ff0000000000000)));
#else
  return _mm256_and_pd(x, _mm256_castsi256_pd(_mm256_set1_epi64x(0x7ff0000000000000)));
#endif
}

#if defined(__AVX512F__)
TENUN_VECTOR F32 load(const float* p) { return _mm512_loadu_ps(p); }
TENUN_VECTOR F64 load(const double* p) { return _mm512_loadu_pd(p); }
TENUN_VECTOR Bits load_bits(const void* p) { return _mm512_loadu_si512(p); }
TENUN_VECTOR void store(float* p, F32 x) { _mm512_storeu_ps(p, x); }
TENUN_VECTOR void store(double* p, F64 x) { _mm512_storeu_pd(p, x); }
TENUN_VECTOR void store_bits(void* p, Bits x) { _mm512_storeu_si512(p, x); }
TENUN_VECTOR F32 broadcast(float x) { return _mm512_set1_ps(x); }
TENUN_VECTOR F64 broadcast(double x) { return _mm512_set1_pd(x); }
TENUN_VECTOR Bits broadcast(int32_t x) { return _mm512_set1_epi32(x); }
/// a b + c, a b - c, c - a b in one rounding
TENUN_VECTOR F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
TENUN_VECTOR F64 fma(F64 a, F64 b, F64 c) { return _mm512_fmadd_pd(a, b, c); }
TENUN_VECTOR F32 fms(F32 a, F32 b, F32 c) { return _mm512_fmsub_ps(a, b, c); }
TENUN_VECTOR F64 fms(F64 a, F64 b, F64 c) { return _mm512_fmsub_pd(a, b, c); }
/// The second operand where one is NaN.
TENUN_VECTOR F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
TENUN_VECTOR F64 max(F64 a, F64 b) { return _mm512_max_pd(a, b); }
TENUN_VECTOR F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
TENUN_VECTOR F32 abs(F32 a) { return _mm512_abs_ps(a); }
TENUN_VECTOR F64 abs(F64 a) { return _mm512_abs_pd(a); }
TENUN_VECTOR F32 round(F32 x) { return _mm512_roundscale_ps(x, 8); }  // to nearest, halves to even
TENUN_VECTOR F64 round(F64 x) { return _mm512_roundscale_pd(x, 8); }
TENUN_VECTOR bool any_above(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
TENUN_VECTOR bool any_above(F64 a, F64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ) != 0; }
TENUN_VECTOR bool any_differs(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) != 0; }
TENUN_VECTOR bool any_differs(F64 a, F64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_NEQ_UQ) != 0; }
TENUN_VECTOR float sum(F32 x) { return _mm512_reduce_add_ps(x); }
TENUN_VECTOR double sum(F64 x) { return _mm512_reduce_add_pd(x); }
TENUN_VECTOR float largest(F32 x) { return _mm512_reduce_max_ps(x); }
TENUN_VECTOR double largest(F64 x) { return _mm512_reduce_max_pd(x); }
TENUN_VECTOR F32 to_float(Bits x) { return _mm512_cvtepi32_ps(x); }
TENUN_VECTOR Bits to_int(F32 x) { return _mm512_cvtps_epi32(x); }  // to nearest, halves to even
TENUN_VECTOR Bits add32(Bits a, Bits b) { return _mm512_add_epi32(a, b); }
TENUN_VECTOR F32 as_float(Bits x) { return _mm512_castsi512_ps(x); }
TENUN_VECTOR Bits as_bits(F32 x) { return _mm512_castps_si512(x); }
TENUN_VECTOR Bits both(Bits a, Bits b) { return _mm512_and_si512(a, b); }
TENUN_VECTOR Bits either(Bits a, Bits b) { return _mm512_or_si512(a, b); }
TENUN_VECTOR Bits differing(Bits a, Bits b) { return _mm512_xor_si512(a, b); }
template <int N>
TENUN_VECTOR Bits left32(Bits a) {
  return _mm512_slli_epi32(a, N);
}
template <int N>
TENUN_VECTOR Bits right32(Bits a) {
  return _mm512_srli_epi32(a, N);
}
template <int N>
TENUN_VECTOR Bits left16(Bits a) {
  return _mm512_slli_epi16(a, N);
}
template <int N>
TENUN_VECTOR Bits right16(Bits a) {
  return _mm512_srli_epi16(a, N);
}
template <int N>
TENUN_VECTOR Bits right16_signed(Bits a) {
  return _mm512_srai_epi16(a, N);
}
TENUN_VECTOR Bits dot16(Bits a, Bits b) { return _mm512_madd_epi16(a, b); }
TENUN_VECTOR Bits narrow32(Bits a, Bits b) { return _mm512_packs_epi32(a, b); }
TENUN_VECTOR Bits narrow16(Bits a, Bits b) { return _mm512_packs_epi16(a, b); }
TENUN_VECTOR Bits narrow16_unsigned(Bits a, Bits b) { return _mm512_packus_epi16(a, b); }
TENUN_VECTOR Bits shuffle8(Bits a, __m128i order) {
  return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(order));
}
#else
TENUN_VECTOR F32 load(const float* p) { return _mm256_loadu_ps(p); }
TENUN_VECTOR F64 load(const double* p) { return _mm256_loadu_pd(p); }
TENUN_VECTOR Bits load_bits(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
TENUN_VECTOR void store(float* p, F32 x) { _mm256_storeu_ps(p, x); }
TENUN_VECTOR void store(double* p, F64 x) { _mm256_storeu_pd(p, x); }
TENUN_VECTOR void store_bits(void* p, Bits x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
TENUN_VECTOR F32 broadcast(float x) { return _mm256_set1_ps(x); }
TENUN_VECTOR F64 broadcast(double x) { return _mm256_set1_pd(x); }
TENUN_VECTOR Bits broadcast(int32_t x) { return _mm256_set1_epi32(x); }
TENUN_VECTOR F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
TENUN_VECTOR F64 fma(F64 a, F64 b, F64 c) { return _mm256_fmadd_pd(a, b, c); }
TENUN_VECTOR F32 fms(F32 a, F32 b, F32 c) { return _mm256_fmsub_ps(a, b, c); }
TENUN_VECTOR F64 fms(F64 a, F64 b, F64 c) { return _mm256_fmsub_pd(a, b, c); }
TENUN_VECTOR F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
TENUN_VECTOR F64 max(F64 a, F64 b) { return _mm256_max_pd(a, b); }
TENUN_VECTOR F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
TENUN_VECTOR F32 abs(F32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
TENUN_VECTOR F64 abs(F64 a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
TENUN_VECTOR F32 round(F32 x) { return _mm256_round_ps(x, 8); }
TENUN_VECTOR F64 round(F64 x) { return _mm256_round_pd(x, 8); }
TENUN_VECTOR bool any_above(F32 a, F32 b) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
}
TENUN_VECTOR bool any_above(F64 a, F64 b) {
  return _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GT_OQ)) != 0;
}
TENUN_VECTOR bool any_differs(F32 a, F32 b) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) != 0;
}
TENUN_VECTOR bool any_differs(F64 a, F64 b) {
  return _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_NEQ_UQ)) != 0;
}
TENUN_VECTOR float sum(F32 x) {
  __m128 h = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  h = _mm_add_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}
TENUN_VECTOR double sum(F64 x) {
  const __m128d h = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(h, _mm_unpackhi_pd(h, h)));
}
TENUN_VECTOR float largest(F32 x) {
  __m128 h = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  h = _mm_max_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_max_ss(h, _mm_shuffle_ps(h, h, 1)));
}
TENUN_VECTOR double largest(F64 x) {
  const __m128d h = _mm_max_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_max_sd(h, _mm_unpackhi_pd(h, h)));
}
TENUN_VECTOR F32 to_float(Bits x) { return _mm256_cvtepi32_ps(x); }
TENUN_VECTOR Bits to_int(F32 x) { return _mm256_cvtps_epi32(x); }
TENUN_VECTOR Bits add32(Bits a, Bits b) { return _mm256_add_epi32(a, b); }
TENUN_VECTOR F32 as_float(Bits x) { return _mm256_castsi256_ps(x); }
TENUN_VECTOR Bits as_bits(F32 x) { return _mm256_castps_si256(x); }
TENUN_VECTOR Bits both(Bits a, Bits b) { return _mm256_and_si256(a, b); }
TENUN_VECTOR Bits either(Bits a, Bits b) { return _mm256_or_si256(a, b); }
TENUN_VECTOR Bits differing(Bits a, Bits b) { return _mm256_xor_si256(a, b); }
template <int N>
TENUN_VECTOR Bits left32(Bits a) {
  return _mm256_slli_epi32(a, N);
}
template <int N>
TENUN_VECTOR Bits right32(Bits a) {
  return _mm256_srli_epi32(a, N);
}
template <int N>
TENUN_VECTOR Bits left16(Bits a) {
  return _mm256_slli_epi16(a, N);
}
template <int N>
TENUN_VECTOR Bits right16(Bits a) {
  return _mm256_srli_epi16(a, N);
}
template <int N>
TENUN_VECTOR Bits right16_signed(Bits a) {
  return _mm256_srai_epi16(a, N);
}
TENUN_VECTOR Bits dot16(Bits a, Bits b) { return _mm256_madd_epi16(a, b); }
TENUN_VECTOR Bits narrow32(Bits a, Bits b) { return _mm256_packs_epi32(a, b); }
TENUN_VECTOR Bits narrow16(Bits a, Bits b) { return _mm256_packs_epi16(a, b); }
TENUN_VECTOR Bits narrow16_unsigned(Bits a, Bits b) { return _mm256_packus_epi16(a, b); }
TENUN_VECTOR Bits shuffle8(Bits a, __m128i order) {
  return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(order));
}
#endif

}  // namespace tenun::simd::TENUN_ISA
