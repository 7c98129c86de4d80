#include "tenun/ops/rope.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"
#include "tenun/ops/qk_norm_rope.h"

namespace tenun {
namespace {

RopeOptions options_of(const OpArgs& a) {
  return {.grid = a.attrs.integer("grid"),
          .prefix = a.attrs.integer("prefix", 0),
          .theta = a.attrs.real("theta", 10000),
          .tile = a.attrs.integer("tile", 1)};
}

// v holds [B, H, N, D].
std::vector<double> turned(const std::vector<double>& v, const Shape& shape,
                           const RopeOptions& rope) {
  std::vector<double> y(v.size());
  const int64_t grid = rope.grid, side = rope.tile, d = shape[3];
  for_each_index(shape, [&](const Shape& index, int64_t flat) {
    const int64_t token = index[2] - rope.prefix, channel = index[3];
    double angle = 0;
    if (token >= 0) {
      const int64_t tile = token / (side * side), inside = token % (side * side);
      const int64_t row = tile / (grid / side) * side + inside / side;
      const int64_t column = tile % (grid / side) * side + inside % side;
      const int64_t position = channel < d / 2 ? row : column;
      const int64_t pair = channel % (d / 2) / 2;
      angle = static_cast<double>(position) *
              std::pow(rope.theta, -2.0 * static_cast<double>(pair) / (static_cast<double>(d) / 2));
    }
    const double own = v[static_cast<size_t>(flat)];
    const double other =
        channel % 2 == 0 ? -v[static_cast<size_t>(flat + 1)] : v[static_cast<size_t>(flat - 1)];
    y[static_cast<size_t>(flat)] = own * std::cos(angle) + other * std::sin(angle);
  });
  return y;
}

std::vector<Tensor> fused_reference(const OpArgs& args) {
  const Tensor& qkv = args.tensor("qkv");
  const int64_t heads = args.attrs.integer("heads"), d = qkv.dim(2) / (3 * heads);
  const Shape shape{qkv.dim(0), heads, qkv.dim(1), d}, packed{qkv.dim(0), qkv.dim(1), 3, heads, d};
  const auto x = doubles(qkv);
  std::vector<Tensor> out;
  for (int64_t part = 0; part < 3; ++part) {
    std::vector<double> y(static_cast<size_t>(shape.numel()));
    for_each_index(shape, [&](const Shape& i, int64_t flat) {
      y[static_cast<size_t>(flat)] =
          x[static_cast<size_t>(flat_index({i[0], i[2], part, i[1], i[3]}, packed))];
    });
    if (part < 2) {
      const auto w = doubles(args.tensor(part == 0 ? "q_weight" : "k_weight"));
      const auto n = static_cast<size_t>(d);
      for (size_t row = 0; row < y.size() / n; ++row) {
        double square = 0;
        for (size_t i = 0; i < n; ++i) square += y[row * n + i] * y[row * n + i];
        for (size_t i = 0; i < n; ++i)
          y[row * n + i] *=
              w[i] / std::sqrt(square / static_cast<double>(d) + args.attrs.real("eps", 1e-6));
      }
      y = turned(y, shape, options_of(args));
    }
    out.push_back(f64_tensor(y, shape));
  }
  return out;
}

}  // namespace

void add_rope_ops(OpTable& table) {
  table.add({.name = "rope_2d",
             .summary = "rotary embedding of a grid of tokens after an unrotated prefix",
             .inputs = {{"x"}},
             .attrs = {{"grid", "", "side of the grid of tokens"},
                       {"prefix", "0", "tokens before the grid, not turned"},
                       {"theta", "10000", "base of the frequencies"},
                       {"tile", "1", "side of the square tiles in which the tokens come"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(rope_2d(a["x"], options_of(a))); },
             .reference = [](const OpArgs& a) -> std::vector<Tensor> {
               const Tensor& x = a.tensor("x");
               return {f64_tensor(turned(doubles(x), x.shape(), options_of(a)), x.shape())};
             },
             .cases = {{"d64", {{1, 1, 18, 64}}, {{"grid", 4}, {"prefix", 2}}},
                       {"no_prefix", {{2, 2, 9, 8}}, {{"grid", 3}}},
                       {"prefix", {{1, 2, 14, 12}}, {{"grid", 3}, {"prefix", 5}, {"theta", 100.0}}},
                       {"tiles", {{1, 2, 37, 8}}, {{"grid", 6}, {"prefix", 1}, {"tile", 3}}},
                       {"one_token", {{3, 1, 1, 4}}, {{"grid", 1}}},
                       {"many_rows", {{2, 3, 68, 20}}, {{"grid", 8}, {"prefix", 4}}}}});
  table.add(
      {.name = "qk_norm_rope",
       .summary = "packed qkv to q, k, v by heads: RMSNorm and rotation of q and k in one pass",
       .inputs = {{"qkv"}, {"q_weight"}, {"k_weight"}},
       .attrs = {{"heads", "", "number of heads"},
                 {"grid", "", "side of the grid of tokens"},
                 {"prefix", "0", "tokens before the grid, not turned"},
                 {"theta", "10000", "base of the frequencies"},
                 {"tile", "1", "side of the square tiles in which the tokens come"},
                 {"eps", "1e-6", "added to the mean square"}},
       .outputs = {"q", "k", "v"},
       .call = [](const OpArgs& a) -> std::vector<Var> {
         const Qkv r = qk_norm_rope(a["qkv"], a["q_weight"], a["k_weight"],
                                    {.heads = a.attrs.integer("heads"),
                                     .rope = options_of(a),
                                     .eps = a.attrs.real("eps", 1e-6)});
         return {r.q, r.k, r.v};
       },
       .reference = fused_reference,
       .cases = {{"heads", {{2, 11, 48}, {8}, {8}}, {{"heads", 2}, {"grid", 3}, {"prefix", 2}}},
                 {"one_head", {{1, 4, 60}, {20}, {20}}, {{"heads", 1}, {"grid", 2}}},
                 {"tiles", {{1, 16, 24}, {4}, {4}}, {{"heads", 2}, {"grid", 4}, {"tile", 2}}},
                 {"blocks",
                  {{2, 37, 72}, {12}, {12}},
                  {{"heads", 2}, {"grid", 6}, {"prefix", 1}, {"eps", 0.01}}}}});
}

}  // namespace tenun
