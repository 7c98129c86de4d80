// The types of an attention kernel, for the per-level sources (rules: ops/simd/isa.h).
//   Real                 compute type
//   Score, Value         kinds of the products (ops/simd/product.h)
//   kScoreGroup, kGroup  numbers in one element of the score and of the value product: 1, 2, 4
//   kDegree              of the exponential's polynomial
//   kScaled              scores are multiplied by a unit in the exponential; else Q is (f32, f64)
//   kRounded             P is rounded to integers 0..127 relative to the running maximum
#pragma once
#include "tenun/ops/simd/product.h"

namespace tenun::simd::TENUN_ISA {

template <class T, class S, int ScoreGroup, class U, int ValueGroup, int Degree,
          bool Scaled = false, bool Rounded = false>
struct Policy {
  using Real = T;
  using Score = S;
  using Value = U;
  static constexpr int kScoreGroup = ScoreGroup, kGroup = ValueGroup, kDegree = Degree;
  static constexpr bool kScaled = Scaled, kRounded = Rounded;
};

}  // namespace tenun::simd::TENUN_ISA
