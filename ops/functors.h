// The mathematics of the elementwise ops, once for host and device. A functor of one argument says
// what its derivative reads (nothing, the input or the output); one of two arguments says the same
// for each side. ops/elementwise.cc wraps them into ops, a backend instantiates its kernels from
// them: map<fn::Exp>, map<fn::Grad<fn::Exp>>, map<fn::LeftGrad<fn::Mul>>.
//
//   struct Square {                                   // y = x^2, dx = 2 x dy
//     static constexpr const char* name = "square";
//     static constexpr int arity = 1;
//     static constexpr Reads reads = Reads::input;
//     template <class T> TENUN_HD T operator()(T x) const { return x * x; }
//     template <class T> TENUN_HD T grad(T dy, T x) const { return 2 * x * dy; }
//   };
//
// At kinks the gradients are PyTorch's: relu 0 at 0, abs 0 at 0, clamp 1 on its bounds, maximum and
// minimum half to each side in a tie. `integers` marks functors that are exact on whole numbers.
#pragma once
#include "tenun/core/math.h"

namespace tenun::fn {

enum class Reads { nothing, input, output };

struct OneArgument {
  static constexpr int arity = 1;
};
struct TwoArguments {
  static constexpr int arity = 2;
  static constexpr bool integers = true;
};
// What a side's gradient reads besides dy.
enum class Side { none, left, right, both };

// ---- arithmetic of two tensors

struct Add : TwoArguments {
  static constexpr const char* name = "add";
  static constexpr Side left_reads = Side::none, right_reads = Side::none;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return a + b;
  }
};
struct Sub : TwoArguments {
  static constexpr const char* name = "sub";
  static constexpr Side left_reads = Side::none, right_reads = Side::none;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return a - b;
  }
  template <class T>
  TENUN_HD T right(T dy) const {
    return -dy;
  }
};
struct Mul : TwoArguments {
  static constexpr const char* name = "mul";
  static constexpr Side left_reads = Side::right, right_reads = Side::left;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return a * b;
  }
  template <class T>
  TENUN_HD T left(T dy, T b) const {
    return dy * b;
  }
  template <class T>
  TENUN_HD T right(T dy, T a) const {
    return dy * a;
  }
};
struct Div : TwoArguments {
  static constexpr const char* name = "div";
  static constexpr bool integers = false;
  static constexpr Side left_reads = Side::right, right_reads = Side::both;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return a / b;
  }
  template <class T>
  TENUN_HD T left(T dy, T b) const {
    return dy / b;
  }
  template <class T>
  TENUN_HD T right(T dy, T a, T b) const {
    return -dy * (a / b) / b;
  }
};
// NaN on either side gives NaN. The gradient of a tie is shared.
struct Maximum : TwoArguments {
  static constexpr const char* name = "maximum";
  static constexpr Side left_reads = Side::both, right_reads = Side::both;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
  template <class T>
  TENUN_HD T left(T dy, T a, T b) const {
    return a == b ? dy / 2 : a < b ? T(0) : dy;
  }
  template <class T>
  TENUN_HD T right(T dy, T a, T b) const {
    return a == b ? dy / 2 : b < a ? T(0) : dy;
  }
};
struct Minimum : TwoArguments {
  static constexpr const char* name = "minimum";
  static constexpr Side left_reads = Side::both, right_reads = Side::both;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
  template <class T>
  TENUN_HD T left(T dy, T a, T b) const {
    return a == b ? dy / 2 : a > b ? T(0) : dy;
  }
  template <class T>
  TENUN_HD T right(T dy, T a, T b) const {
    return a == b ? dy / 2 : b > a ? T(0) : dy;
  }
};
struct Pow : TwoArguments {
  static constexpr const char* name = "pow";
  static constexpr bool integers = false;
  static constexpr Side left_reads = Side::both, right_reads = Side::both;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return std::pow(a, b);
  }
  template <class T>
  TENUN_HD T left(T dy, T a, T b) const {
    return b == 0 ? T(0) : dy * b * std::pow(a, b - 1);
  }
  template <class T>
  TENUN_HD T right(T dy, T a, T b) const {
    return a == 0 && b >= 0 ? T(0) : dy * std::pow(a, b) * std::log(a);
  }
};

// ---- comparisons and logic: 1 or 0, never a gradient

template <class Op>
struct Compare : TwoArguments {
  static constexpr const char* name = Op::name;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return Op::test(a, b) ? T(1) : T(0);
  }
};
struct Eq {
  static constexpr const char* name = "eq";
  template <class T>
  TENUN_HD static bool test(T a, T b) {
    return a == b;
  }
};
struct Ne {
  static constexpr const char* name = "ne";
  template <class T>
  TENUN_HD static bool test(T a, T b) {
    return a != b;
  }
};
struct Lt {
  static constexpr const char* name = "lt";
  template <class T>
  TENUN_HD static bool test(T a, T b) {
    return a < b;
  }
};
struct Le {
  static constexpr const char* name = "le";
  template <class T>
  TENUN_HD static bool test(T a, T b) {
    return a <= b;
  }
};
struct And {
  static constexpr const char* name = "logical_and";
  template <class T>
  TENUN_HD static bool test(T a, T b) {
    return a != 0 && b != 0;
  }
};
struct Or {
  static constexpr const char* name = "logical_or";
  template <class T>
  TENUN_HD static bool test(T a, T b) {
    return a != 0 || b != 0;
  }
};
struct Xor {
  static constexpr const char* name = "logical_xor";
  template <class T>
  TENUN_HD static bool test(T a, T b) {
    return (a != 0) != (b != 0);
  }
};

