#include "tenun/ops/shape.h"

#include "tenun/ops/cases/moves.h"

namespace tenun {
namespace {

// The same elements under another shape.
std::vector<Tensor> relabelled(const Tensor& x, const Shape& shape) {
  return {f64_tensor(doubles(x), shape)};
}

std::vector<Tensor> reshape_reference(const OpArgs& a) {
  Shape s = shape_attr(a, "shape");
  int64_t known = 1;
  for (const int64_t n : s) known *= n == -1 ? 1 : n;
  for (int64_t& n : s)
    if (n == -1) n = a.tensor("x").numel() / known;
  return relabelled(a.tensor("x"), s);
}
std::vector<Tensor> flatten_reference(const OpArgs& a) {
  const Shape& s = a.tensor("x").shape();
  const int from = axis_of(a, "start", 0), to = axis_of(a, "stop", -1);
  Shape out;
  for (int i = 0; i < s.size(); ++i) {
    if (i <= from || i > to)
      out.push_back(s[i]);
    else
      out[from] *= s[i];
  }
  return relabelled(a.tensor("x"), out);
}
std::vector<Tensor> permute_reference(const Tensor& x, const Dims& dims) {
  Shape out;
  for (const int64_t d : dims) out.push_back(x.dim(static_cast<int>(d)));
  return moved(x, out, [&](const Index& i) {
    Index from = i;
    for (int k = 0; k < dims.size(); ++k)
      from[static_cast<int>((dims[k] + x.rank()) % x.rank())] = i[k];
    return from;
  });
}
std::vector<Tensor> expand_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  Shape out = shape_attr(a, "shape");
  const int extra = out.size() - x.rank();
  for (int i = extra; i < out.size(); ++i)
    if (out[i] == -1) out[i] = x.dim(i - extra);
  return moved(x, out, [&](const Index& i) {
    Index from;
    for (int k = 0; k < x.rank(); ++k) from.push_back(x.dim(k) == 1 ? 0 : i[k + extra]);
    return from;
  });
}
std::vector<Tensor> slice_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  const int d = axis_of(a);
  const int64_t n = x.dim(d), step = a.attrs.integer("step", 1);
  int64_t from = a.attrs.integer("start", 0), to = a.attrs.integer("stop", n);
  if (from < 0) from += n;
  if (to < 0) to += n;
  Shape out = x.shape();
  out[d] = 0;
  for (int64_t i = from; i < to; i += step) ++out[d];
  return moved(x, out, [&](Index i) {
    i[d] = from + i[d] * step;
    return i;
  });
}
std::vector<Tensor> select_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  const int d = axis_of(a);
  const int64_t at = a.attrs.integer("index");
  Shape out = x.shape();
  out.erase(d);
  return moved(x, out, [&](Index i) {
    i.insert(d, at < 0 ? at + x.dim(d) : at);
    return i;
  });
}
}  // namespace

