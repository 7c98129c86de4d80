#include "tenun/ops/index.h"

#include <algorithm>
#include <cmath>

#include "tenun/ops/cases/moves.h"

namespace tenun {
namespace {

std::vector<int64_t> integers(const Tensor& t) { return t.values<int64_t>(); }
size_t at(const Index& i, const Shape& s) { return static_cast<size_t>(flat_index(i, s)); }

std::vector<Tensor> gather_reference(const OpArgs& a) {
  const Tensor &x = a.tensor("x"), &index = a.tensor("index");
  const auto ids = integers(index);
  const int d = axis_of(a);
  return moved(x, index.shape(), [&](Index i) {
    i[d] = ids[at(i, index.shape())];
    return i;
  });
}

std::vector<Tensor> take_along_reference(const OpArgs& a) {
  const Tensor &x = a.tensor("x"), &index = a.tensor("index");
  const auto ids = integers(index);
  const int d = axis_of(a);
  Shape out = x.shape();
  for (int i = 0; i < out.size(); ++i)
    if (i == d || out[i] == 1) out[i] = index.dim(i);
  return moved(x, out, [&](Index i) {
    Index from = i;
    for (int k = 0; k < i.size(); ++k) {
      if (index.dim(k) == 1) from[k] = 0;
      if (k != d && x.dim(k) == 1) i[k] = 0;
    }
    i[d] = ids[at(from, index.shape())];
    return i;
  });
}

std::vector<Tensor> scatter_add_reference(const OpArgs& a) {
  const Tensor &x = a.tensor("x"), &index = a.tensor("index"), &src = a.tensor("src");
  auto y = doubles(x);
  const auto ids = integers(index);
  const auto v = doubles(src);
  const int d = axis_of(a);
  for_each_index(index.shape(), [&](const Index& i, int64_t flat) {
    Index to = i;
    to[d] = ids[static_cast<size_t>(flat)];
    y[at(to, x.shape())] += v[at(i, src.shape())];
  });
  return {f64_tensor(y, x.shape())};
}

std::vector<Tensor> index_select_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  const auto ids = integers(a.tensor("index"));
  const int d = axis_of(a);
  Shape out = x.shape();
  out[d] = static_cast<int64_t>(ids.size());
  return moved(x, out, [&](Index i) {
    i[d] = ids[static_cast<size_t>(i[d])];
    return i;
  });
}

std::vector<Tensor> embedding_reference(const OpArgs& a) {
  const Tensor &w = a.tensor("weight"), &ids = a.tensor("ids");
  const auto id = integers(ids);
  Shape out = ids.shape();
  out.push_back(w.dim(1));
  return moved(w, out, [&](const Index& i) {
    const Index front(i.begin(), i.end() - 1);
    return Index{id[at(front, ids.shape())], i.back()};
  });
}

std::vector<Tensor> masked_fill_reference(const OpArgs& a) {
  const Tensor &x = a.tensor("x"), mask = a.tensor("mask").expand(x.shape());
  auto y = doubles(x);
  const auto m = doubles(mask);
  for (size_t i = 0; i < y.size(); ++i)
    if (m[i] != 0) y[i] = a.attrs.real("value");
  return {f64_tensor(y, x.shape())};
}

// Selection by comparing all pairs: the rank of an element is the number of better ones.
std::vector<Tensor> ranked_reference(const Tensor& x, int d, int64_t k, bool largest, bool sorted) {
  Shape out = x.shape(), lines = x.shape();
  out[d] = k, lines[d] = 1;
  const auto v = doubles(x);
  std::vector<double> values(static_cast<size_t>(out.numel())), indices(values.size());
  for_each_index(lines, [&](const Index& line, int64_t) {
    const auto value = [&](int64_t i) {
      Index p = line;
      p[d] = i;
      return v[at(p, x.shape())];
    };
    int64_t next = 0;
    for (int64_t i = 0; i < x.dim(d); ++i) {
      int64_t better = 0;
      for (int64_t j = 0; j < x.dim(d); ++j) {
        const double a = value(j), b = value(i);
        better += (largest ? a > b : a < b) || (a == b && j < i) ? 1 : 0;
      }
      if (better >= k) continue;
      Index p = line;
      p[d] = sorted ? better : next++;
      values[at(p, out)] = value(i);
      indices[at(p, out)] = static_cast<double>(i);
    }
  });
  return {f64_tensor(values, out), f64_tensor(indices, out)};
}

std::vector<Tensor> one_hot_reference(const OpArgs& a) {
  const auto ids = integers(a.tensor("index"));
  Shape out = a.tensor("index").shape();
  out.push_back(a.attrs.integer("classes"));
  return {make(out, [&](const Index& i) {
    const Index front(i.begin(), i.end() - 1);
    return ids[at(front, a.tensor("index").shape())] == i.back() ? 1.0 : 0.0;
  })};
}

std::vector<Tensor> nonzero_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  const auto v = doubles(x);
  std::vector<double> positions;
  for_each_index(x.shape(), [&](const Index& i, int64_t flat) {
    if (v[static_cast<size_t>(flat)] == 0) return;
    for (const int64_t n : i) positions.push_back(static_cast<double>(n));
  });
  const auto count = static_cast<int64_t>(positions.size()) / std::max(x.rank(), 1);
  return {f64_tensor(positions, {count, x.rank()})};
}

