// Elementwise ops. Arguments broadcast as in numpy; the result is contiguous.
//   Var y = 2 * x + where(x > ..., a, b);      y = gelu(x, Gelu::tanh);     y = clamp(x, 0, 1);
// Dtypes: floats of different width give the wider one; a float and an integer the float; two
// integers the wider integer (f32 for division and pow). Integers work, exactly, for arithmetic,
// comparison, clamp and where; functions like exp need a floating tensor (DTypeError). Inside,
// 16-bit types are computed in f32. Numbers (double) take the dtype of the tensor.
// Gradients: sums over broadcast axes; at kinks PyTorch's choice (relu and abs 0 at 0, clamp 1 on
// its bounds, half to each side where maximum or minimum tie). Comparisons, logic, sign, floor,
// ceil and round give constants. Saved for backward: what ops/functors.h says, add and sub nothing.
// Errors: ShapeError (no broadcast), DTypeError, ValueError (a fraction for an integer tensor).
#pragma once
#include <string_view>

#include "tenun/autograd/var.h"

namespace tenun {

[[nodiscard]] Var add(const Var& a, const Var& b);
[[nodiscard]] Var sub(const Var& a, const Var& b);
[[nodiscard]] Var mul(const Var& a, const Var& b);
[[nodiscard]] Var div(const Var& a, const Var& b);
[[nodiscard]] Var maximum(const Var& a, const Var& b);  ///< NaN if either is
[[nodiscard]] Var minimum(const Var& a, const Var& b);
[[nodiscard]] Var pow(const Var& base, const Var& exponent);

[[nodiscard]] Var add(const Var& x, double s);
[[nodiscard]] Var sub(const Var& x, double s);
[[nodiscard]] Var sub(double s, const Var& x);
[[nodiscard]] Var mul(const Var& x, double s);
[[nodiscard]] Var div(const Var& x, double s);
[[nodiscard]] Var div(double s, const Var& x);
[[nodiscard]] Var pow(const Var& x, double exponent);
/// Into [lo, hi]; either may be infinite.
[[nodiscard]] Var clamp(const Var& x, double lo, double hi);

[[nodiscard]] inline Var operator+(const Var& a, const Var& b) { return add(a, b); }
[[nodiscard]] inline Var operator-(const Var& a, const Var& b) { return sub(a, b); }
[[nodiscard]] inline Var operator*(const Var& a, const Var& b) { return mul(a, b); }
[[nodiscard]] inline Var operator/(const Var& a, const Var& b) { return div(a, b); }
[[nodiscard]] inline Var operator+(const Var& x, double s) { return add(x, s); }
[[nodiscard]] inline Var operator+(double s, const Var& x) { return add(x, s); }
[[nodiscard]] inline Var operator-(const Var& x, double s) { return sub(x, s); }
[[nodiscard]] inline Var operator-(double s, const Var& x) { return sub(s, x); }
[[nodiscard]] inline Var operator*(const Var& x, double s) { return mul(x, s); }
[[nodiscard]] inline Var operator*(double s, const Var& x) { return mul(x, s); }
[[nodiscard]] inline Var operator/(const Var& x, double s) { return div(x, s); }
[[nodiscard]] inline Var operator/(double s, const Var& x) { return div(s, x); }

[[nodiscard]] Var neg(const Var& x);
[[nodiscard]] inline Var operator-(const Var& x) { return neg(x); }
[[nodiscard]] Var abs(const Var& x);
[[nodiscard]] Var exp(const Var& x);
[[nodiscard]] Var log(const Var& x);
[[nodiscard]] Var log1p(const Var& x);  ///< log(1 + x), accurate at small x
[[nodiscard]] Var sqrt(const Var& x);
[[nodiscard]] Var rsqrt(const Var& x);  ///< 1 / sqrt(x)
[[nodiscard]] Var square(const Var& x);
[[nodiscard]] Var reciprocal(const Var& x);
[[nodiscard]] Var sin(const Var& x);
[[nodiscard]] Var cos(const Var& x);
[[nodiscard]] Var tan(const Var& x);
[[nodiscard]] Var tanh(const Var& x);
[[nodiscard]] Var sigmoid(const Var& x);
[[nodiscard]] Var silu(const Var& x);  ///< x sigmoid(x)
/// Hendrycks and Gimpel (2016): x times the normal distribution function, by erf or by tanh.
enum class Gelu { none, tanh };
[[nodiscard]] Gelu gelu_from_name(std::string_view name);  ///< "none" or "tanh"; else ValueError
[[nodiscard]] Var gelu(const Var& x, Gelu approximate = Gelu::none);
[[nodiscard]] Var relu(const Var& x);
[[nodiscard]] Var elu(const Var& x, double alpha = 1);
[[nodiscard]] Var softplus(const Var& x);  ///< log(1 + e^x)

[[nodiscard]] Var sign(const Var& x);
[[nodiscard]] Var floor(const Var& x);
[[nodiscard]] Var ceil(const Var& x);
[[nodiscard]] Var round(const Var& x);  ///< halves to even

/// a where cond holds (bool, or an integer that is not 0), b elsewhere.
[[nodiscard]] Var where(const Var& cond, const Var& a, const Var& b);

// Comparisons and logic give bool tensors. Any dtypes; a value counts as true if it is not 0.
[[nodiscard]] Var eq(const Var& a, const Var& b);
[[nodiscard]] Var ne(const Var& a, const Var& b);
[[nodiscard]] Var lt(const Var& a, const Var& b);
[[nodiscard]] Var le(const Var& a, const Var& b);
[[nodiscard]] Var gt(const Var& a, const Var& b);
[[nodiscard]] Var ge(const Var& a, const Var& b);
[[nodiscard]] Var eq(const Var& x, double s);
[[nodiscard]] Var ne(const Var& x, double s);
[[nodiscard]] Var lt(const Var& x, double s);
[[nodiscard]] Var le(const Var& x, double s);
[[nodiscard]] Var gt(const Var& x, double s);
[[nodiscard]] Var ge(const Var& x, double s);
[[nodiscard]] Var logical_and(const Var& a, const Var& b);
[[nodiscard]] Var logical_or(const Var& a, const Var& b);
[[nodiscard]] Var logical_xor(const Var& a, const Var& b);
[[nodiscard]] Var logical_not(const Var& x);
[[nodiscard]] Var isnan(const Var& x);
[[nodiscard]] Var isfinite(const Var& x);

}  // namespace tenun
