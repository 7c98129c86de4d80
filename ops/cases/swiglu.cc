#include "tenun/ops/swiglu.h"

#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {

void add_swiglu_ops(OpTable& table) {
  table.add({.name = "swiglu",
             .summary = "silu(first half) * second half of the last axis",
             .inputs = {{"x"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(swiglu(a["x"])); },
             .reference = [](const OpArgs& args) -> std::vector<Tensor> {
               const Tensor& x = args.tensor("x");
               const auto v = doubles(x);
               Shape shape = x.shape();
               const int64_t h = shape[shape.size() - 1] /= 2;
               std::vector<double> y(static_cast<size_t>(shape.numel()));
               for (size_t i = 0; i < y.size(); ++i) {
                 const size_t row = i / static_cast<size_t>(h),
                              at = i + row * static_cast<size_t>(h);
                 y[i] = v[at] / (1 + std::exp(-v[at])) * v[at + static_cast<size_t>(h)];
               }
               return {f64_tensor(y, shape)};
             },
             .cases = {{"tokens", {{2, 3, 10}}},
                       {"odd_hidden", {{4, 14}}},
                       {"one", {{3, 2}}},
                       {"vector", {{66}}},
                       {"large", {{2, 8}}, {}, 40},
                       {"many_rows", {{90, 682}}},
                       {"packs", {{3, 7, 272}}},
                       {"no_rows", {{0, 4}}}}});
}

}  // namespace tenun
