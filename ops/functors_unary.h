// Elementwise functions of one argument and their derivatives; see ops/functors.h. The f32 versions
// of exp, log, tanh, erf, sin, cos and sigmoid are the polynomials of core/math.h, so loops over
// them are vectorised and CPU and CUDA agree. `wants_f32`: under Autocast, 16-bit inputs are
// widened first.
#pragma once
#include "tenun/ops/functors.h"

namespace tenun::fn {

struct Neg : OneArgument {
  static constexpr const char* name = "neg";
  static constexpr bool integers = true;
  static constexpr Reads reads = Reads::nothing;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return -x;
  }
  template <class T>
  TENUN_HD T grad(T dy) const {
    return -dy;
  }
};
struct Abs : OneArgument {
  static constexpr const char* name = "abs";
  static constexpr bool integers = true;
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x < 0 ? -x : x == 0 ? T(0) : x;  // -0 becomes 0
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return x > 0 ? dy : x < 0 ? -dy : T(0);
  }
};
struct Exp : OneArgument {
  static constexpr const char* name = "exp";
  static constexpr bool wants_f32 = true;
  static constexpr Reads reads = Reads::output;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return math::exp(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T y) const {
    return dy * y;
  }
};
struct Log : OneArgument {
  static constexpr const char* name = "log";
  static constexpr bool wants_f32 = true;
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return math::log(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return dy / x;
  }
};
struct Log1p : OneArgument {
  static constexpr const char* name = "log1p";
  static constexpr bool wants_f32 = true;
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return math::log1p(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return dy / (1 + x);
  }
};
struct Sqrt : OneArgument {
  static constexpr const char* name = "sqrt";
  static constexpr Reads reads = Reads::output;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return std::sqrt(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T y) const {
    return dy / (2 * y);
  }
};
struct Rsqrt : OneArgument {
  static constexpr const char* name = "rsqrt";
  static constexpr bool wants_f32 = true;
  static constexpr Reads reads = Reads::output;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return 1 / std::sqrt(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T y) const {
    return T(-0.5) * dy * y * y * y;
  }
};
struct Square : OneArgument {
  static constexpr const char* name = "square";
  static constexpr bool integers = true;
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x * x;
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return 2 * x * dy;
  }
};
struct Reciprocal : OneArgument {
  static constexpr const char* name = "reciprocal";
  static constexpr bool wants_f32 = true;
  static constexpr Reads reads = Reads::output;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return 1 / x;
  }
  template <class T>
  TENUN_HD T grad(T dy, T y) const {
    return -dy * y * y;
  }
};
struct Sin : OneArgument {
  static constexpr const char* name = "sin";
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return math::sin(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return dy * math::cos(x);
  }
};
struct Cos : OneArgument {
  static constexpr const char* name = "cos";
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return math::cos(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return -dy * math::sin(x);
  }
};
struct Tan : OneArgument {
  static constexpr const char* name = "tan";
  static constexpr Reads reads = Reads::output;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return std::tan(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T y) const {
    return dy * (1 + y * y);
  }
};
struct Tanh : OneArgument {
  static constexpr const char* name = "tanh";
  static constexpr Reads reads = Reads::output;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return math::tanh(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T y) const {
    return dy * (1 - y * y);
  }
};
struct Sigmoid : OneArgument {
  static constexpr const char* name = "sigmoid";
  static constexpr Reads reads = Reads::output;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return math::sigmoid(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T y) const {
    return dy * y * (1 - y);
  }
};
struct Silu : OneArgument {
  static constexpr const char* name = "silu";
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x * math::sigmoid(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    const T s = math::sigmoid(x);
    return dy * s * (1 + x * (1 - s));
  }
};
/// x Phi(x), Phi the normal distribution function.
struct Gelu : OneArgument {
  static constexpr const char* name = "gelu";
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return T(0.5) * x * (1 + math::erf(x * T(0.70710678118654752)));
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    const T cdf = T(0.5) * (1 + math::erf(x * T(0.70710678118654752)));
    return dy * (cdf + x * T(0.39894228040143268) * math::exp_below_zero(T(-0.5) * x * x));
  }
};
/// 0.5 x (1 + tanh(u)) = x sigmoid(2 u) with u = sqrt(2/pi) (x + 0.044715 x^3).
struct GeluTanh : OneArgument {
  static constexpr const char* name = "gelu";
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x * math::sigmoid(x * (T(1.5957691216057308) + T(0.071354816272600246) * x * x));
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    const T z = x * x;
    const T s = math::sigmoid(x * (T(1.5957691216057308) + T(0.071354816272600246) * z));
    return dy * s * (1 + x * (1 - s) * (T(1.5957691216057308) + T(0.21406444881780074) * z));
  }
};
struct Relu : OneArgument {
  static constexpr const char* name = "relu";
  static constexpr bool integers = true;
  static constexpr Reads reads = Reads::output;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x <= 0 ? T(0) : x;
  }
  template <class T>
  TENUN_HD T grad(T dy, T y) const {
    return y <= 0 ? T(0) : dy;
  }
};
struct Elu : OneArgument {
  static constexpr const char* name = "elu";
  static constexpr Reads reads = Reads::input;
  double alpha;
  explicit Elu(double a) : alpha(a) {}
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x > 0 ? x : static_cast<T>(alpha) * math::expm1(x);
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return x > 0 ? dy : dy * static_cast<T>(alpha) * math::exp(x);
  }
};
/// log(1 + e^x) without overflow.
struct Softplus : OneArgument {
  static constexpr const char* name = "softplus";
  static constexpr bool wants_f32 = true;
  static constexpr Reads reads = Reads::input;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return (x > 0 ? x : x == x ? T(0) : x) + math::log1p(math::exp(x > 0 ? -x : x));
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return dy * math::sigmoid(x);
  }
};

