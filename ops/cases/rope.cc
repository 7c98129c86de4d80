#include "tenun/ops/rope.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::vector<Tensor> rope_reference(const OpArgs& args) {
  const Tensor& x = args.tensor("x");
  const auto v = doubles(x);
  std::vector<double> y(v.size());
  const int64_t grid = args.attrs.integer("grid"), prefix = args.attrs.integer("prefix", 0),
                d = x.dim(3);
  const double theta = args.attrs.real("theta", 10000);
  for_each_index(x.shape(), [&](const Shape& index, int64_t flat) {
    const int64_t token = index[2] - prefix, channel = index[3];
    double angle = 0;
    if (token >= 0) {
      const int64_t position = channel < d / 2 ? token / grid : token % grid;
      const int64_t pair = channel % (d / 2) / 2;
      angle = static_cast<double>(position) *
              std::pow(theta, -2.0 * static_cast<double>(pair) / (static_cast<double>(d) / 2));
    }
    const double own = v[static_cast<size_t>(flat)];
    const double other =
        channel % 2 == 0 ? -v[static_cast<size_t>(flat + 1)] : v[static_cast<size_t>(flat - 1)];
    y[static_cast<size_t>(flat)] = own * std::cos(angle) + other * std::sin(angle);
  });
  return {f64_tensor(y, x.shape())};
}

}  // namespace

void add_rope_ops(OpTable& table) {
  table.add({.name = "rope_2d",
             .summary = "rotary embedding of a grid of tokens after an unrotated prefix",
             .inputs = {{"x"}},
             .attrs = {{"grid", "", "side of the grid of tokens"},
                       {"prefix", "0", "tokens before the grid, not turned"},
                       {"theta", "10000", "base of the frequencies"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(rope_2d(a["x"], {.grid = a.attrs.integer("grid"),
                                               .prefix = a.attrs.integer("prefix", 0),
                                               .theta = a.attrs.real("theta", 10000)}));
                 },
             .reference = rope_reference,
             .cases = {{"d64", {{1, 1, 18, 64}}, {{"grid", 4}, {"prefix", 2}}},
                       {"no_prefix", {{2, 2, 9, 8}}, {{"grid", 3}}},
                       {"prefix", {{1, 2, 14, 12}}, {{"grid", 3}, {"prefix", 5}, {"theta", 100.0}}},
                       {"one_token", {{3, 1, 1, 4}}, {{"grid", 1}}},
                       {"many_rows", {{2, 3, 68, 20}}, {{"grid", 8}, {"prefix", 4}}}}});
}

}  // namespace tenun
