#include "tenun/ops/softmax.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::vector<Tensor> softmax_reference(const OpArgs& args, SoftmaxForm form) {
  const Tensor& x = args.tensor("x");
  const auto v = doubles(x);
  std::vector<double> y(v.size());
  const int axis = x.rank() == 0 ? 0
                                 : normalize_axis(static_cast<int>(args.attrs.integer("dim", -1)),
                                                  x.rank(), "softmax");
  for_each_index(x.shape(), [&](const Shape& index, int64_t flat) {
    double top = -INFINITY, sum = 0;
    Shape at = index;
    const int64_t n = x.rank() == 0 ? 1 : x.dim(axis);
    const auto value = [&](int64_t k) {
      if (x.rank() > 0) at[axis] = k;
      return v[static_cast<size_t>(flat_index(at, x.shape()))];
    };
    for (int64_t k = 0; k < n; ++k) top = std::max(top, value(k));
    for (int64_t k = 0; k < n; ++k) sum += std::exp(value(k) - top);
    const double own = v[static_cast<size_t>(flat)] - top;
    y[static_cast<size_t>(flat)] =
        form == SoftmaxForm::log ? own - std::log(sum) : std::exp(own) / sum;
  });
  return {f64_tensor(y, x.shape())};
}

std::vector<Tensor> cross_entropy_reference(const OpArgs& args) {
  const Tensor &x = args.tensor("logits"), &target = args.tensor("target");
  const auto v = doubles(x), t = doubles(target);
  const auto rows = static_cast<size_t>(x.dim(0)), n = static_cast<size_t>(x.dim(1));
  std::vector<double> loss(rows);
  double total = 0;
  for (size_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += std::exp(v[r * n + i]);
    loss[r] = std::log(sum) - v[r * n + static_cast<size_t>(t[r])];
    total += loss[r];
  }
  const std::string how = args.attrs.text("reduction", "mean");
  if (how == "none") return {f64_tensor(loss, {x.dim(0)})};
  return {f64_tensor({how == "sum" ? total : total / static_cast<double>(rows)}, {})};
}

}  // namespace

void add_softmax_ops(OpTable& table) {
  table.add({.name = "softmax",
             .summary = "exp(x) / sum of exp(x) along one axis; x may hold -inf",
             .inputs = {{"x"}},
             .attrs = {{"dim", "-1", "the axis"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(softmax(a["x"], static_cast<int>(a.attrs.integer("dim", -1))));
                 },
             .reference = [](const OpArgs& a) { return softmax_reference(a, SoftmaxForm::plain); },
             .cases = {{"last", {{3, 4, 9}}},
                       {"first", {{6, 5}}, {{"dim", 0}}},
                       {"middle", {{2, 7, 3}}, {{"dim", 1}}},
                       {"large_logits", {{4, 11}}, {}, 40},
                       {"wide", {{3, 300}}},
                       {"many_rows", {{700, 33}}},
                       {"one_class", {{5, 1}}},
                       {"no_rows", {{0, 3}}},
                       {"scalar", {CaseInput({})}}}});
  table.add({.name = "log_softmax",
             .summary = "x - log of the sum of exp(x) along one axis",
             .inputs = {{"x"}},
             .attrs = {{"dim", "-1", "the axis"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(log_softmax(a["x"], static_cast<int>(a.attrs.integer("dim", -1))));
                 },
             .reference = [](const OpArgs& a) { return softmax_reference(a, SoftmaxForm::log); },
             .cases = {{"last", {{3, 4, 9}}},
                       {"first", {{6, 5}}, {{"dim", 0}}},
                       {"middle", {{2, 7, 3}}, {{"dim", -2}}},
                       {"large_logits", {{4, 11}}, {}, 40},
                       {"wide", {{3, 300}}}}});
  table.add({.name = "cross_entropy",
             .summary = "-log softmax(logits)[target] for logits (N, C)",
             .inputs = {{"logits"}, {"target", false, true}},
             .attrs = {{"reduction", "mean", "mean, sum or none"}},
             .outputs = {"loss"},
             .call =
                 [](const OpArgs& a) {
                   return one(
                       cross_entropy(a["logits"], a["target"],
                                     reduction_from_name(a.attrs.text("reduction", "mean"))));
                 },
             .reference = cross_entropy_reference,
             .cases = {{"mean", {{5, 7}, {{5}, Fill::index, 7}}},
                       {"sum", {{4, 3}, {{4}, Fill::index, 3}}, {{"reduction", "sum"}}},
                       {"none", {{6, 33}, {{6}, Fill::index, 33}}, {{"reduction", "none"}}},
                       {"large_logits", {{4, 11}, {{4}, Fill::index, 11}}, {}, 30},
                       {"one_class", {{3, 1}, {{3}, Fill::index, 1}}},
                       {"many_rows", {{1200, 20}, {{1200}, Fill::index, 20}}}}});
}

}  // namespace tenun
