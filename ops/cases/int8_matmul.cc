#include "tenun/ops/int8_matmul.h"

#include <algorithm>
#include <cmath>

#include "tenun/ops/cases/registry.h"
#include "tenun/ops/matmul.h"

namespace tenun {
namespace {

// Every element from its own row and column.
std::vector<Tensor> int8_matmul_reference(const OpArgs& args) {
  const Tensor &a = args.tensor("a"), &b = args.tensor("b");
  const Shape batch = broadcast_shapes({a.shape().begin(), a.shape().end() - 2},
                                       {b.shape().begin(), b.shape().end() - 2}, "int8_matmul");
  Shape sa = batch, sb = batch, sc = batch;
  for (int i : {-2, -1}) sa.push_back(a.dim(i)), sb.push_back(b.dim(i));
  sc.push_back(a.dim(-2)), sc.push_back(b.dim(-1));
  const auto x = doubles(a.expand(sa)), y = doubles(b.expand(sb));
  const int64_t m = a.dim(-2), k = a.dim(-1), n = b.dim(-1);
  std::vector<double> z(static_cast<size_t>(sc.numel()));
  for (int64_t i = 0; i < sc.numel(); ++i) {
    const int64_t at = i / (m * n), r = i / n % m, c = i % n;
    const auto ax = [&](int64_t j) { return x[static_cast<size_t>((at * m + r) * k + j)]; };
    const auto bx = [&](int64_t j) { return y[static_cast<size_t>((at * k + j) * n + c)]; };
    double scale_a = 0, scale_b = 0, sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      scale_a = std::max(scale_a, std::abs(ax(j)) / 127);
      scale_b = std::max(scale_b, std::abs(bx(j)) / 127);
    }
    if (scale_a == 0 || scale_b == 0) continue;
    for (int64_t j = 0; j < k; ++j)
      sum += std::nearbyint(ax(j) / scale_a) * std::nearbyint(bx(j) / scale_b);
    z[static_cast<size_t>(i)] = sum * scale_a * scale_b;
  }
  return {f64_tensor(z, sc)};
}

}  // namespace

void add_int8_matmul_ops(OpTable& table) {
  table.add(
      {.name = "int8_matmul",
       .summary = "matrix product of INT8 codes, scales of rows and columns; straight-through",
       .inputs = {{"a"}, {"b"}},
       .outputs = {"y"},
       .call = [](const OpArgs& a) { return one(int8_matmul(a["a"], a["b"])); },
       .reference = int8_matmul_reference,
       .cases = {{"plain", {{3, 4}, {4, 5}}},
                 {"one", {{1, 1}, {1, 1}}},
                 {"odd", {{17, 33}, {33, 13}}},
                 {"batched", {{2, 3, 5, 4}, {2, 3, 4, 6}}},
                 {"broadcast", {{3, 5, 4}, {2, 1, 4, 6}}},
                 {"shared_right", {{4, 5, 3}, {3, 2}}},
                 {"panels", {{100, 70}, {70, 130}}}},
       // Rounding has no slope: the gradient is that of the plain product.
       .surrogate = [](const OpArgs& a) { return one(matmul(a["a"], a["b"])); }});
}

}  // namespace tenun
