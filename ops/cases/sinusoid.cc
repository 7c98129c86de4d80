#include "tenun/ops/sinusoid.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::vector<Tensor> position_reference(const OpArgs& args) {
  const int64_t dim = args.attrs.integer("dim"), grid = args.attrs.integer("grid"), q = dim / 4;
  const Shape shape{grid * grid, dim};
  std::vector<double> y(static_cast<size_t>(shape.numel()));
  for_each_index(shape, [&](const Shape& i, int64_t flat) {
    const int64_t position = i[1] / (2 * q) == 0 ? i[0] % grid : i[0] / grid;
    const double angle = static_cast<double>(position) /
                         std::pow(10000, static_cast<double>(i[1] % q) / static_cast<double>(q));
    y[static_cast<size_t>(flat)] = i[1] / q % 2 == 0 ? std::sin(angle) : std::cos(angle);
  });
  return {f64_tensor(y, shape)};
}

std::vector<Tensor> timestep_reference(const OpArgs& args) {
  const auto t = doubles(args.tensor("t"));
  const int64_t dim = args.attrs.integer("dim"), half = dim / 2;
  const double period = args.attrs.real("max_period", 10000);
  const Shape shape{args.tensor("t").dim(0), dim};
  std::vector<double> y(static_cast<size_t>(shape.numel()));
  for_each_index(shape, [&](const Shape& i, int64_t flat) {
    if (i[1] == 2 * half) return;
    const double f =
        std::pow(period, -static_cast<double>(i[1] % half) / static_cast<double>(half));
    const double angle = t[static_cast<size_t>(i[0])] * f;
    y[static_cast<size_t>(flat)] = i[1] < half ? std::cos(angle) : std::sin(angle);
  });
  return {f64_tensor(y, shape)};
}

}  // namespace

void add_sinusoid_ops(OpTable& table) {
  table.add({.name = "sincos_pos_embed",
             .summary = "the fixed position table of a square grid of tokens",
             .inputs = {},
             .attrs = {{"dim", "", "channels, divisible by 4"}, {"grid", "", "side of the grid"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(sincos_pos_embed(a.attrs.integer("dim"), a.attrs.integer("grid")));
                 },
             .reference = position_reference,
             .cases = {{"d16_g4", {}, {{"dim", 16}, {"grid", 4}}},
                       {"d64_g3", {}, {{"dim", 64}, {"grid", 3}}},
                       {"least", {}, {{"dim", 4}, {"grid", 1}}}},
             .differentiable = false});
  table.add({.name = "timestep_embedding",
             .summary = "cosines and sines of t at geometric frequencies",
             .inputs = {{"t"}},
             .attrs = {{"dim", "", "channels; an odd number ends with a 0"},
                       {"max_period", "10000", "the longest period over 2 pi"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(timestep_embedding(a["t"], a.attrs.integer("dim"),
                                                 a.attrs.real("max_period", 10000)));
                 },
             .reference = timestep_reference,
             .cases = {{"d16", {{{4}, Fill::unit}}, {{"dim", 16}}},
                       {"d256", {{{3}, Fill::unit}}, {{"dim", 256}}},
                       {"odd_dim", {{{2}, Fill::unit}}, {{"dim", 7}, {"max_period", 100.0}}},
                       {"one", {{{2}, Fill::unit}}, {{"dim", 1}}},
                       {"large_t", {{5}}, {{"dim", 8}}, 300}}});
}

}  // namespace tenun
