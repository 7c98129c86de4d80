#include "tenun/ops/elementwise.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

using Real = double (*)(double);
using Real2 = double (*)(double, double);

std::vector<Tensor> reference1(const OpArgs& args, const std::function<double(double)>& f) {
  auto v = doubles(args.tensor("x"));
  for (double& x : v) x = f(x);
  return {f64_tensor(v, args.tensor("x").shape())};
}
std::vector<Tensor> reference2(const OpArgs& args, const std::function<double(double, double)>& f) {
  const Tensor &a = args.tensor("a"), &b = args.tensor("b");
  const Shape shape = broadcast_shapes(a.shape(), b.shape(), "reference");
  auto x = doubles(a.expand(shape));
  const auto y = doubles(b.expand(shape));
  for (size_t i = 0; i < x.size(); ++i) x[i] = f(x[i], y[i]);
  return {f64_tensor(x, shape)};
}

// Among many values some lie on or beside a step: there the finite differences are skipped.
std::vector<OpCase> shapes1(Fill fill, double scale, bool steps) {
  return {{"plain", {{{5, 7}, fill}}, {}, scale},
          {"scalar", {{{}, fill}}, {}, scale},
          {"empty", {{{3, 0}, fill}}, {}, scale},
          {"size_one", {{{1, 4, 1}, fill}}, {}, scale},
          {"pieces", {{{3, 1, 1400}, fill}}, {}, scale, !steps}};
}
std::vector<OpCase> shapes2(Fill a, Fill b, bool steps) {
  return {{"plain", {{{3, 4}, a}, {{3, 4}, b}}},
          {"channels", {{{2, 3, 5}, a}, {{5}, b}}},
          {"tokens", {{{2, 3, 5}, a}, {{2, 1, 5}, b}}},
          {"rows", {{{2, 3, 5}, a}, {{3, 1}, b}}},
          {"outer", {{{4, 1}, a}, {{1, 3}, b}}},
          {"left_smaller", {{{5}, a}, {{2, 3, 5}, b}}},
          {"scalar", {{{}, a}, {{2, 3}, b}}},
          {"empty", {{{0, 3}, a}, {{3}, b}}},
          {"pieces", {{{2, 1300}, a}, {{1300}, b}}, {}, 1, !steps}};
}

void add_unary(OpTable& t, const char* name, const char* summary, Var (*f)(const Var&), Real ref,
               Fill fill = Fill::normal, double scale = 1, bool steps = false) {
  t.add({.name = name,
         .summary = summary,
         .inputs = {{"x"}},
         .outputs = {"y"},
         .call = [f](const OpArgs& a) { return one(f(a["x"])); },
         .reference = [ref](const OpArgs& a) { return reference1(a, ref); },
         .cases = shapes1(fill, scale, steps)});
}
void add_binary(OpTable& t, const char* name, const char* summary, Var (*f)(const Var&, const Var&),
                Real2 ref, Fill a = Fill::normal, Fill b = Fill::normal, bool steps = false) {
  t.add({.name = name,
         .summary = summary,
         .inputs = {{"a"}, {"b"}},
         .outputs = {"y"},
         .call = [f](const OpArgs& x) { return one(f(x["a"], x["b"])); },
         .reference = [ref](const OpArgs& x) { return reference2(x, ref); },
         .cases = shapes2(a, b, steps)});
}
void add_compare(OpTable& t, const char* name, const char* summary,
                 Var (*f)(const Var&, const Var&), Real2 ref) {
  t.add({.name = name,
         .summary = summary,
         .inputs = {{"a"}, {"b"}},
         .outputs = {"y"},
         .call = [f](const OpArgs& x) { return one(f(x["a"], x["b"])); },
         .reference = [ref](const OpArgs& x) { return reference2(x, ref); },
         .cases = {{"plain", {{3, 4}, {3, 4}}},
                   {"ties", {{{6, 5}, Fill::index, 3}, {{5}, Fill::index, 3}}},
                   {"flags", {{{4, 1}, Fill::flags}, {{1, 6}, Fill::flags}}},
                   {"empty", {{0, 2}, {2}}}},
         .differentiable = false});
}
// Ops of a tensor and one number, which is the attribute `value`.
void add_scalar(OpTable& t, const char* name, const char* summary, Var (*f)(const Var&, double),
                Real2 ref, const std::vector<double>& values, Fill fill = Fill::normal) {
  std::vector<OpCase> cases;
  for (double v : values)
    cases.push_back({"value_" + std::to_string(v), {{{3, 5}, fill}}, {{"value", v}}});
  t.add({.name = name,
         .summary = summary,
         .inputs = {{"x"}},
         .attrs = {{"value", "", "the number"}},
         .outputs = {"y"},
         .call = [f](const OpArgs& a) { return one(f(a["x"], a.attrs.real("value"))); },
         .reference =
             [ref](const OpArgs& a) {
               return reference1(a, [&](double x) { return ref(x, a.attrs.real("value")); });
             },
         .cases = cases});
}

