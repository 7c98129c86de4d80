// Elementwise functors of the norm, modulation and loss families, one text for host and device.
#pragma once
#include "tenun/core/math.h"
#include "tenun/ops/map.h"

namespace tenun::fn {

/// factor a
struct Scaled {
  static constexpr const char* name = "scaled";
  static constexpr int arity = 1;
  double factor = 1;
  template <class T>
  TENUN_HD T operator()(T a) const {
    return static_cast<T>(factor) * a;
  }
};
/// a + number
struct AddNumber {
  static constexpr const char* name = "add_number";
  static constexpr int arity = 1;
  double number = 0;
  template <class T>
  TENUN_HD T operator()(T a) const {
    return a + static_cast<T>(number);
  }
};
/// factor a b
struct TimesBy {
  static constexpr const char* name = "times_by";
  static constexpr int arity = 2;
  double factor = 1;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return static_cast<T>(factor) * a * b;
  }
};
/// a (1 + scale)
struct ScaleBy {
  static constexpr const char* name = "scale_by";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T a, T scale) const {
    return a * (T(1) + scale);
  }
};
/// x (1 + scale) + shift
struct ScaleShift {
  static constexpr const char* name = "scale_shift";
  static constexpr int arity = 3;
  template <class T>
  TENUN_HD T operator()(T x, T scale, T shift) const {
    return x * (T(1) + scale) + shift;
  }
};
/// h + gate y
struct GatedSum {
  static constexpr const char* name = "gated_sum";
  static constexpr int arity = 3;
  template <class T>
  TENUN_HD T operator()(T h, T gate, T y) const {
    return h + gate * y;
  }
};
/// (x - centre) gain + bias
struct CentredAffine {
  static constexpr const char* name = "centred_affine";
  static constexpr int arity = 4;
  template <class T>
  TENUN_HD T operator()(T x, T centre, T gain, T bias) const {
    return (x - centre) * gain + bias;
  }
};
/// dy (x - centre) gain
struct CentredProduct {
  static constexpr const char* name = "centred_product";
  static constexpr int arity = 4;
  template <class T>
  TENUN_HD T operator()(T dy, T x, T centre, T gain) const {
    return dy * ((x - centre) * gain);
  }
};
/// 1 / sqrt(x + eps)
struct InverseRoot {
  static constexpr const char* name = "inverse_root";
  static constexpr int arity = 1;
  double eps = 0;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return T(1) / std::sqrt(x + static_cast<T>(eps));
  }
};

/// (p - t)^2
struct SquaredError {
  static constexpr const char* name = "mse_loss";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T p, T t) const {
    return (p - t) * (p - t);
  }
};
/// 2 (p - t) dy
struct SquaredErrorGrad {
  static constexpr const char* name = "mse_loss_backward";
  static constexpr int arity = 3;
  template <class T>
  TENUN_HD T operator()(T p, T t, T dy) const {
    return T(2) * (p - t) * dy;
  }
};
/// |p - t|
struct AbsoluteError {
  static constexpr const char* name = "l1_loss";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T p, T t) const {
    return p < t ? t - p : p - t;
  }
};
/// sign(p - t) dy
struct AbsoluteErrorGrad {
  static constexpr const char* name = "l1_loss_backward";
  static constexpr int arity = 3;
  template <class T>
  TENUN_HD T operator()(T p, T t, T dy) const {
    return p > t ? dy : p < t ? -dy : T(0);
  }
};
/// cos(t f), sin(t f) or 0 where kind is 0, 1 or 2
struct Wave {
  static constexpr const char* name = "wave";
  static constexpr int arity = 3;
  template <class T>
  TENUN_HD T operator()(T t, T f, T kind) const {
    return kind == T(0) ? std::cos(t * f) : kind == T(1) ? std::sin(t * f) : T(0);
  }
};
/// dy times the slope of that in t
struct WaveGrad {
  static constexpr const char* name = "wave_backward";
  static constexpr int arity = 4;
  template <class T>
  TENUN_HD T operator()(T dy, T t, T f, T kind) const {
    return kind == T(0)   ? -dy * f * std::sin(t * f)
           : kind == T(1) ? dy * f * std::cos(t * f)
                          : T(0);
  }
};

}  // namespace tenun::fn
