// The elementwise parts of the backward passes of ops/reduce.h; see ops/functors.h. Statistics come
// with the reduced axes of size 1 and broadcast.
#pragma once
#include "tenun/core/math.h"

namespace tenun::fn {

// dx = scale (x - mean) dy [/ y]; nothing flows where y is 0.
struct DeviationGrad {
  static constexpr const char* name = "var";
  static constexpr int arity = 3;
  double scale;
  template <class T>
  TENUN_HD T operator()(T x, T mean, T dy) const {
    return static_cast<T>(scale) * (x - mean) * dy;
  }
};
struct DeviationGradOverRoot {
  static constexpr const char* name = "std";
  static constexpr int arity = 4;
  double scale;
  template <class T>
  TENUN_HD T operator()(T x, T mean, T y, T dy) const {
    return y == 0 ? T(0) : static_cast<T>(scale) * (x - mean) * dy / y;
  }
};
struct NormGrad {
  static constexpr const char* name = "norm";
  static constexpr int arity = 3;
  template <class T>
  TENUN_HD T operator()(T x, T y, T dy) const {
    return y == 0 ? T(0) : x * dy / y;
  }
};
/// Nothing flows where the result is -infinity.
struct LogSumExpGrad {
  static constexpr const char* name = "logsumexp";
  static constexpr int arity = 3;
  template <class T>
  TENUN_HD T operator()(T x, T y, T dy) const {
    return y < 0 && y - y != 0 ? T(0) : dy * math::exp(x - y);
  }
};

}  // namespace tenun::fn
