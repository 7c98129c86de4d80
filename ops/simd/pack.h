// Conversions and transposes in registers, for the per-level sources (rules: ops/simd/isa.h).
//   pair(a, b)        lane i: bf16 a_i (low half), bf16 b_i: two rows become pairs along the rows
//   join(a, b)        bf16 of the lanes of a, then of b: one row of twice the lanes
//   quad(a, b, c, d)  lane i: bytes of a_i .. d_i, rounded to nearest and saturated
//   transpose         of any rectangle, whole squares in registers
#pragma once
#include "tenun/ops/simd/vector.h"

namespace tenun::simd::TENUN_ISA {

/// Rounded to bf16 (halves to even; NaN stays NaN), in the upper half of each lane.
TENUN_VECTOR Bits rounded_bf16(F32 x) {
  const Bits u = as_bits(x), odd = both(right32<16>(u), broadcast(int32_t{1}));
  const Bits up = add32(u, add32(odd, broadcast(int32_t{0x7fff})));
#if defined(__AVX512F__)
  return _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                               broadcast(int32_t{0x7fc00000}));
#else
  return _mm256_blendv_epi8(up, broadcast(int32_t{0x7fc00000}),
                            as_bits(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
#endif
}

#if defined(__AVX512BF16__)
TENUN_VECTOR Bits join(F32 a, F32 b) { return (Bits)_mm512_cvtne2ps_pbh(b, a); }
TENUN_VECTOR Bits pair(F32 a, F32 b) {
  alignas(64) static constexpr int16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                     21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                     11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), join(a, b));
}
#else
TENUN_VECTOR Bits pair(F32 a, F32 b) {
  return either(right32<16>(rounded_bf16(a)),
                both(rounded_bf16(b), broadcast(static_cast<int32_t>(0xffff0000))));
}
TENUN_VECTOR Bits join(F32 a, F32 b) {
#if defined(__AVX512F__)
  return _mm512_inserti64x4(
      _mm512_castsi256_si512(_mm512_cvtepi32_epi16(right32<16>(rounded_bf16(a)))),
      _mm512_cvtepi32_epi16(right32<16>(rounded_bf16(b))), 1);
#else
  return _mm256_permute4x64_epi64(
      _mm256_packus_epi32(right32<16>(rounded_bf16(a)), right32<16>(rounded_bf16(b))), 0xd8);
#endif
}
#endif
/// The two bf16 of each lane as f32: elements 2 i, and 2 i + 1.
TENUN_VECTOR F32 first_bf16(Bits x) { return as_float(left32<16>(x)); }
TENUN_VECTOR F32 second_bf16(Bits x) {
  return as_float(both(x, broadcast(static_cast<int32_t>(0xffff0000))));
}

/// Rounded to what FP8 E4M3 can hold: 4 significant bits from 2^-6 on, steps of 2^-9 below; at most
/// 448. x >= 0.
template <class V>
TENUN_VECTOR V e4m3(V x) {
  const V low = broadcast(decltype(sum(x))(0.015625)), top = broadcast(decltype(sum(x))(448));
  const V power = max(power_of_two(x), low), step = power * broadcast(decltype(sum(x))(0.125));
  const V y = round(x / step) * step;
  return V{} - max(V{} - y, V{} - top);
}

enum class Sign { none, both };
/// Sign::none: to 0..255; Sign::both: to -128..127.
template <Sign S>
TENUN_VECTOR Bits quad(F32 a, F32 b, F32 c, F32 d) {
  const Bits ab = narrow32(to_int(a), to_int(b)), cd = narrow32(to_int(c), to_int(d));
  const Bits x = S == Sign::both ? narrow16(ab, cd) : narrow16_unsigned(ab, cd);
  return shuffle8(x, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}

namespace detail {
template <int... I>
struct Ints {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
  using type = Ints<I...>;
};
// One step of the butterfly: lanes whose bit `H` is 0 (1) change places with the other register.
template <int H, class V, int... I>
TENUN_VECTOR void swap_lanes(V& a, V& b, Ints<I...>) {
  constexpr int kN = sizeof...(I);
  const V low = __builtin_shufflevector(a, b, ((I & H) == 0 ? I : I - H + kN)...);
  b = __builtin_shufflevector(a, b, ((I & H) == 0 ? I + H : I + kN)...);
  a = low;
}
template <int H, int N, class V>
TENUN_VECTOR void butterfly(V (&r)[N]) {
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i)
    if ((i & H) == 0) swap_lanes<H>(r[i], r[i + H], typename Count<N>::type{});
  if constexpr (H > 1) butterfly<H / 2>(r);
}
}  // namespace detail

/// y[c][r] = x[r][c] for r < rows, c < cols.
template <class T>
inline void transpose(const T* x, int64_t ldx, int64_t rows, int64_t cols, T* y, int64_t ldy) {
  constexpr int kN = kLanes<T>;
  const int64_t full_rows = rows / kN * kN, full_cols = cols / kN * kN;
  for (int64_t r = 0; r < full_rows; r += kN)
    for (int64_t c = 0; c < full_cols; c += kN) {
      typename Vector<T>::type v[kN];
#pragma GCC unroll 16
      for (int i = 0; i < kN; ++i) v[i] = load(x + (r + i) * ldx + c);
      detail::butterfly<kN / 2>(v);
#pragma GCC unroll 16
      for (int i = 0; i < kN; ++i) store(y + (c + i) * ldy + r, v[i]);
    }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < full_rows ? full_cols : 0; c < cols; ++c) y[c * ldy + r] = x[r * ldx + c];
}

}  // namespace tenun::simd::TENUN_ISA