void add_shape_ops(OpTable& table) {
  table.add(
      {.name = "view",
       .summary = "other sizes for a row-major tensor, without a copy",
       .inputs = {{"x"}},
       .attrs = {{"shape", "", "the sizes; one may be -1"}},
       .outputs = {"y"},
       .call =
           [](const OpArgs& a) { return one(view(contiguous(a["x"]), shape_attr(a, "shape"))); },
       .reference = reshape_reference,
       .cases = {{"merge", {{3, 4}}, {{"shape", List{12}}}},
                 {"split", {{6, 2}}, {{"shape", List{2, -1, 2}}}},
                 {"rank_0", {{1, 1}}, {{"shape", List{}}}},
                 {"empty", {{0, 3}}, {{"shape", List{3, 0}}}}}});
  table.add({.name = "reshape",
             .summary = "other sizes; a view where the strides allow it, else a copy",
             .inputs = {{"x"}},
             .attrs = {{"shape", "", "the sizes; one may be -1"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(reshape(a["x"], shape_attr(a, "shape"))); },
             .reference = reshape_reference,
             .cases = {{"heads", {{2, 3, 8}}, {{"shape", List{2, 3, 2, 4}}}},
                       {"regroup", {{4, 6}}, {{"shape", List{3, 8}}}},
                       {"rank_6", {{8, 9}}, {{"shape", List{2, 2, 2, 3, 1, -1}}}},
                       {"same", {{2, 5}}, {{"shape", List{2, 5}}}}}});
  table.add({.name = "flatten",
             .summary = "merges the axes start..stop",
             .inputs = {{"x"}},
             .attrs = {{"start", "0", "first axis"}, {"stop", "-1", "last axis, included"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(flatten(a["x"], static_cast<int>(a.attrs.integer("start", 0)),
                                      static_cast<int>(a.attrs.integer("stop", -1))));
                 },
             .reference = flatten_reference,
             .cases = {{"all", {{2, 3, 4}}},
                       {"inner", {{2, 3, 4}}, {{"start", 1}}},
                       {"outer", {{2, 3, 4, 1}}, {{"stop", -3}}}}});
  table.add({.name = "squeeze",
             .summary = "drops an axis of size 1",
             .inputs = {{"x"}},
             .attrs = {{"dim", "", "the axis"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(squeeze(a["x"], axis_of(a))); },
             .reference =
                 [](const OpArgs& a) {
                   Shape s = a.tensor("x").shape();
                   s.erase(axis_of(a));
                   return relabelled(a.tensor("x"), s);
                 },
             .cases = {{"front", {{1, 3}}, {{"dim", 0}}}, {"back", {{3, 2, 1}}, {{"dim", -1}}}}});
  table.add({.name = "unsqueeze",
             .summary = "inserts an axis of size 1",
             .inputs = {{"x"}},
             .attrs = {{"dim", "", "where the new axis stands"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(unsqueeze(a["x"], static_cast<int>(a.attrs.integer("dim"))));
                 },
             .reference =
                 [](const OpArgs& a) {
                   Shape s = a.tensor("x").shape();
                   auto d = static_cast<int>(a.attrs.integer("dim"));
                   s.insert(d < 0 ? d + s.size() + 1 : d, 1);
                   return relabelled(a.tensor("x"), s);
                 },
             .cases = {{"front", {{3}}, {{"dim", 0}}},
                       {"middle", {{3, 2}}, {{"dim", 1}}},
                       {"back", {{3, 2}}, {{"dim", -1}}}}});
  table.add(
      {.name = "permute",
       .summary = "axes in another order",
       .inputs = {{"x"}},
       .attrs = {{"dims", "", "for each new axis the old one"}},
       .outputs = {"y"},
       .call = [](const OpArgs& a) { return one(permute(a["x"], shape_attr(a, "dims"))); },
       .reference =
           [](const OpArgs& a) { return permute_reference(a.tensor("x"), shape_attr(a, "dims")); },
       .cases = {{"rotate", {{2, 3, 4}}, {{"dims", List{2, 0, 1}}}},
                 {"negative", {{2, 3, 4}}, {{"dims", List{-2, 0, -1}}}},
                 {"rank_6", {{2, 1, 3, 2, 1, 2}}, {{"dims", List{5, 3, 1, 0, 2, 4}}}}}});
  table.add({.name = "transpose",
             .summary = "swaps two axes",
             .inputs = {{"x"}},
             .attrs = {{"dim0", "", "one axis"}, {"dim1", "", "the other"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(transpose(a["x"], axis_of(a, "dim0"), axis_of(a, "dim1")));
                 },
             .reference =
                 [](const OpArgs& a) {
                   Dims d;
                   for (int i = 0; i < a.tensor("x").rank(); ++i) d.push_back(i);
                   std::swap(d[axis_of(a, "dim0")], d[axis_of(a, "dim1")]);
                   return permute_reference(a.tensor("x"), d);
                 },
             .cases = {{"matrix", {{3, 5}}, {{"dim0", 0}, {"dim1", 1}}},
                       {"outer", {{2, 3, 4, 2}}, {{"dim0", 0}, {"dim1", -2}}}}});
  table.add({.name = "expand",
             .summary = "repeats axes of size 1 without a copy",
             .inputs = {{"x"}},
             .attrs = {{"shape", "", "the sizes; -1 keeps one"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(expand(a["x"], shape_attr(a, "shape"))); },
             .reference = expand_reference,
             .cases = {{"row", {{1, 4}}, {{"shape", List{3, 4}}}},
                       {"new_axes", {{3, 1}}, {{"shape", List{2, 2, 3, 4}}}},
                       {"keep", {{1, 4, 1}}, {{"shape", List{2, -1, 3}}}},
                       {"scalar", {{}}, {{"shape", List{2, 3}}}}}});
  const std::vector<AttrDef> range{{"dim", "0", "the axis"},
                                   {"start", "0", "first element"},
                                   {"stop", "end", "one past the last element"},
                                   {"step", "1", "distance"}};
  table.add({.name = "slice",
             .summary = "a range of one axis",
             .inputs = {{"x"}},
             .attrs = range,
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(slice(a["x"], axis_of(a), a.attrs.integer("start", 0),
                                    a.attrs.integer("stop", kEnd), a.attrs.integer("step", 1)));
                 },
             .reference = slice_reference,
             .cases = {{"middle", {{2, 7, 3}}, {{"dim", 1}, {"start", 2}, {"stop", 6}}},
                       {"step", {{11, 2}}, {{"start", 1}, {"stop", 10}, {"step", 3}}},
                       {"step_beyond", {{5}}, {{"start", 1}, {"step", 9}}},
                       {"negative", {{3, 8}}, {{"dim", -1}, {"start", -5}, {"stop", -1}}},
                       {"empty", {{4, 3}}, {{"start", 2}, {"stop", 2}}},
                       {"all", {{4, 3}}, {}}}});
  table.add({.name = "select",
             .summary = "one index of an axis, which disappears",
             .inputs = {{"x"}},
             .attrs = {{"dim", "0", "the axis"}, {"index", "", "the index"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(select(a["x"], axis_of(a), a.attrs.integer("index")));
                 },
             .reference = select_reference,
             .cases = {{"first", {{4, 3}}, {{"index", 0}}},
                       {"last", {{2, 3, 4}}, {{"dim", 1}, {"index", -1}}},
                       {"vector", {{5}}, {{"index", 2}}}}});
  table.add({.name = "contiguous",
             .summary = "row-major order in memory",
             .inputs = {{"x"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(contiguous(a["x"])); },
             .reference =
                 [](const OpArgs& a) { return relabelled(a.tensor("x"), a.tensor("x").shape()); },
             .cases = {{"plain", {{3, 4}}}, {"scalar", {{}}}}});
}

}  // namespace tenun