template <class Op>
struct Test : OneArgument {
  static constexpr const char* name = Op::name;
  static constexpr bool integers = true;
  template <class T>
  TENUN_HD T operator()(T a) const {
    return Op::test(a) ? T(1) : T(0);
  }
};
struct Not {
  static constexpr const char* name = "logical_not";
  template <class T>
  TENUN_HD static bool test(T a) {
    return a == 0;
  }
};
struct IsNan {
  static constexpr const char* name = "isnan";
  template <class T>
  TENUN_HD static bool test(T a) {
    return a != a;
  }
};
struct IsFinite {
  static constexpr const char* name = "isfinite";
  template <class T>
  TENUN_HD static bool test(T a) {
    return a - a == 0;
  }
};

struct Where {
  static constexpr const char* name = "where";
  static constexpr int arity = 3;
  static constexpr bool integers = true;
  template <class T>
  TENUN_HD T operator()(T c, T a, T b) const {
    return c != 0 ? a : b;
  }
};
/// The gradient of one branch of where(): dy where the condition says so, else 0.
struct WhereGrad {
  static constexpr const char* name = "where";
  static constexpr int arity = 2;
  bool when = true;
  template <class T>
  TENUN_HD T operator()(T c, T dy) const {
    return (c != 0) == when ? dy : T(0);
  }
};

// ---- with a number

struct AddScalar : OneArgument {
  static constexpr const char* name = "add";
  static constexpr bool integers = true;
  static constexpr Reads reads = Reads::nothing;
  double s;
  explicit AddScalar(double v) : s(v) {}
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x + static_cast<T>(s);
  }
};
struct SubFromScalar : OneArgument {
  static constexpr const char* name = "sub";
  static constexpr bool integers = true;
  static constexpr Reads reads = Reads::nothing;
  double s;
  explicit SubFromScalar(double v) : s(v) {}
  template <class T>
  TENUN_HD T operator()(T x) const {
    return static_cast<T>(s) - x;
  }
  template <class T>
  TENUN_HD T grad(T dy) const {
    return -dy;
  }
};
struct MulScalar : OneArgument {
  static constexpr const char* name = "mul";
  static constexpr bool integers = true;
  static constexpr Reads reads = Reads::nothing;
  double s;
  explicit MulScalar(double v) : s(v) {}
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x * static_cast<T>(s);
  }
  template <class T>
  TENUN_HD T grad(T dy) const {
    return dy * static_cast<T>(s);
  }
};
struct DivScalar : OneArgument {
  static constexpr const char* name = "div";
  static constexpr Reads reads = Reads::nothing;
  double s;
  explicit DivScalar(double v) : s(v) {}
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x / static_cast<T>(s);
  }
  template <class T>
  TENUN_HD T grad(T dy) const {
    return dy / static_cast<T>(s);
  }
};
struct ScalarDiv : OneArgument {
  static constexpr const char* name = "div";
  static constexpr Reads reads = Reads::input;
  double s;
  explicit ScalarDiv(double v) : s(v) {}
  template <class T>
  TENUN_HD T operator()(T x) const {
    return static_cast<T>(s) / x;
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return -dy * (static_cast<T>(s) / x) / x;
  }
};
struct PowScalar : OneArgument {
  static constexpr const char* name = "pow";
  static constexpr bool wants_f32 = true;
  static constexpr Reads reads = Reads::input;
  double p;
  explicit PowScalar(double v) : p(v) {}
  template <class T>
  TENUN_HD T operator()(T x) const {
    return std::pow(x, static_cast<T>(p));
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return p == 0 ? T(0) : dy * static_cast<T>(p) * std::pow(x, static_cast<T>(p - 1));
  }
};
/// Into [lo, hi]; NaN stays. The gradient passes on the bounds too.
struct Clamp : OneArgument {
  static constexpr const char* name = "clamp";
  static constexpr bool integers = true;
  static constexpr Reads reads = Reads::input;
  double lo, hi;
  Clamp(double l, double h) : lo(l), hi(h) {}
  template <class T>
  TENUN_HD T operator()(T x) const {
    return x < static_cast<T>(lo)   ? static_cast<T>(lo)
           : x > static_cast<T>(hi) ? static_cast<T>(hi)
                                    : x;
  }
  template <class T>
  TENUN_HD T grad(T dy, T x) const {
    return x >= static_cast<T>(lo) && x <= static_cast<T>(hi) ? dy : T(0);
  }
};

}  // namespace tenun::fn
