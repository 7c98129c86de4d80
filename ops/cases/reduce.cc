#include "tenun/ops/reduce.h"

#include <algorithm>
#include <cmath>

#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::vector<int> dims_of(const OpArgs& a) {
  const auto v = a.attrs.integers("dims", std::vector<int64_t>{});
  return {v.begin(), v.end()};
}
KeepDims keep_of(const OpArgs& a) {
  return a.attrs.flag("keepdim", false) ? KeepDims::yes : KeepDims::no;
}

// The groups of elements that a reduction brings together, in row-major order of the result.
struct Groups {
  Shape shape;
  std::vector<std::vector<double>> values;
};
Groups groups_of(const OpArgs& args, const std::vector<int>& dims) {
  const Tensor& x = args.tensor("x");
  std::vector<bool> reduced(static_cast<size_t>(x.rank()), dims.empty());
  for (const int d : dims) reduced[static_cast<size_t>(d < 0 ? d + x.rank() : d)] = true;
  Shape kept = x.shape();
  Groups g;
  for (int i = 0; i < x.rank(); ++i) {
    if (reduced[static_cast<size_t>(i)]) kept[i] = 1;
    if (!reduced[static_cast<size_t>(i)] || keep_of(args) == KeepDims::yes)
      g.shape.push_back(kept[i]);
  }
  g.values.resize(static_cast<size_t>(kept.numel()));
  const auto v = doubles(x);
  for_each_index(x.shape(), [&](const Shape& index, int64_t flat) {
    Shape at = index;
    for (int i = 0; i < at.size(); ++i)
      if (reduced[static_cast<size_t>(i)]) at[i] = 0;
    g.values[static_cast<size_t>(flat_index(at, kept))].push_back(v[static_cast<size_t>(flat)]);
  });
  return g;
}

using Fold = double (*)(const std::vector<double>& v, const OpArgs& a);
std::vector<Tensor> fold(const OpArgs& args, const std::vector<int>& dims, Fold f) {
  const Groups g = groups_of(args, dims);
  std::vector<double> y;
  for (const auto& v : g.values) y.push_back(f(v, args));
  return {f64_tensor(y, g.shape)};
}

double sum_ref(const std::vector<double>& v, const OpArgs&) {
  double s = 0;
  for (double x : v) s += x;
  return s;
}
double mean_ref(const std::vector<double>& v, const OpArgs& a) {
  return sum_ref(v, a) / static_cast<double>(v.size());
}
double var_ref(const std::vector<double>& v, const OpArgs& a) {
  const double m = mean_ref(v, a);
  double s = 0;
  for (double x : v) s += (x - m) * (x - m);
  return s /
         (static_cast<double>(v.size()) - static_cast<double>(a.attrs.integer("correction", 1)));
}
double std_ref(const std::vector<double>& v, const OpArgs& a) { return std::sqrt(var_ref(v, a)); }
double norm_ref(const std::vector<double>& v, const OpArgs&) {
  double s = 0;
  for (double x : v) s += x * x;
  return std::sqrt(s);
}
double logsumexp_ref(const std::vector<double>& v, const OpArgs&) {
  double s = 0, m = -INFINITY;
  for (double x : v) m = std::max(m, x);
  for (double x : v) s += std::exp(x - m);
  return m + std::log(s);
}
double prod_ref(const std::vector<double>& v, const OpArgs&) {
  double p = 1;
  for (double x : v) p *= x;
  return p;
}
double max_ref(const std::vector<double>& v, const OpArgs&) {
  return *std::max_element(v.begin(), v.end());
}
double min_ref(const std::vector<double>& v, const OpArgs&) {
  return *std::min_element(v.begin(), v.end());
}
double argmax_ref(const std::vector<double>& v, const OpArgs&) {
  return static_cast<double>(std::max_element(v.begin(), v.end()) - v.begin());
}
double argmin_ref(const std::vector<double>& v, const OpArgs&) {
  return static_cast<double>(std::min_element(v.begin(), v.end()) - v.begin());
}
double any_ref(const std::vector<double>& v, const OpArgs&) {
  return double(std::any_of(v.begin(), v.end(), [](double x) { return x != 0; }));
}
double all_ref(const std::vector<double>& v, const OpArgs&) {
  return double(std::all_of(v.begin(), v.end(), [](double x) { return x != 0; }));
}

using Dims64 = std::vector<int64_t>;
const std::vector<AttrDef> kDimsAttrs = {{"dims", "[]", "the axes; none: all"},
                                         {"keepdim", "false", "do they stay, with size 1?"}};