// Steps: constant almost everywhere, so their results are constants for the tape.
struct Sign : OneArgument {
  static constexpr const char* name = "sign";
  static constexpr bool integers = true;
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x > 0 ? T(1) : x < 0 ? T(-1) : x;
  }
};
struct Floor : OneArgument {
  static constexpr const char* name = "floor";
  template <class T>
  TENUN_HD T operator()(T x) const {
    return std::floor(x);
  }
};
struct Ceil : OneArgument {
  static constexpr const char* name = "ceil";
  template <class T>
  TENUN_HD T operator()(T x) const {
    return std::ceil(x);
  }
};
/// To the nearest whole number, halves to the even one.
struct Round : OneArgument {
  static constexpr const char* name = "round";
  template <class T>
  TENUN_HD T operator()(T x) const {
    return std::nearbyint(x);
  }
};

// ---- the functors of the backward passes

/// dx of a unary functor, from dy and what F reads.
template <class F>
struct Grad {
  static constexpr const char* name = F::name;
  static constexpr int arity = F::reads == Reads::nothing ? 1 : 2;
  F f;
  template <class... T>
  TENUN_HD auto operator()(T... v) const {
    return f.grad(v...);
  }
};
/// The gradient of the left argument, from dy and what F reads: the other side, one side, or both.
template <class F>
struct LeftGrad {
  static constexpr const char* name = F::name;
  static constexpr int arity = F::left_reads == Side::none   ? 1
                               : F::left_reads == Side::both ? 3
                                                             : 2;
  F f;
  template <class... T>
  TENUN_HD auto operator()(T... v) const {
    return f.left(v...);
  }
};
template <class F>
struct RightGrad {
  static constexpr const char* name = F::name;
  static constexpr int arity = F::right_reads == Side::none   ? 1
                               : F::right_reads == Side::both ? 3
                                                              : 2;
  F f;
  template <class... T>
  TENUN_HD auto operator()(T... v) const {
    return f.right(v...);
  }
};

}  // namespace tenun::fn
