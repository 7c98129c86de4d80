// Elementwise functors of single ops (masks, the INT8 grid, the combiner of attention), one text
// for host and device; see ops/functors.h.
#pragma once
#include "tenun/core/math.h"

namespace tenun::fn {

// ---- masks

struct MaskedFill {
  static constexpr const char* name = "masked_fill";
  static constexpr int arity = 2;
  double value;
  template <class T>
  TENUN_HD T operator()(T x, T mask) const {
    return mask != T(0) ? static_cast<T>(value) : x;
  }
};
/// x where a mask is not 0
struct Keep {
  static constexpr const char* name = "triangle";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T x, T kept) const {
    return kept != T(0) ? x : T(0);
  }
};

// ---- the INT8 grid: whole multiples of a scale, from -127 to 127

inline constexpr double kTinyScale = 1e-12;  // keeps a learned scale that reached 0 alive

template <class T>
TENUN_HD T grid_point(T x, T scale) {
  const T r = std::rint(x / scale);
  const T q = r > T(127) ? T(127) : r < T(-127) ? T(-127) : r;
  return scale == 0 ? T(0) : q;
}

struct ToInt8 {
  static constexpr const char* name = "quantize_int8";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T x, T scale) const {
    const T q = grid_point(x, scale);
    return q == q ? q : T(0);  // the scale of a group with a NaN is NaN
  }
};
struct ToGrid {
  static constexpr const char* name = "fake_quant_int8";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T x, T scale) const {
    return grid_point(x, scale) * scale;
  }
};
template <class T>
TENUN_HD T at_least_tiny(T scale) {
  return scale < T(kTinyScale) ? T(kTinyScale) : scale;
}
struct ToLearnedGrid {
  static constexpr const char* name = "fake_quant_int8";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T x, T scale) const {
    const T s = at_least_tiny(scale);
    return grid_point(x, s) * s;
  }
};
struct PassInside {  // dx
  static constexpr const char* name = "fake_quant_int8";
  static constexpr int arity = 3;
  template <class T>
  TENUN_HD T operator()(T dy, T x, T scale) const {
    const T v = x / at_least_tiny(scale);
    return v > T(127) || v < T(-127) ? T(0) : dy;
  }
};
struct ScaleTerm {  // one element's part of dscale
  static constexpr const char* name = "fake_quant_int8";
  static constexpr int arity = 3;
  double factor = 1;
  template <class T>
  TENUN_HD T operator()(T scale, T x, T dy) const {
    const T s = at_least_tiny(scale), v = x / s, q = grid_point(x, s);
    const T slope = v > T(127) || v < T(-127) ? q : q - v;
    return dy * slope * T(factor);
  }
};

// ---- attention

/// 1 - m
struct Complement {
  static constexpr const char* name = "complement";
  static constexpr int arity = 1;
  template <class T>
  TENUN_HD T operator()(T m) const {
    return T(1) - m;
  }
};
/// d g (1 - g): the slope of a gate that is a sigmoid
struct MixSlope {
  static constexpr const char* name = "attention mix slope";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T d, T g) const {
    return d * g * (T(1) - g);
  }
};
/// factor a^2
struct ScaledSquare {
  static constexpr const char* name = "squared difference";
  static constexpr int arity = 1;
  double factor;
  template <class T>
  TENUN_HD T operator()(T a) const {
    return static_cast<T>(factor) * a * a;
  }
};

}  // namespace tenun::fn