std::vector<OpCase> cases_over_dims(Fill fill) {
  return {{"all", {{{3, 5}, fill}}},
          {"scalar", {{{}, fill}}},
          {"last_keep", {{{2, 3, 5}, fill}}, {{"dims", Dims64{-1}}, {"keepdim", true}}},
          {"first", {{{4, 3, 2}, fill}}, {{"dims", Dims64{0}}}},
          {"middle", {{{2, 70, 3}, fill}}, {{"dims", Dims64{1}}}},
          {"apart", {{{2, 3, 4, 5}, fill}}, {{"dims", Dims64{1, 3}}}},
          {"apart_keep", {{{2, 3, 4}, fill}}, {{"dims", Dims64{2, 0}}, {"keepdim", true}}},
          {"neighbours", {{{2, 3, 4, 2}, fill}}, {{"dims", Dims64{1, 2}}}},
          {"size_one", {{{3, 1, 2}, fill}}, {{"dims", Dims64{1}}}},
          {"odd_row", {{{3, 37}, fill}}, {{"dims", Dims64{1}}}},
          {"wide", {{{5, 300}, fill}}, {{"dims", Dims64{0}}}}};
}
void add_fold(OpTable& t, const char* name, const char* summary,
              Var (*f)(const Var&, const std::vector<int>&, KeepDims), Fold ref,
              std::vector<OpCase> cases, bool differentiable = true) {
  t.add({.name = name,
         .summary = summary,
         .inputs = {{"x"}},
         .attrs = kDimsAttrs,
         .outputs = {"y"},
         .call = [f](const OpArgs& a) { return one(f(a["x"], dims_of(a), keep_of(a))); },
         .reference = [ref](const OpArgs& a) { return fold(a, dims_of(a), ref); },
         .cases = std::move(cases),
         .differentiable = differentiable});
}
std::vector<OpCase> with(std::vector<OpCase> cases, OpCase extra) {
  cases.push_back(std::move(extra));
  return cases;
}

void add_deviation(OpTable& t, const char* name, const char* summary,
                   Var (*f)(const Var&, const std::vector<int>&, int64_t, KeepDims), Fold ref) {
  std::vector<AttrDef> attrs = kDimsAttrs;
  attrs.push_back({"correction", "1", "the divisor is count - correction"});
  t.add({.name = name,
         .summary = summary,
         .inputs = {{"x"}},
         .attrs = attrs,
         .outputs = {"y"},
         .call =
             [f](const OpArgs& a) {
               return one(f(a["x"], dims_of(a), a.attrs.integer("correction", 1), keep_of(a)));
             },
         .reference = [ref](const OpArgs& a) { return fold(a, dims_of(a), ref); },
         .cases = {{"all", {{3, 5}}},
                   {"last_keep", {{3, 4, 5}}, {{"dims", Dims64{-1}}, {"keepdim", true}}},
                   {"population", {{2, 3, 4, 3}}, {{"dims", Dims64{0, 2}}, {"correction", 0}}},
                   {"first", {{7, 33}}, {{"dims", Dims64{0}}}},
                   {"middle", {{2, 130, 3}}, {{"dims", Dims64{1}}}},
                   {"long_row", {{2, 5000}}, {{"dims", Dims64{1}}}}}});
}

// Along one axis, with values and indices.
void add_along(OpTable& t, const char* name, const char* summary, const char* what,
               std::function<std::vector<Var>(const OpArgs&)> call, Fold values, Fold indices) {
  std::vector<std::string> outputs;
  if (values != nullptr) outputs.emplace_back("values");
  outputs.emplace_back(what);
  t.add({.name = name,
         .summary = summary,
         .inputs = {{"x"}},
         .attrs = {{"dim", "", "the axis"}, {"keepdim", "false", "does it stay, with size 1?"}},
         .outputs = outputs,
         .call = std::move(call),
         .reference =
             [=](const OpArgs& a) {
               const std::vector<int> dims{static_cast<int>(a.attrs.integer("dim"))};
               std::vector<Tensor> y;
               if (values != nullptr) y.push_back(fold(a, dims, values)[0]);
               y.push_back(fold(a, dims, indices)[0]);
               return y;
             },
         .cases = {{"last", {{{4, 37}, Fill::distinct}}, {{"dim", -1}}},
                   {"first", {{{9, 140}, Fill::distinct}}, {{"dim", 0}}},
                   {"middle", {{{2, 5, 3}, Fill::distinct}}, {{"dim", 1}, {"keepdim", true}}},
                   {"one", {{{3, 1}, Fill::distinct}}, {{"dim", 1}}},
                   {"ties", {{{6, 40}, Fill::index, 3}}, {{"dim", 1}}},
                   {"column_ties", {{{40, 6}, Fill::index, 3}}, {{"dim", 0}}},
                   {"vector", {{{12}, Fill::distinct}}, {{"dim", 0}}}}});
}

