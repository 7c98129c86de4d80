#include "tenun/ops/modulate.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

// x [B, N, C] * (1 + scale [B, C]) + shift [B, C]
std::vector<double> modulated(std::vector<double> x, const Shape& shape,
                              const std::vector<double>& shift, const std::vector<double>& scale) {
  for_each_index(shape, [&](const Shape& i, int64_t flat) {
    const auto at = static_cast<size_t>(i[0] * shape[2] + i[2]);
    double& v = x[static_cast<size_t>(flat)];
    v = v * (1 + scale[at]) + shift[at];
  });
  return x;
}

std::vector<double> rms_normed(std::vector<double> x, const std::vector<double>& w, size_t n,
                               double eps) {
  for (size_t row = 0; n > 0 && row < x.size() / n; ++row) {
    double square = 0;
    for (size_t i = 0; i < n; ++i) square += x[row * n + i] * x[row * n + i];
    const double rstd = 1 / std::sqrt(square / static_cast<double>(n) + eps);
    for (size_t i = 0; i < n; ++i) x[row * n + i] *= rstd * (w.empty() ? 1 : w[i]);
  }
  return x;
}

std::vector<Tensor> gate_reference(const OpArgs& args) {
  const Tensor& h = args.tensor("h");
  auto out = doubles(h);
  const auto gate = doubles(args.tensor("gate")), y = doubles(args.tensor("y"));
  for_each_index(h.shape(), [&](const Shape& i, int64_t flat) {
    out[static_cast<size_t>(flat)] +=
        gate[static_cast<size_t>(i[0] * h.dim(2) + i[2])] * y[static_cast<size_t>(flat)];
  });
  return {f64_tensor(out, h.shape())};
}

}  // namespace

void add_modulate_ops(OpTable& table) {
  table.add({.name = "modulate",
             .summary = "x (1 + scale) + shift with one vector for each sample",
             .inputs = {{"x"}, {"shift"}, {"scale"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(modulate(a["x"], a["shift"], a["scale"])); },
             .reference = [](const OpArgs& a) -> std::vector<Tensor> {
               const Tensor& x = a.tensor("x");
               return {f64_tensor(modulated(doubles(x), x.shape(), doubles(a.tensor("shift")),
                                            doubles(a.tensor("scale"))),
                                  x.shape())};
             },
             .cases = {{"tokens", {{2, 5, 8}, {2, 8}, {2, 8}}},
                       {"odd", {{3, 7, 13}, {3, 13}, {3, 13}}},
                       {"one_token", {{2, 1, 3}, {2, 3}, {2, 3}}},
                       {"no_tokens", {{2, 0, 3}, {2, 3}, {2, 3}}},
                       {"two_chunks", {{2, 33, 520}, {2, 520}, {2, 520}}}}});
  table.add({.name = "rms_norm_modulate",
             .summary = "modulate(rms_norm(x, weight), shift, scale) in one pass",
             .inputs = {{"x"}, {"weight", true}, {"shift"}, {"scale"}},
             .attrs = {{"eps", "1e-6", "added to the mean square"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(rms_norm_modulate(a["x"], a["weight"], a["shift"], a["scale"],
                                                a.attrs.real("eps", 1e-6)));
                 },
             .reference = [](const OpArgs& a) -> std::vector<Tensor> {
               const Tensor& x = a.tensor("x");
               const auto normed =
                   rms_normed(doubles(x), doubles(a.tensor("weight")),
                              static_cast<size_t>(x.dim(2)), a.attrs.real("eps", 1e-6));
               return {f64_tensor(modulated(normed, x.shape(), doubles(a.tensor("shift")),
                                            doubles(a.tensor("scale"))),
                                  x.shape())};
             },
             .cases = {{"tokens", {{2, 5, 8}, {8}, {2, 8}, {2, 8}}},
                       {"odd", {{3, 7, 13}, {13}, {3, 13}, {3, 13}}, {{"eps", 0.01}}},
                       {"no_weight", {{2, 4, 6}, CaseInput::none(), {2, 6}, {2, 6}}},
                       {"two_chunks", {{2, 33, 520}, {520}, {2, 520}, {2, 520}}}}});
  table.add({.name = "residual_gate",
             .summary = "h + gate y with one gate vector for each sample",
             .inputs = {{"h"}, {"gate"}, {"y"}},
             .outputs = {"out"},
             .call = [](const OpArgs& a) { return one(residual_gate(a["h"], a["gate"], a["y"])); },
             .reference = gate_reference,
             .cases = {{"tokens", {{2, 5, 8}, {2, 8}, {2, 5, 8}}},
                       {"odd", {{3, 7, 13}, {3, 13}, {3, 7, 13}}},
                       {"one_token", {{2, 1, 3}, {2, 3}, {2, 1, 3}}},
                       {"two_chunks", {{2, 33, 520}, {2, 520}, {2, 33, 520}}}}});
  table.add({.name = "layer_scale",
             .summary = "x gamma, one factor for each channel",
             .inputs = {{"x"}, {"gamma"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(layer_scale(a["x"], a["gamma"])); },
             .reference = [](const OpArgs& a) -> std::vector<Tensor> {
               auto y = doubles(a.tensor("x"));
               const auto gamma = doubles(a.tensor("gamma"));
               for (size_t i = 0; i < y.size(); ++i) y[i] *= gamma[i % gamma.size()];
               return {f64_tensor(y, a.tensor("x").shape())};
             },
             .cases = {{"tokens", {{2, 5, 8}, {8}}},
                       {"vector", {{7}, {7}}},
                       {"one_channel", {{3, 1}, {1}}},
                       {"two_chunks", {{33, 520}, {520}}}}});
}

}  // namespace tenun
