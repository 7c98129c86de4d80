#include "tenun/ops/loss.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::vector<Tensor> reduced(std::vector<double> each, const Shape& shape, const std::string& how) {
  if (how == "none") return {f64_tensor(each, shape)};
  double total = 0;
  for (const double v : each) total += v;
  return {f64_tensor({how == "sum" ? total : total / static_cast<double>(each.size())}, {})};
}

std::vector<Tensor> pair_reference(const OpArgs& args, double (*value)(double, double)) {
  const auto p = doubles(args.tensor("pred")), t = doubles(args.tensor("target"));
  std::vector<double> each(p.size());
  for (size_t i = 0; i < p.size(); ++i) each[i] = value(p[i], t[i]);
  return reduced(each, args.tensor("pred").shape(), args.attrs.text("reduction", "mean"));
}

std::vector<Tensor> cosine_reference(const OpArgs& args) {
  const Tensor& x = args.tensor("a");
  const auto a = doubles(x), b = doubles(args.tensor("b"));
  const int axis =
      normalize_axis(static_cast<int>(args.attrs.integer("dim", 1)), x.rank(), "cosine_similarity");
  const double eps = args.attrs.real("eps", 1e-8);
  Shape shape = x.shape();
  shape.erase(axis);
  std::vector<double> y(static_cast<size_t>(shape.numel()));
  for_each_index(shape, [&](const Shape& index, int64_t flat) {
    double aa = 0, bb = 0, ab = 0;
    Shape at = index;
    at.insert(axis, 0);
    for (at[axis] = 0; at[axis] < x.dim(axis); ++at[axis]) {
      const auto i = static_cast<size_t>(flat_index(at, x.shape()));
      aa += a[i] * a[i], bb += b[i] * b[i], ab += a[i] * b[i];
    }
    y[static_cast<size_t>(flat)] =
        ab / (std::max(std::sqrt(aa), eps) * std::max(std::sqrt(bb), eps));
  });
  return {f64_tensor(y, shape)};
}

}  // namespace

void add_loss_ops(OpTable& table) {
  const std::vector<AttrDef> reduction = {{"reduction", "mean", "mean, sum or none"}};
  const auto how = [](const OpArgs& a) {
    return reduction_from_name(a.attrs.text("reduction", "mean"));
  };
  const std::vector<OpCase> smooth = {{"mean", {{3, 4, 5}, {3, 4, 5}}},
                                      {"sum", {{7}, {7}}, {{"reduction", "sum"}}},
                                      {"none", {{2, 13}, {2, 13}}, {{"reduction", "none"}}},
                                      {"scalar", {CaseInput({}), CaseInput({})}},
                                      {"large", {{3, 5000}, {3, 5000}}}};
  table.add(
      {.name = "mse_loss",
       .summary = "(pred - target)^2",
       .inputs = {{"pred"}, {"target"}},
       .attrs = reduction,
       .outputs = {"loss"},
       .call = [how](const OpArgs& a) { return one(mse_loss(a["pred"], a["target"], how(a))); },
       .reference =
           [](const OpArgs& a) {
             return pair_reference(a, [](double p, double t) { return (p - t) * (p - t); });
           },
       .cases = smooth});
  std::vector<OpCase> kinked = smooth;
  for (OpCase& c : kinked) {  // the kink at pred = target: keep the two apart
    c.inputs[0].fill = Fill::positive;
    c.inputs[1].fill = Fill::off_zero;
    c.scale = 1;
  }
  table.add(
      {.name = "l1_loss",
       .summary = "|pred - target|",
       .inputs = {{"pred"}, {"target"}},
       .attrs = reduction,
       .outputs = {"loss"},
       .call = [how](const OpArgs& a) { return one(l1_loss(a["pred"], a["target"], how(a))); },
       .reference =
           [](const OpArgs& a) {
             return pair_reference(a, [](double p, double t) { return std::abs(p - t); });
           },
       .cases = kinked});
  table.add({.name = "cosine_similarity",
             .summary = "cosine of the vectors along one axis, each norm clamped at eps",
             .inputs = {{"a"}, {"b"}},
             .attrs = {{"dim", "1", "the axis"}, {"eps", "1e-8", "least norm"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(cosine_similarity(a["a"], a["b"],
                                                static_cast<int>(a.attrs.integer("dim", 1)),
                                                a.attrs.real("eps", 1e-8)));
                 },
             .reference = cosine_reference,
             .cases = {{"last", {{2, 5, 8}, {2, 5, 8}}, {{"dim", -1}}},
                       {"middle", {{2, 7, 3}, {2, 7, 3}}, {{"dim", 1}, {"eps", 1e-6}}},
                       {"first", {{9, 4}, {9, 4}}, {{"dim", 0}}},
                       {"vector", {{33}, {33}}, {{"dim", 0}}},
                       {"clamped", {{3, 4}, {3, 4}}, {{"dim", 1}, {"eps", 50.0}}},
                       {"one_clamped", {{3, 4}, {{3, 4}, Fill::unit}}, {{"eps", 1.25}}},
                       {"one_channel", {{5, 1}, {5, 1}}},
                       {"many_rows", {{40, 520}, {40, 520}}, {{"dim", -1}}}}});
}

}  // namespace tenun
