// 2^x and its polynomials, for the per-level sources (rules: ops/simd/isa.h). On [-1/2, 1/2],
// minimax for the relative error: degree 3 7.5e-5, degree 4 2.6e-6, degree 5 7.5e-8; f64: Taylor
// series of degree 13, below one ulp. 2^-inf = 0; results below the normal range are 0 or
// subnormal; NaN stays.
#pragma once
#include "tenun/ops/simd/vector.h"

namespace tenun::simd::TENUN_ISA {

template <int Degree>
TENUN_VECTOR F32 exp2_polynomial(F32 f) {
  static_assert(Degree >= 3 && Degree <= 5);
  if constexpr (Degree == 3) {
    F32 p = fma(broadcast(0.0551716691f), f, broadcast(0.242611122f));
    p = fma(p, f, broadcast(0.693260985f));
    return fma(p, f, broadcast(0.999928074f));
  } else if constexpr (Degree == 4) {
    F32 p = fma(broadcast(0.00957010201f), f, broadcast(0.0559178603f));
    p = fma(p, f, broadcast(0.240247448f));
    p = fma(p, f, broadcast(0.693121815f));
    return fma(p, f, broadcast(0.999999261f));
  } else {
    F32 p = fma(broadcast(0.00132764722f), f, broadcast(0.00967554133f));
    p = fma(p, f, broadcast(0.0555071327f));
    p = fma(p, f, broadcast(0.240221197f));
    p = fma(p, f, broadcast(0.693146967f));
    return fma(p, f, broadcast(1.00000007f));
  }
}
// ln(2)^k / k!
template <int Degree>
TENUN_VECTOR F64 exp2_polynomial(F64 f) {
  F64 p = broadcast(1.3691488853904124e-12);
  p = fma(p, f, broadcast(2.5678435993488206e-11));
  p = fma(p, f, broadcast(4.4455382718708116e-10));
  p = fma(p, f, broadcast(7.0549116208011229e-09));
  p = fma(p, f, broadcast(1.0178086009239699e-07));
  p = fma(p, f, broadcast(1.3215486790144309e-06));
  p = fma(p, f, broadcast(1.5252733804059841e-05));
  p = fma(p, f, broadcast(1.5403530393381609e-04));
  p = fma(p, f, broadcast(1.3333558146428443e-03));
  p = fma(p, f, broadcast(9.6181291076284769e-03));
  p = fma(p, f, broadcast(5.5504108664821576e-02));
  p = fma(p, f, broadcast(2.4022650695910072e-01));
  p = fma(p, f, broadcast(6.9314718055994529e-01));
  return fma(p, f, broadcast(1.0));
}

#if defined(__AVX512F__)
template <int Degree>
TENUN_VECTOR F32 exp2(F32 x) {
  const F32 n = round(x);
  return _mm512_scalef_ps(exp2_polynomial<Degree>(x - n), n);
}
template <int Degree>
TENUN_VECTOR F64 exp2(F64 x) {
  const F64 n = round(x);
  return _mm512_scalef_pd(exp2_polynomial<Degree>(x - n), n);
}
#else
// Adding 1.5 * 2^23 (2^52) rounds to an integer and leaves it in the low bits, from where it is
// added to the exponent. The clamps keep that in range; NaN passes them as the second operand.
template <int Degree>
TENUN_VECTOR F32 exp2(F32 x) {
  const F32 low = broadcast(-126.0f), c = min(broadcast(127.0f), max(low, x));
  const F32 t = c + broadcast(12582912.0f);
  const Bits p = as_bits(exp2_polynomial<Degree>(c - (t - broadcast(12582912.0f))));
  const F32 y = as_float(add32(p, left32<23>(as_bits(t))));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), y);
}
template <int Degree>
TENUN_VECTOR F64 exp2(F64 x) {
  const F64 low = broadcast(-1022.0), c = _mm256_min_pd(broadcast(1023.0), max(low, x));
  const F64 t = c + broadcast(6755399441055744.0);
  const Bits p =
      _mm256_castpd_si256(exp2_polynomial<Degree>(c - (t - broadcast(6755399441055744.0))));
  const F64 y =
      _mm256_castsi256_pd(_mm256_add_epi64(p, _mm256_slli_epi64(_mm256_castpd_si256(t), 52)));
  return _mm256_andnot_pd(_mm256_cmp_pd(x, low, _CMP_LT_OQ), y);
}
#endif

}  // namespace tenun::simd::TENUN_ISA
