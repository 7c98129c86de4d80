#include "tenun/ops/quant.h"

#include <algorithm>
#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

QuantOptions options_of(const Attrs& a) {
  return {.granularity = granularity_from_name(a.text("granularity", "tensor")),
          .block = a.integer("block", 0)};
}

// For every element (row-major) the number of its group, from the definition of the granularities.
std::vector<size_t> groups_of(const Shape& x, const Attrs& a, Shape& scale) {
  const std::string kind = a.text("granularity", "tensor");
  const int64_t block = a.integer("block", 1);
  scale = {};
  for (int i = 0; i + 2 < x.size() && kind != "tensor"; ++i) scale.push_back(x[i]);
  const int64_t n = x.size() >= 2 ? x[x.size() - 2] : 1, d = x.empty() ? 1 : x.back();
  const int64_t count = kind == "block" ? (n + block - 1) / block : kind == "token" ? n : d;
  if (kind != "tensor" && (kind != "token" || x.size() >= 2)) scale.push_back(count);
  std::vector<size_t> group;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const int64_t plane = i / (n * d), t = i / d % n, c = i % d;
    const int64_t inside = kind == "block" ? t / block : kind == "token" ? t : c;
    group.push_back(kind == "tensor" ? 0 : static_cast<size_t>(plane * count + inside));
  }
  return group;
}

double half_to_even(double v) {
  const double f = std::floor(v), rest = v - f;
  if (rest != 0.5) return rest < 0.5 ? f : f + 1;
  return std::fmod(f, 2) == 0 ? f : f + 1;
}

struct Naive {
  Shape shape;
  std::vector<double> q, scale;
};
Naive naive(const Tensor& x, const Attrs& attrs, const std::vector<double>& given) {
  Naive r;
  const auto v = doubles(x);
  const auto group = groups_of(x.shape(), attrs, r.shape);
  r.scale = given;
  if (given.empty()) {
    r.scale.assign(static_cast<size_t>(r.shape.numel()), 0.0);
    for (size_t i = 0; i < v.size(); ++i)
      r.scale[group[i]] = std::max(r.scale[group[i]], std::abs(v[i]) / 127);
  }
  for (size_t i = 0; i < v.size(); ++i) {
    const double s = r.scale[group[i]];
    r.q.push_back(s == 0 ? 0 : std::clamp(half_to_even(v[i] / s), -127.0, 127.0));
  }
  return r;
}

std::vector<Tensor> quantize_reference(const OpArgs& args) {
  const Naive r = naive(args.tensor("x"), args.attrs, {});
  return {f64_tensor(r.q, args.tensor("x").shape()), f64_tensor(r.scale, r.shape)};
}

std::vector<Tensor> fake_reference(const OpArgs& args) {
  const Tensor& x = args.tensor("x");
  Naive r = naive(x, args.attrs, doubles(args.tensor("scale")));
  const auto group = groups_of(x.shape(), args.attrs, r.shape);
  for (size_t i = 0; i < r.q.size(); ++i) r.q[i] *= r.scale[group[i]];
  return {f64_tensor(r.q, x.shape())};
}

// The definition of the gradients, element by element: identity for the dynamic scale, the slopes
// of LSQ for a learned one.
struct Slopes {
  static constexpr const char* name = "fake_quant_slopes";
  Attrs attrs;
  Tensor x{}, scale{};

  Tensor forward(const Ctx&, const Tensor& x_, const Tensor& scale_) {
    x = x_, scale = scale_;
    OpArgs a;
    a.names = {"x", "scale"}, a.values = {x_, scale_}, a.attrs = attrs;
    return fake_reference(a)[0];
  }
  Grads<2> backward(const Ctx&, const Tensor& dy) {
    const auto d = doubles(dy), v = doubles(x), s = doubles(scale);
    if (s.empty()) return {dy, {}};
    Shape shape;
    const auto group = groups_of(x.shape(), attrs, shape);
    std::vector<double> dx(v.size()), ds(s.size());
    std::vector<int64_t> members(s.size());
    for (const size_t g : group) ++members[g];
    const double n = static_cast<double>(*std::max_element(members.begin(), members.end()));
    const double factor = attrs.flag("grad_scale", true) ? 1 / std::sqrt(n * 127) : 1;
    for (size_t i = 0; i < v.size(); ++i) {
      const double u = v[i] / s[group[i]];
      const bool clipped = std::abs(u) > 127;
      dx[i] = clipped ? 0 : d[i];
      ds[group[i]] += d[i] * factor * (clipped ? (u > 0 ? 127 : -127) : half_to_even(u) - u);
    }
    return {f64_tensor(dx, x.shape()), f64_tensor(ds, scale.shape())};
  }
};

