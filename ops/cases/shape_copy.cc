#include "tenun/ops/cases/moves.h"
#include "tenun/ops/shape.h"

namespace tenun {
namespace {

std::vector<Padding> padding(const OpArgs& a) {
  const auto before = a.attrs.integers("before"), after = a.attrs.integers("after");
  std::vector<Padding> p;
  for (size_t i = 0; i < std::min(before.size(), after.size()); ++i)
    p.push_back({before[i], after[i]});
  return p;
}

std::vector<Tensor> concat_reference(const std::vector<Var>& xs, int d) {
  Shape out = xs[0].shape();
  out[d] = 0;
  std::vector<std::vector<double>> v;
  for (const Var& x : xs) out[d] += x.dim(d), v.push_back(doubles(x.value()));
  return {make(out, [&](Index i) {
    size_t k = 0;
    while (i[d] >= xs[k].dim(d)) i[d] -= xs[k++].dim(d);
    return v[k][static_cast<size_t>(flat_index(i, xs[k].shape()))];
  })};
}
std::vector<Tensor> stack_reference(const OpArgs& a) {
  const auto xs = a.starting_with("x");
  auto d = static_cast<int>(a.attrs.integer("dim", 0));
  if (d < 0) d += xs[0].rank() + 1;
  Shape out = xs[0].shape();
  out.insert(d, static_cast<int64_t>(xs.size()));
  std::vector<std::vector<double>> v;
  for (const Var& x : xs) v.push_back(doubles(x.value()));
  return {make(out, [&](Index i) {
    const auto k = static_cast<size_t>(i[d]);
    i.erase(d);
    return v[k][static_cast<size_t>(flat_index(i, xs[0].shape()))];
  })};
}
std::vector<Tensor> pieces_reference(const Tensor& x, const std::vector<int64_t>& sizes, int d) {
  std::vector<Tensor> out;
  int64_t at = 0;
  for (const int64_t n : sizes) {
    Shape s = x.shape();
    s[d] = n;
    out.push_back(moved(x, s, [&](Index i) {
      i[d] += at;
      return i;
    })[0]);
    at += n;
  }
  return out;
}
std::vector<Tensor> chunk_reference(const OpArgs& a) {
  const int d = axis_of(a);
  const int64_t n = a.tensor("x").dim(d), count = a.attrs.integer("chunks");
  std::vector<int64_t> sizes;
  for (int64_t rest = n; rest > 0; rest -= sizes.back())
    sizes.push_back(std::min(rest, (n + count - 1) / count));
  return pieces_reference(a.tensor("x"), sizes, d);
}
std::vector<Tensor> pad_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  const auto v = doubles(x);
  std::vector<Padding> p = padding(a);
  p.insert(p.begin(), static_cast<size_t>(x.rank()) - p.size(), {});
  Shape out;
  for (int i = 0; i < x.rank(); ++i)
    out.push_back(p[static_cast<size_t>(i)].before + x.dim(i) + p[static_cast<size_t>(i)].after);
  return {make(out, [&](Index i) {
    for (int k = 0; k < i.size(); ++k) {
      i[k] -= p[static_cast<size_t>(k)].before;
      if (i[k] < 0 || i[k] >= x.dim(k)) return a.attrs.real("value", 0);
    }
    return v[static_cast<size_t>(flat_index(i, x.shape()))];
  })};
}
std::vector<Tensor> repeat_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  Shape out = shape_attr(a, "repeats");
  const int extra = out.size() - x.rank();
  for (int i = extra; i < out.size(); ++i) out[i] *= x.dim(i - extra);
  return moved(x, out, [&](const Index& i) {
    Index from;
    for (int k = 0; k < x.rank(); ++k) from.push_back(i[k + extra] % x.dim(k));
    return from;
  });
}
std::vector<Tensor> interleave_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  const int d = axis_of(a);
  const int64_t r = a.attrs.integer("repeats");
  Shape out = x.shape();
  out[d] *= r;
  return moved(x, out, [&](Index i) {
    i[d] /= r;
    return i;
  });
}
std::vector<Tensor> flip_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  return moved(x, x.shape(), [&](Index i) {
    for (int64_t d : a.attrs.integers("dims")) {
      if (d < 0) d += x.rank();
      const int k = static_cast<int>(d);
      i[k] = x.dim(k) - 1 - i[k];
    }
    return i;
  });
}
std::vector<Tensor> roll_reference(const OpArgs& a) {
  const Tensor& x = a.tensor("x");
  const auto shifts = a.attrs.integers("shifts"), dims = a.attrs.integers("dims");
  return moved(x, x.shape(), [&](Index i) {
    for (size_t s = 0; s < dims.size(); ++s) {
      const int k = static_cast<int>(dims[s] < 0 ? dims[s] + x.rank() : dims[s]);
      const int64_t n = x.dim(k);
      i[k] = ((i[k] - shifts[s]) % n + n) % n;
    }
    return i;
  });
}
std::vector<Tensor> triangle_reference(const OpArgs& a, bool lower) {
  const Tensor& x = a.tensor("x");
  const auto v = doubles(x);
  const int64_t d = a.attrs.integer("diagonal", 0);
  return {make(x.shape(), [&](const Index& i) {
    const int64_t off = i[i.size() - 1] - i[i.size() - 2];
    const bool kept = lower ? off <= d : off >= d;
    return kept ? v[static_cast<size_t>(flat_index(i, x.shape()))] : 0.0;
  })};
}

