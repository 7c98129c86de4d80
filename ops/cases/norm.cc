#include "tenun/ops/norm.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

enum class Centre : uint8_t { no, yes };

std::vector<Tensor> row_norm(const OpArgs& args, Centre centre) {
  const Tensor& x = args.tensor("x");
  const auto xv = doubles(x), w = doubles(args.tensor("weight"));
  const auto b = args["bias"].defined() ? doubles(args.tensor("bias")) : std::vector<double>();
  const double eps = args.attrs.real("eps", centre == Centre::yes ? 1e-5 : 1e-6);
  const auto n = static_cast<size_t>(x.dim(-1));
  std::vector<double> y(xv.size());
  for (size_t row = 0; n > 0 && row < xv.size() / n; ++row) {
    const double* p = xv.data() + row * n;
    double mean = 0, square = 0;
    if (centre == Centre::yes)
      for (size_t i = 0; i < n; ++i) mean += p[i] / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) square += (p[i] - mean) * (p[i] - mean);
    for (size_t i = 0; i < n; ++i)
      y[row * n + i] = (p[i] - mean) / std::sqrt(square / static_cast<double>(n) + eps) *
                           (w.empty() ? 1 : w[i]) +
                       (b.empty() ? 0 : b[i]);
  }
  return {f64_tensor(y, x.shape())};
}

std::vector<Tensor> batch_norm(const OpArgs& args) {
  const Tensor& x = args.tensor("x");
  auto y = doubles(x);
  const auto w = doubles(args.tensor("weight")), b = doubles(args.tensor("bias")),
             mean = doubles(args.tensor("running_mean")), var = doubles(args.tensor("running_var"));
  const double eps = args.attrs.real("eps", 1e-5);
  for_each_index(x.shape(), [&](const Shape& index, int64_t flat) {
    const auto c = static_cast<size_t>(index[1]);
    double& v = y[static_cast<size_t>(flat)];
    v = (v - mean[c]) / std::sqrt(var[c] + eps) * w[c] + b[c];
  });
  return {f64_tensor(y, x.shape())};
}

}  // namespace

void add_norm_ops(OpTable& table) {
  table.add({.name = "rms_norm",
             .summary = "weight x / sqrt(mean(x^2) + eps) over the last axis",
             .inputs = {{"x"}, {"weight", true}},
             .attrs = {{"eps", "1e-6", "added to the mean square"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(rms_norm(a["x"], a["weight"], a.attrs.real("eps", 1e-6)));
                 },
             .reference = [](const OpArgs& a) { return row_norm(a, Centre::no); },
             .cases = {{"tokens", {{2, 5, 16}, {16}}},
                       {"odd", {{3, 7, 13}, {13}}, {{"eps", 1e-5}}},
                       {"no_weight", {{4, 37}}},
                       {"one_channel", {{5, 1}, {1}}, {{"eps", 0.1}}},
                       {"vector", {{33}, {33}}},
                       {"tiny_values", {{3, 20}, {20}}, {{"eps", 1e-6}}, 1.0 / 1024},
                       {"two_chunks", {{1, 33, 520}, {520}}},
                       {"no_rows", {{0, 4}, {4}}}}});
  table.add({.name = "layer_norm",
             .summary = "weight (x - mean) / sqrt(var + eps) + bias over the last axis",
             .inputs = {{"x"}, {"weight", true}, {"bias", true}},
             .attrs = {{"eps", "1e-5", "added to the variance"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(
                       layer_norm(a["x"], a["weight"], a["bias"], a.attrs.real("eps", 1e-5)));
                 },
             .reference = [](const OpArgs& a) { return row_norm(a, Centre::yes); },
             .cases = {{"affine", {{2, 4, 12}, {12}, {12}}},
                       {"plain", {{3, 9}}, {{"eps", 1e-6}}},
                       {"weight_only", {{5, 7}, {7}}},
                       {"bias_only", {{5, 7}, CaseInput::none(), {7}}},
                       {"one_channel", {{5, 1}, {1}, {1}}},
                       {"two_chunks", {{33, 520}, {520}, {520}}}}});
  table.add(
      {.name = "batch_norm_eval",
       .summary = "batch norm with fixed statistics, for each channel of (N, C, ...)",
       .inputs = {{"x"}, {"weight"}, {"bias"}, {"running_mean"}, {"running_var"}},
       .attrs = {{"eps", "1e-5", "added to the variance"}},
       .outputs = {"y"},
       .call =
           [](const OpArgs& a) {
             return one(batch_norm_eval(a["x"], a["weight"], a["bias"], a["running_mean"],
                                        a["running_var"], a.attrs.real("eps", 1e-5)));
           },
       .reference = batch_norm,
       .cases = {{"image", {{2, 3, 4, 5}, {3}, {3}, {3}, {{3}, Fill::positive}}},
                 {"eps", {{3, 5, 2, 2}, {5}, {5}, {5}, {{5}, Fill::positive}}, {{"eps", 1e-3}}},
                 {"flat", {{6, 4}, {4}, {4}, {4}, {{4}, Fill::positive}}},
                 {"one", {{1, 1, 3, 3}, {1}, {1}, {1}, {{1}, Fill::positive}}}}});
}

}  // namespace tenun