std::vector<Var> call_fake(const OpArgs& a) {
  const Var& scale = a["scale"];
  if (!scale.defined()) return one(fake_quant_int8(a["x"], options_of(a.attrs)));
  return one(fake_quant_int8(
      a["x"], scale, options_of(a.attrs),
      a.attrs.flag("grad_scale", true) ? ScaleGradient::lsq : ScaleGradient::plain));
}

}  // namespace

void add_quant_ops(OpTable& table) {
  const AttrDef granularity{"granularity", "tensor", "tensor, block, token or channel"},
      block{"block", "0", "tokens of a group, for granularity block"};
  table.add({.name = "quantize_int8",
             .summary = "symmetric INT8 codes and the scale amax / 127 of each group",
             .inputs = {{"x"}},
             .attrs = {granularity, block},
             .outputs = {"q", "scale"},
             .call =
                 [](const OpArgs& a) {
                   const Quantized r = quantize_int8(a.tensor("x"), options_of(a.attrs));
                   return std::vector<Var>{r.q, r.scale};
                 },
             .reference = quantize_reference,
             .cases = {{"tensor", {{2, 2, 10, 8}}},
                       {"block", {{1, 2, 37, 8}}, {{"granularity", "block"}, {"block", 16}}},
                       {"block_larger", {{2, 5, 3}}, {{"granularity", "block"}, {"block", 64}}},
                       {"token", {{1, 2, 20, 16}}, {{"granularity", "token"}}},
                       {"vector", {{7}}, {{"granularity", "token"}}},
                       {"channel", {{2, 1, 30, 70}}, {{"granularity", "channel"}}},
                       {"one", {{1, 1}}, {{"granularity", "channel"}}},
                       {"empty", {{0, 3, 4}}, {{"granularity", "token"}}},
                       {"pieces", {{3, 70, 300}}}},
             .differentiable = false});
  table.add(
      {.name = "fake_quant_int8",
       .summary = "rounding to the INT8 grid and back, straight-through gradient",
       .inputs = {{"x"}, {"scale", true}},
       .attrs = {granularity,
                 block,
                 {"grad_scale", "true", "1 / sqrt(127 n) on the gradient of the scale"}},
       .outputs = {"y"},
       .call = call_fake,
       .reference = fake_reference,
       .cases = {{"tensor", {{2, 3, 5}}},
                 {"block", {{1, 2, 37, 8}}, {{"granularity", "block"}, {"block", 16}}},
                 {"token", {{2, 1, 12, 16}}, {{"granularity", "token"}}},
                 {"channel", {{2, 13, 5}}, {{"granularity", "channel"}}},
                 // Learned scales of 0.5 to 2: values beyond 63 to 254 are clipped, and some are.
                 {"learned_tensor", {{{8, 100}, Fill::distinct}, {{}, Fill::positive}}},
                 {"learned_token",
                  {{{2, 6, 90}, Fill::distinct}, {{2, 6}, Fill::positive}},
                  {{"granularity", "token"}, {"grad_scale", false}}},
                 {"learned_block",
                  {{{2, 7, 70}, Fill::distinct}, {{2, 3}, Fill::positive}},
                  {{"granularity", "block"}, {"block", 3}}},
                 {"learned_channel",
                  {{{2, 60, 9}, Fill::distinct}, {{2, 9}, Fill::positive}},
                  {{"granularity", "channel"}}}},
       .surrogate = [](const OpArgs& a) {
         return one(apply(Slopes{a.attrs}, a["x"], a["scale"]));
       }});
}

}  // namespace tenun