void add_joins(OpTable& table) {
  table.add({.name = "concat",
             .summary = "joins along an axis",
             .inputs = {{"x*"}},
             .attrs = {{"dim", "0", "the axis"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(concat(a.starting_with("x"), axis_of(a))); },
             .reference =
                 [](const OpArgs& a) { return concat_reference(a.starting_with("x"), axis_of(a)); },
             .cases = {{"two", {{2, 3}, {4, 3}}, {{"dim", 0}}},
                       {"tokens", {{2, 3, 4}, {2, 5, 4}, {2, 1, 4}}, {{"dim", 1}}},
                       {"last", {{3, 1}, {3, 4}}, {{"dim", -1}}},
                       {"empty_piece", {{2, 2}, {2, 0}, {2, 3}}, {{"dim", 1}}},
                       {"single", {{2, 2}}, {{"dim", 1}}}}});
  table.add({.name = "stack",
             .summary = "joins along a new axis",
             .inputs = {{"x*"}},
             .attrs = {{"dim", "0", "where the new axis stands"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(
                       stack(a.starting_with("x"), static_cast<int>(a.attrs.integer("dim", 0))));
                 },
             .reference = stack_reference,
             .cases = {{"front", {{2, 3}, {2, 3}}, {{"dim", 0}}},
                       {"middle", {{2, 3}, {2, 3}, {2, 3}}, {{"dim", 1}}},
                       {"back", {{4}, {4}}, {{"dim", -1}}},
                       {"scalars", {{}, {}, {}}, {}}}});
  table.add(
      {.name = "split",
       .summary = "pieces of given sizes",
       .inputs = {{"x"}},
       .attrs = {{"sizes", "", "one for each piece"}, {"dim", "0", "the axis"}},
       .outputs = {"y*"},
       .call = [](const OpArgs& a) { return split(a["x"], a.attrs.integers("sizes"), axis_of(a)); },
       .reference =
           [](const OpArgs& a) {
             return pieces_reference(a.tensor("x"), a.attrs.integers("sizes"), axis_of(a));
           },
       .cases = {{"three", {{2, 8, 3}}, {{"sizes", List{4, 1, 3}}, {"dim", 1}}},
                 {"empty_piece", {{5, 2}}, {{"sizes", List{2, 0, 3}}}},
                 {"one", {{3, 4}}, {{"sizes", List{4}}, {"dim", -1}}}}});
  table.add(
      {.name = "chunk",
       .summary = "at most `chunks` pieces of equal size, the last one smaller",
       .inputs = {{"x"}},
       .attrs = {{"chunks", "", "how many"}, {"dim", "0", "the axis"}},
       .outputs = {"y*"},
       .call = [](const OpArgs& a) { return chunk(a["x"], a.attrs.integer("chunks"), axis_of(a)); },
       .reference = chunk_reference,
       .cases = {{"even", {{3, 6}}, {{"chunks", 3}, {"dim", 1}}},
                 {"uneven", {{7, 2}}, {{"chunks", 3}}},
                 {"fewer", {{5}}, {{"chunks", 4}}}}});
}

void add_copies(OpTable& table) {
  table.add(
      {.name = "pad",
       .summary = "a constant border around the last axes",
       .inputs = {{"x"}},
       .attrs = {{"before", "", "elements in front, one number for each of the last axes"},
                 {"after", "", "elements behind"},
                 {"value", "0", "the border"}},
       .outputs = {"y"},
       .call =
           [](const OpArgs& a) { return one(pad(a["x"], padding(a), a.attrs.real("value", 0))); },
       .reference = pad_reference,
       .cases = {{"all_axes", {{2, 3}}, {{"before", List{1, 0}}, {"after", List{2, 3}}}},
                 {"image",
                  {{2, 3, 4, 5}},
                  {{"before", List{1, 2}}, {"after", List{1, 2}}, {"value", -1.5}}},
                 {"nothing", {{2, 3}}, {{"before", List{0}}, {"after", List{0}}}},
                 {"empty", {{0, 2}}, {{"before", List{1, 0}}, {"after", List{1, 1}}}}}});
  table.add({.name = "repeat",
             .summary = "tiles",
             .inputs = {{"x"}},
             .attrs = {{"repeats", "", "copies along each axis; more numbers add axes in front"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(repeat(a["x"], shape_attr(a, "repeats"))); },
             .reference = repeat_reference,
             .cases = {{"rows", {{2, 3}}, {{"repeats", List{3, 1}}}},
                       {"both", {{2, 3}}, {{"repeats", List{2, 4}}}},
                       {"new_axis", {{3, 2}}, {{"repeats", List{2, 2, 3}}}},
                       {"none", {{2, 2}}, {{"repeats", List{0, 2}}}}}});
  table.add({.name = "repeat_interleave",
             .summary = "every element several times in a row",
             .inputs = {{"x"}},
             .attrs = {{"repeats", "", "how often"}, {"dim", "0", "the axis"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(repeat_interleave(a["x"], a.attrs.integer("repeats"), axis_of(a)));
                 },
             .reference = interleave_reference,
             .cases = {{"rows", {{2, 3, 2}}, {{"repeats", 3}, {"dim", 1}}},
                       {"last", {{3, 4}}, {{"repeats", 2}, {"dim", -1}}},
                       {"one_row", {{2}}, {{"repeats", 5}}},
                       {"once", {{3, 2}}, {{"repeats", 1}}}}});
  table.add({.name = "flip",
             .summary = "reverses axes",
             .inputs = {{"x"}},
             .attrs = {{"dims", "", "the axes"}},
             .outputs = {"y"},
             .call = [](const OpArgs& a) { return one(flip(a["x"], shape_attr(a, "dims"))); },
             .reference = flip_reference,
             .cases = {{"last", {{3, 5}}, {{"dims", List{-1}}}},
                       {"both", {{3, 4, 2}}, {{"dims", List{0, 1}}}},
                       {"none", {{3}}, {{"dims", List{}}}},
                       {"empty", {{0, 3}}, {{"dims", List{0}}}}}});
  table.add({.name = "roll",
             .summary = "cyclic shifts",
             .inputs = {{"x"}},
             .attrs = {{"shifts", "", "by how much"}, {"dims", "", "along which axes"}},
             .outputs = {"y"},
             .call =
                 [](const OpArgs& a) {
                   return one(roll(a["x"], shape_attr(a, "shifts"), shape_attr(a, "dims")));
                 },
             .reference = roll_reference,
             .cases = {{"one", {{5, 2}}, {{"shifts", List{2}}, {"dims", List{0}}}},
                       {"two", {{4, 5}}, {{"shifts", List{-1, 7}}, {"dims", List{0, -1}}}},
                       {"zero", {{4, 5}}, {{"shifts", List{5}}, {"dims", List{1}}}}}});
  const std::vector<AttrDef> diagonal{{"diagonal", "0", "which one is the border (up is > 0)"}};
  table.add(
      {.name = "tril",
       .summary = "zero above a diagonal of the last two axes",
       .inputs = {{"x"}},
       .attrs = diagonal,
       .outputs = {"y"},
       .call = [](const OpArgs& a) { return one(tril(a["x"], a.attrs.integer("diagonal", 0))); },
       .reference = [](const OpArgs& a) { return triangle_reference(a, true); },
       .cases = {{"square", {{4, 4}}},
                 {"batch", {{2, 3, 5}}, {{"diagonal", 1}}},
                 {"below", {{5, 3}}, {{"diagonal", -2}}},
                 {"everything", {{2, 3}}, {{"diagonal", 9}}}}});
  table.add(
      {.name = "triu",
       .summary = "zero below a diagonal of the last two axes",
       .inputs = {{"x"}},
       .attrs = diagonal,
       .outputs = {"y"},
       .call = [](const OpArgs& a) { return one(triu(a["x"], a.attrs.integer("diagonal", 0))); },
       .reference = [](const OpArgs& a) { return triangle_reference(a, false); },
       .cases = {{"square", {{4, 4}}},
                 {"batch", {{2, 5, 3}}, {{"diagonal", -1}}},
                 {"nothing", {{2, 3}}, {{"diagonal", 9}}}}});
}

}  // namespace

void add_shape_copy_ops(OpTable& table) {
  add_joins(table);
  add_copies(table);
}

}  // namespace tenun
