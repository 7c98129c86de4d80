#include "tenun/ops/dropout.h"

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::vector<Tensor> dropout_reference(const OpArgs& args) {
  const double p = args.attrs.real("p");
  const RandomKey key{static_cast<uint64_t>(args.attrs.integer("key", 0))};
  auto x = doubles(args.tensor("x"));
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<double>(key.uniform(i)) < p ? 0 : x[i] / (1 - p);
  return {f64_tensor(x, args.tensor("x").shape())};
}

}  // namespace

void add_dropout_ops(OpTable& table) {
  table.add(
      {.name = "dropout",
       .summary = "elements become 0 with probability p, the others grow by 1 / (1 - p)",
       .inputs = {{"x"}},
       .attrs = {{"p", "", "probability of dropping"}, {"key", "0", "the key of the random mask"}},
       .outputs = {"y"},
       .call =
           [](const OpArgs& a) {
             const RandomKey key{static_cast<uint64_t>(a.attrs.integer("key", 0))};
             return one(dropout(a["x"], a.attrs.real("p"), key));
           },
       .reference = dropout_reference,
       .cases = {{"plain", {{5, 7}}, {{"p", 0.3}, {"key", 11}}},
                 {"none", {{5, 7}}, {{"p", 0.0}}},
                 {"half", {{3, 43, 7}}, {{"p", 0.5}, {"key", int64_t{1} << 40}}},
                 {"most", {{2, 65}}, {{"p", 0.9}}},
                 {"empty", {{0, 3}}, {{"p", 0.5}}},
                 {"scalar", {{}}, {{"p", 0.5}}},
                 {"large", {{7, 5000}}, {{"p", 0.1}}}}});
}

}  // namespace tenun
