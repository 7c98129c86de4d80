// The types of an attention kernel, for the per-level sources (rules: ops/simd/isa.h).
//   Real                 compute type
//   Score, Value         kinds of the products (ops/simd/product.h)
//   kScoreGroup, kGroup  numbers in one element of the score and of the value product: 1, 2, 4
//   kDegree              of the exponential's polynomial
//   kScaled              scores are multiplied by a unit in the exponential; else Q is (f32, f64)
//   kRound               P is rounded relative to the running maximum: to integers 0..127, or to
//                        what FP8 E4M3 can hold up to 448
//   kLowMix              the linear branch that is mixed in multiplies pairs of bf16
#pragma once
#include "tenun/ops/simd/product.h"

namespace tenun::simd::TENUN_ISA {

enum class Round { none, int8, fp8 };

template <class T, class S, int ScoreGroup, class U, int ValueGroup, int Degree,
          bool Scaled = false, Round Rounding = Round::none>
struct Policy {
  using Real = T;
  using Score = S;
  using Value = U;
  static constexpr int kScoreGroup = ScoreGroup, kGroup = ValueGroup, kDegree = Degree;
  static constexpr bool kScaled = Scaled;
  static constexpr Round kRound = Rounding;
  static constexpr bool kLowMix = sizeof(T) == 4 && (ScoreGroup > 1 || ValueGroup > 1);
};

}  // namespace tenun::simd::TENUN_ISA