std::vector<Tensor> cumsum_reference(const OpArgs& args) {
  const Tensor& x = args.tensor("x");
  const int dim = normalize_axis(static_cast<int>(args.attrs.integer("dim")), x.rank(), "cumsum");
  auto v = doubles(x);
  int64_t stride = 1;
  for (int i = dim + 1; i < x.rank(); ++i) stride *= x.dim(i);
  for_each_index(x.shape(), [&](const Shape& index, int64_t flat) {
    if (index[dim] > 0) v[static_cast<size_t>(flat)] += v[static_cast<size_t>(flat - stride)];
  });
  return {f64_tensor(v, x.shape())};
}

}  // namespace

void add_reduce_ops(OpTable& table) {
  const auto dim = [](const OpArgs& a) { return static_cast<int>(a.attrs.integer("dim")); };
  const auto normal = cases_over_dims(Fill::normal), distinct = cases_over_dims(Fill::distinct);
  const OpCase empty{"empty", {{3, 0}}, {{"dims", Dims64{1}}}};
  add_fold(table, "sum", "sum over axes", sum, sum_ref,
           with(with(normal, empty), {"long_row", {{2, 9000}}, {{"dims", Dims64{1}}}}));
  add_fold(table, "mean", "mean over axes", mean, mean_ref,
           with(normal, {"no_rows", {{0, 3}}, {{"dims", Dims64{1}}}}));
  add_deviation(table, "var", "variance over axes", var, var_ref);
  add_deviation(table, "std", "standard deviation over axes", stddev, std_ref);
  add_fold(table, "norm", "Euclidean length over axes", norm, norm_ref, normal);
  add_fold(table, "logsumexp", "log of the sum of e^x", logsumexp, logsumexp_ref,
           with(normal, {"large", {{4, 50}}, {{"dims", Dims64{1}}}, 100}));
  add_fold(table, "prod", "product over axes", prod, prod_ref,
           with({{"last", {{{3, 6}, Fill::off_zero}}, {{"dims", Dims64{1}}}},
                 {"first", {{{5, 3}, Fill::off_zero}}, {{"dims", Dims64{0}}, {"keepdim", true}}},
                 {"apart", {{{2, 3, 4}, Fill::positive}}, {{"dims", Dims64{0, 2}}}}},
                empty));
  add_fold(table, "amax", "largest element over axes", amax, max_ref, distinct);
  add_fold(table, "amin", "smallest element over axes", amin, min_ref, distinct);
  const std::vector<OpCase> flags = {
      {"rows", {{{40, 3}, Fill::flags}}, {{"dims", Dims64{1}}}},
      {"columns", {{{3, 40}, Fill::flags}}, {{"dims", Dims64{0}}, {"keepdim", true}}},
      {"all", {{{2, 2}, Fill::normal}}}};
  add_fold(table, "any", "is any element not 0?", any, any_ref, flags, false);
  add_fold(table, "all", "are all elements not 0?", all, all_ref, flags, false);
  add_along(
      table, "max", "largest element along an axis; the first of equals", "indices",
      [dim](const OpArgs& a) {
        const Extremum m = max(a["x"], dim(a), keep_of(a));
        return std::vector<Var>{m.values, m.indices};
      },
      max_ref, argmax_ref);
  add_along(
      table, "min", "smallest element along an axis; the first of equals", "indices",
      [dim](const OpArgs& a) {
        const Extremum m = min(a["x"], dim(a), keep_of(a));
        return std::vector<Var>{m.values, m.indices};
      },
      min_ref, argmin_ref);
  add_along(
      table, "argmax", "index of the largest element", "y",
      [dim](const OpArgs& a) { return one(argmax(a["x"], dim(a), keep_of(a))); }, nullptr,
      argmax_ref);
  add_along(
      table, "argmin", "index of the smallest element", "y",
      [dim](const OpArgs& a) { return one(argmin(a["x"], dim(a), keep_of(a))); }, nullptr,
      argmin_ref);
  table.add({.name = "cumsum",
             .summary = "running sum along an axis",
             .inputs = {{"x"}},
             .attrs = {{"dim", "", "the axis"}},
             .outputs = {"y"},
             .call = [dim](const OpArgs& a) { return one(cumsum(a["x"], dim(a))); },
             .reference = cumsum_reference,
             .cases = {{"last", {{3, 7}}, {{"dim", 1}}},
                       {"first", {{5, 150}}, {{"dim", 0}}},
                       {"long_row", {{2, 700}}, {{"dim", 1}}},
                       {"middle", {{2, 6, 3}}, {{"dim", -2}}},
                       {"one", {{3, 1}}, {{"dim", 1}}},
                       {"empty", {{0, 3}}, {{"dim", 0}}},
                       {"vector", {{40}}, {{"dim", 0}}}}});
}

}  // namespace tenun
