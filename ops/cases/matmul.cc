#include "tenun/ops/matmul.h"

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::vector<Tensor> matmul_reference(const OpArgs& args) {
  const Tensor &a = args.tensor("a"), &b = args.tensor("b");
  const Shape batch = broadcast_shapes({a.shape().begin(), a.shape().end() - 2},
                                       {b.shape().begin(), b.shape().end() - 2}, "matmul");
  Shape sa = batch, sb = batch, sc = batch;
  for (int i : {-2, -1}) sa.push_back(a.dim(i)), sb.push_back(b.dim(i));
  sc.push_back(a.dim(-2)), sc.push_back(b.dim(-1));
  const auto x = doubles(a.expand(sa)), y = doubles(b.expand(sb));
  std::vector<double> z(static_cast<size_t>(sc.numel()));
  const int64_t m = a.dim(-2), k = a.dim(-1), n = b.dim(-1);
  for (int64_t i = 0; i < sc.numel(); ++i) {
    const int64_t at = i / (m * n), r = i / n % m, c = i % n;
    for (int64_t j = 0; j < k; ++j)
      z[static_cast<size_t>(i)] += x[static_cast<size_t>((at * m + r) * k + j)] *
                                   y[static_cast<size_t>((at * k + j) * n + c)];
  }
  return {f64_tensor(z, sc)};
}

std::vector<Tensor> linear_reference(const OpArgs& args) {
  const Tensor &x = args.tensor("x"), &w = args.tensor("weight");
  const auto xv = doubles(x), wv = doubles(w), bv = doubles(args.tensor("bias"));
  const int64_t in = w.dim(1), out = w.dim(0), rows = x.numel() / in;
  std::vector<double> y(static_cast<size_t>(rows * out));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < out; ++o) {
      double s = bv.empty() ? 0 : bv[static_cast<size_t>(o)];
      for (int64_t i = 0; i < in; ++i)
        s += xv[static_cast<size_t>(r * in + i)] * wv[static_cast<size_t>(o * in + i)];
      y[static_cast<size_t>(r * out + o)] = s;
    }
  Shape shape = x.shape();
  shape[shape.size() - 1] = out;
  return {f64_tensor(y, shape)};
}

}  // namespace

void add_matmul_ops(OpTable& table) {
  table.add({.name = "matmul",
             .summary = "matrix product; batch axes broadcast",
             .inputs = {{"a"}, {"b"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(matmul(a["a"], a["b"])); },
             .reference = matmul_reference,
             .cases = {{"plain", {{3, 4}, {4, 5}}},
                       {"one", {{1, 1}, {1, 1}}},
                       {"row_by_column", {{1, 9}, {9, 1}}},
                       {"odd", {{17, 33}, {33, 13}}},
                       {"batched", {{2, 3, 5, 4}, {2, 3, 4, 6}}},
                       {"broadcast", {{3, 5, 4}, {2, 1, 4, 6}}},
                       {"shared_right", {{4, 5, 3}, {3, 2}}},
                       {"shared_left", {{5, 3}, {4, 3, 2}}},
                       {"panels", {{200, 40}, {40, 130}}}}});
  table.add({.name = "linear",
             .summary = "y = x weight^T + bias",
             .inputs = {{"x"}, {"weight"}, {"bias", true}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(linear(a["x"], a["weight"], a["bias"])); },
             .reference = linear_reference,
             .cases = {{"bias", {{3, 4}, {5, 4}, {5}}},
                       {"no_bias", {{2, 3, 7}, {4, 7}}},
                       {"vector", {{6}, {3, 6}, {3}}},
                       {"odd", {{2, 13, 17}, {11, 17}, {11}}}}});
}

}  // namespace tenun