const AttrDef kDim{"dim", "0", "the axis"};
Order order_of(const OpArgs& a) {
  return a.attrs.flag("descending", false) ? Order::descending : Order::ascending;
}

void add_picks(OpTable& table) {
  table.add({.name = "gather",
             .summary = "along one axis, the elements that an index of the result's shape names",
             .inputs = {{"x"}, {"index", false, true}},
             .attrs = {kDim},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(gather(a["x"], a["index"], axis_of(a))); },
             .reference = gather_reference,
             .cases = {{"columns", {{4, 6}, {{4, 3}, Fill::index, 6}}, {{"dim", 1}}},
                       {"first", {{5, 3}, {{7, 3}, Fill::index, 5}}, {{"dim", 0}}},
                       {"smaller", {{4, 3, 5}, {{2, 9, 1}, Fill::index, 3}}, {{"dim", 1}}},
                       {"none", {{4, 3}, {{0, 3}, Fill::index, 4}}, {{"dim", 0}}},
                       {"negative", {{2, 2, 17}, {{2, 2, 40}, Fill::index, 17}}, {{"dim", -1}}}}});
  table.add(
      {.name = "take_along",
       .summary = "gather after broadcasting x and index against each other",
       .inputs = {{"x"}, {"index", false, true}},
       .attrs = {kDim},
       .outputs = {"y"},
       .call = [](const OpArgs& a) { return one(take_along(a["x"], a["index"], axis_of(a))); },
       .reference = take_along_reference,
       .cases = {{"shared_index", {{4, 6}, {{1, 3}, Fill::index, 6}}, {{"dim", 1}}},
                 {"shared_x", {{1, 6, 2}, {{3, 4, 1}, Fill::index, 6}}, {{"dim", 1}}}}});
  table.add(
      {.name = "scatter_add",
       .summary = "x plus src at the places that an index names along one axis",
       .inputs = {{"x"}, {"index", false, true}, {"src"}},
       .attrs = {kDim},
       .outputs = {"y"},
       .call =
           [](const OpArgs& a) {
             return one(scatter_add(a["x"], a["index"], a["src"], axis_of(a)));
           },
       .reference = scatter_add_reference,
       .cases = {{"columns", {{3, 5}, {{3, 8}, Fill::index, 5}, {3, 8}}, {{"dim", 1}}},
                 {"rows", {{4, 3}, {{6, 3}, Fill::index, 4}, {6, 3}}, {{"dim", 0}}},
                 {"partial", {{4, 3, 2}, {{3, 5, 1}, Fill::index, 3}, {4, 7, 2}}, {{"dim", 1}}},
                 {"none", {{4, 3}, {{0, 3}, Fill::index, 4}, {2, 3}}, {{"dim", 0}}},
                 {"one_line", {{7}, {{50}, Fill::index, 7}, {50}}, {{"dim", 0}}}}});
  table.add(
      {.name = "index_select",
       .summary = "whole slices of an axis",
       .inputs = {{"x"}, {"index", false, true}},
       .attrs = {kDim},
       .outputs = {"y"},
       .call = [](const OpArgs& a) { return one(index_select(a["x"], a["index"], axis_of(a))); },
       .reference = index_select_reference,
       .cases = {{"rows", {{4, 3}, {{7}, Fill::index, 4}}, {{"dim", 0}}},
                 {"middle", {{2, 5, 3}, {{4}, Fill::index, 5}}, {{"dim", 1}}},
                 {"last", {{3, 6}, {{9}, Fill::index, 6}}, {{"dim", -1}}},
                 {"none", {{4, 3}, {{0}, Fill::index, 4}}, {{"dim", 0}}},
                 {"wide", {{3, 131}, {{20}, Fill::index, 3}}, {{"dim", 0}}}}});
  table.add({.name = "embedding",
             .summary = "rows of a table",
             .inputs = {{"weight"}, {"ids", false, true}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(embedding(a["weight"], a["ids"])); },
             .reference = embedding_reference,
             .cases = {{"batch", {{6, 5}, {{2, 4}, Fill::index, 6}}},
                       {"one_id", {{3, 4}, {{}, Fill::index, 3}}},
                       {"duplicates", {{2, 70}, {{33}, Fill::index, 2}}},
                       {"width_1", {{9, 1}, {{4, 2}, Fill::index, 9}}}}});
  table.add({.name = "masked_fill",
             .summary = "a constant where the mask is not zero",
             .inputs = {{"x"}, {"mask", false, true}},
             .attrs = {{"value", "", "the constant"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(masked_fill(a["x"], a["mask"], a.attrs.real("value")));
                 },
             .reference = masked_fill_reference,
             .cases = {{"same", {{3, 4}, {{3, 4}, Fill::flags}}, {{"value", 2.5}}},
                       {"row", {{2, 3, 5}, {{5}, Fill::flags}}, {{"value", 0}}},
                       {"column", {{4, 3}, {{4, 1}, Fill::flags}}, {{"value", -7}}}}});
}