double gelu_erf(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double gelu_tanh(double x) {
  const double c = std::sqrt(2 / std::acos(-1.0));
  return 0.5 * x * (1 + std::tanh(c * (x + 0.044715 * x * x * x)));
}
double logistic(double x) { return 1 / (1 + std::exp(-x)); }

void add_arithmetic(OpTable& t) {
  add_binary(t, "add", "a + b", add, [](double a, double b) { return a + b; });
  add_binary(t, "sub", "a - b", sub, [](double a, double b) { return a - b; });
  add_binary(t, "mul", "a b", mul, [](double a, double b) { return a * b; });
  add_binary(
      t, "div", "a / b", div, [](double a, double b) { return a / b; }, Fill::normal,
      Fill::off_zero);
  add_binary(
      t, "maximum", "the larger of a and b", maximum,
      [](double a, double b) { return a > b ? a : b; }, Fill::distinct, Fill::normal, true);
  add_binary(
      t, "minimum", "the smaller of a and b", minimum,
      [](double a, double b) { return a < b ? a : b; }, Fill::distinct, Fill::normal, true);
  add_binary(
      t, "pow", "a to the power b", pow, [](double a, double b) { return std::pow(a, b); },
      Fill::positive);
  add_scalar(t, "add_scalar", "x + value", add, [](double x, double s) { return x + s; },
             {0.5, -3});
  add_scalar(t, "sub_scalar", "x - value", sub, [](double x, double s) { return x - s; }, {0.5});
  add_scalar(
      t, "rsub_scalar", "value - x", [](const Var& x, double s) { return s - x; },
      [](double x, double s) { return s - x; }, {1, -0.25});
  add_scalar(t, "mul_scalar", "x value", mul, [](double x, double s) { return x * s; },
             {2, 0, -0.3});
  add_scalar(t, "div_scalar", "x / value", div, [](double x, double s) { return x / s; },
             {3, -0.7});
  add_scalar(
      t, "rdiv_scalar", "value / x", [](const Var& x, double s) { return s / x; },
      [](double x, double s) { return s / x; }, {1, -2}, Fill::off_zero);
  add_scalar(
      t, "pow_scalar", "x to the power value", pow,
      [](double x, double s) { return std::pow(x, s); }, {2, 3, 0.5, -0.5, -1, 0, 2.5, -1.5},
      Fill::positive);
}

void add_functions(OpTable& t) {
  add_unary(t, "neg", "-x", neg, [](double x) { return -x; });
  add_unary(
      t, "abs", "absolute value", abs, [](double x) { return std::abs(x); }, Fill::off_zero);
  add_unary(
      t, "exp", "e^x", exp, [](double x) { return std::exp(x); }, Fill::normal);
  add_unary(
      t, "log", "natural logarithm", log, [](double x) { return std::log(x); }, Fill::positive);
  add_unary(
      t, "log1p", "log(1 + x)", log1p, [](double x) { return std::log1p(x); }, Fill::unit);
  add_unary(
      t, "sqrt", "square root", sqrt, [](double x) { return std::sqrt(x); }, Fill::positive);
  add_unary(
      t, "rsqrt", "1 / sqrt(x)", rsqrt, [](double x) { return 1 / std::sqrt(x); }, Fill::positive);
  add_unary(t, "square", "x^2", square, [](double x) { return x * x; });
  add_unary(
      t, "reciprocal", "1 / x", reciprocal, [](double x) { return 1 / x; }, Fill::off_zero);
  add_unary(t, "sin", "sine", sin, [](double x) { return std::sin(x); });
  add_unary(t, "cos", "cosine", cos, [](double x) { return std::cos(x); });
  add_unary(
      t, "tan", "tangent", tan, [](double x) { return std::tan(x); }, Fill::unit);
  add_unary(
      t, "tanh", "hyperbolic tangent", tanh, [](double x) { return std::tanh(x); }, Fill::normal,
      2);
  add_unary(t, "sigmoid", "1 / (1 + e^-x)", sigmoid, logistic, Fill::normal, 3);
  add_unary(
      t, "silu", "x sigmoid(x)", silu, [](double x) { return x * logistic(x); }, Fill::normal, 3);
  add_unary(
      t, "relu", "max(x, 0)", relu, [](double x) { return x > 0 ? x : 0; }, Fill::off_zero);
  add_unary(
      t, "softplus", "log(1 + e^x)", softplus,
      [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }, Fill::normal,
      5);
  t.add({.name = "gelu",
         .summary = "x times the normal distribution function",
         .inputs = {{"x"}},
         .attrs = {{"approximate", "none", "none (erf) or tanh"}},
         .outputs = {"y"},
         .call =
             [](const OpArgs& a) {
               return one(gelu(a["x"], gelu_from_name(a.attrs.text("approximate", "none"))));
             },
         .reference =
             [](const OpArgs& a) {
               return reference1(
                   a, a.attrs.text("approximate", "none") == "tanh" ? gelu_tanh : gelu_erf);
             },
         .cases = {{"erf", {{5, 7}}, {{"approximate", "none"}}},
                   {"tanh", {{5, 7}}, {{"approximate", "tanh"}}},
                   {"erf_wide", {{40, 33}}, {{"approximate", "none"}}, 3},
                   {"tanh_wide", {{40, 33}}, {{"approximate", "tanh"}}, 3},
                   {"empty", {{0}}},
                   {"scalar", {{}}}}});
  t.add({.name = "elu",
         .summary = "x above 0, alpha (e^x - 1) below",
         .inputs = {{"x"}},
         .attrs = {{"alpha", "1", "the negative limit"}},
         .outputs = {"y"},
         .call = [](const OpArgs& a) { return one(elu(a["x"], a.attrs.real("alpha", 1))); },
         .reference =
             [](const OpArgs& a) {
               const double alpha = a.attrs.real("alpha", 1);
               return reference1(a, [=](double x) { return x > 0 ? x : alpha * std::expm1(x); });
             },
         .cases = {{"one", {{{6, 7}, Fill::off_zero}}},
                   {"alpha", {{{3, 5}, Fill::off_zero}}, {{"alpha", 0.3}}},
                   {"negative_alpha", {{{3, 5}, Fill::off_zero}}, {{"alpha", -1.5}}}}});
  t.add({.name = "clamp",
         .summary = "x into [lo, hi]",
         .inputs = {{"x"}},
         .attrs = {{"lo", "-inf", "lower bound"}, {"hi", "inf", "upper bound"}},
         .outputs = {"y"},
         .call =
             [](const OpArgs& a) {
               return one(
                   clamp(a["x"], a.attrs.real("lo", -INFINITY), a.attrs.real("hi", INFINITY)));
             },
         .reference =
             [](const OpArgs& a) {
               const double lo = a.attrs.real("lo", -INFINITY), hi = a.attrs.real("hi", INFINITY);
               return reference1(a, [=](double x) { return std::min(std::max(x, lo), hi); });
             },
         .cases = {{"both", {{{6, 7}, Fill::distinct}}, {{"lo", -1.1}, {"hi", 0.9}}},
                   {"low", {{{6, 7}, Fill::distinct}}, {{"lo", 0.11}}},
                   {"high", {{{6, 7}, Fill::distinct}}, {{"hi", 0.11}}},
                   {"integers", {{{9}, Fill::index, 9}}, {{"lo", 2}, {"hi", 5}}}}});
}

void add_steps(OpTable& t) {
  add_unary(
      t, "sign", "-1, 0 or 1", sign, [](double x) { return x > 0   ? 1.0
                                                           : x < 0 ? -1.0
                                                                   : 0.0; },
      Fill::off_zero);
  add_unary(
      t, "floor", "the largest whole number not above x", floor,
      [](double x) { return std::floor(x); }, Fill::normal, 4, true);
  add_unary(
      t, "ceil", "the smallest whole number not below x", ceil,
      [](double x) { return std::ceil(x); }, Fill::normal, 4, true);
  add_unary(
      t, "round", "the nearest whole number, halves to even", round,
      [](double x) { return std::nearbyint(x); }, Fill::normal, 4, true);
  add_compare(t, "eq", "a == b", eq, [](double a, double b) { return double(a == b); });
  add_compare(t, "ne", "a != b", ne, [](double a, double b) { return double(a != b); });
  add_compare(t, "lt", "a < b", lt, [](double a, double b) { return double(a < b); });
  add_compare(t, "le", "a <= b", le, [](double a, double b) { return double(a <= b); });
  add_compare(t, "gt", "a > b", gt, [](double a, double b) { return double(a > b); });
  add_compare(t, "ge", "a >= b", ge, [](double a, double b) { return double(a >= b); });
  add_compare(t, "logical_and", "a and b", logical_and,
              [](double a, double b) { return double(a != 0 && b != 0); });
  add_compare(t, "logical_or", "a or b", logical_or,
              [](double a, double b) { return double(a != 0 || b != 0); });
  add_compare(t, "logical_xor", "a or b, not both", logical_xor,
              [](double a, double b) { return double((a != 0) != (b != 0)); });
  add_unary(t, "logical_not", "not x", logical_not, [](double x) { return double(x == 0); });
  add_unary(t, "isnan", "is x NaN?", isnan, [](double x) { return double(std::isnan(x)); });
  add_unary(t, "isfinite", "is x neither NaN nor infinite?", isfinite,
            [](double x) { return double(std::isfinite(x)); });
}

std::vector<Tensor> where_reference(const OpArgs& args) {
  const Tensor &c = args.tensor("cond"), &a = args.tensor("a"), &b = args.tensor("b");
  const Shape shape =
      broadcast_shapes(broadcast_shapes(c.shape(), a.shape(), "where"), b.shape(), "where");
  const auto cv = doubles(c.expand(shape)), bv = doubles(b.expand(shape));
  auto y = doubles(a.expand(shape));
  for (size_t i = 0; i < y.size(); ++i)
    if (cv[i] == 0) y[i] = bv[i];
  return {f64_tensor(y, shape)};
}

}  // namespace

void add_elementwise_ops(OpTable& table) {
  add_arithmetic(table);
  add_functions(table);
  add_steps(table);
  table.add({.name = "where",
             .summary = "a where cond holds, b elsewhere",
             .inputs = {{"cond", false, true}, {"a"}, {"b"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(where(a["cond"], a["a"], a["b"])); },
             .reference = where_reference,
             .cases = {{"plain", {{{3, 4}, Fill::flags}, {3, 4}, {3, 4}}},
                       {"broadcast", {{{4, 1}, Fill::flags}, {3, 4, 5}, {5}}},
                       {"wide_condition", {{{3, 4, 5}, Fill::flags}, {}, {4, 1}}},
                       {"many_values", {{{5, 3}, Fill::index, 3}, {5, 3}, {1, 3}}},
                       {"empty", {{{0, 2}, Fill::flags}, {2}, {1, 1}}}}});
}

}  // namespace tenun