void add_rankings(OpTable& table) {
  table.add(
      {.name = "topk",
       .summary = "the k best of an axis and their indices",
       .inputs = {{"x"}},
       .attrs = {{"k", "", "how many"},
                 {"dim", "-1", "the axis"},
                 {"largest", "true", "largest or smallest"},
                 {"sorted", "true", "best first; else in the order of the indices"}},
       .outputs = {"values", "indices"},
       .call =
           [](const OpArgs& a) {
             const Ranked r = topk(a["x"], a.attrs.integer("k"), axis_of(a, "dim", -1),
                                   {.largest = a.attrs.flag("largest", true),
                                    .sorted = a.attrs.flag("sorted", true)});
             return std::vector<Var>{r.values, r.indices};
           },
       .reference =
           [](const OpArgs& a) {
             return ranked_reference(a.tensor("x"), axis_of(a, "dim", -1), a.attrs.integer("k"),
                                     a.attrs.flag("largest", true), a.attrs.flag("sorted", true));
           },
       .cases =
           {{"largest", {{{4, 9}, Fill::distinct}}, {{"k", 3}}},
            {"smallest", {{{7, 3}, Fill::distinct}}, {{"k", 2}, {"dim", 0}, {"largest", false}}},
            {"unsorted", {{{2, 11, 3}, Fill::distinct}}, {{"k", 5}, {"dim", 1}, {"sorted", false}}},
            {"all", {{{5}, Fill::distinct}}, {{"k", 5}}},
            {"few_of_many", {{{3, 40}, Fill::distinct}}, {{"k", 4}}},
            {"nothing", {{{3, 4}, Fill::distinct}}, {{"k", 0}}},
            {"one", {{{3, 1}, Fill::distinct}}, {{"k", 1}}}}});
  const std::vector<AttrDef> attrs{{"dim", "-1", "the axis"},
                                   {"descending", "false", "largest first"}};
  table.add(
      {.name = "sort",
       .summary = "sorts along an axis, stable, with the indices",
       .inputs = {{"x"}},
       .attrs = attrs,
       .outputs = {"values", "indices"},
       .call =
           [](const OpArgs& a) {
             const Ranked r = sort(a["x"], axis_of(a, "dim", -1), order_of(a));
             return std::vector<Var>{r.values, r.indices};
           },
       .reference =
           [](const OpArgs& a) {
             const int d = axis_of(a, "dim", -1);
             return ranked_reference(a.tensor("x"), d, a.tensor("x").dim(d),
                                     a.attrs.flag("descending", false), true);
           },
       .cases = {{"rows", {{{3, 10}, Fill::distinct}}},
                 {"descending", {{{6, 4}, Fill::distinct}}, {{"dim", 0}, {"descending", true}}},
                 {"empty", {{{2, 0}, Fill::distinct}}}}});
  table.add(
      {.name = "argsort",
       .summary = "the indices that sort an axis, stable",
       .inputs = {{"x"}},
       .attrs = attrs,
       .outputs = {"indices"},
       .call =
           [](const OpArgs& a) { return one(argsort(a["x"], axis_of(a, "dim", -1), order_of(a))); },
       .reference =
           [](const OpArgs& a) {
             const int d = axis_of(a, "dim", -1);
             return std::vector<Tensor>{ranked_reference(a.tensor("x"), d, a.tensor("x").dim(d),
                                                         a.attrs.flag("descending", false),
                                                         true)[1]};
           },
       .cases = {{"ties", {{{3, 20}, Fill::flags}}},
                 {"ties_descending", {{{20, 2}, Fill::flags}}, {{"dim", 0}, {"descending", true}}}},
       .differentiable = false});
  table.add({.name = "one_hot",
             .summary = "1 at the index, else 0, along a new last axis",
             .inputs = {{"index", false, true}},
             .attrs = {{"classes", "", "size of the new axis"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(one_hot(a.tensor("index"), a.attrs.integer("classes"), DType::f64));
                 },
             .reference = one_hot_reference,
             .cases = {{"batch", {{{3, 4}, Fill::index, 5}}, {{"classes", 5}}},
                       {"empty", {{{0}, Fill::index, 2}}, {{"classes", 2}}}},
             .differentiable = false});
  table.add({.name = "nonzero",
             .summary = "the positions of elements that are not zero, one row for each",
             .inputs = {{"x"}},
             .outputs = {"indices"},
             .call = [](const OpArgs& a) { return one(nonzero(a.tensor("x"))); },
             .reference = nonzero_reference,
             .cases = {{"flags", {{{4, 3, 2}, Fill::flags}}}, {"vector", {{{9}, Fill::flags}}}},
             .differentiable = false});
}

}  // namespace

void add_index_ops(OpTable& table) {
  add_picks(table);
  add_rankings(table);
}

}  // namespace tenun
