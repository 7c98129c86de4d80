#include "tenun/ops/pool.h"

#include <cmath>

#include "tenun/ops/cases/pairs.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

PoolOptions options_of(const Attrs& a) {
  PoolOptions o{.kernel = pair_of(a, "kernel", {}), .padding = pair_of(a, "padding", 0)};
  if (a.has("stride")) o.stride = pair_of(a, "stride", {});
  o.count_include_pad = a.flag("count_include_pad", true);
  return o;
}

// Calls f for the pixels of each window and collects what `finish` makes of them.
std::vector<Tensor> windows_reference(
    const OpArgs& args, const std::function<double(const std::vector<double>&, int64_t)>& finish) {
  const Tensor& x = args.tensor("x");
  const auto v = doubles(x);
  const Pair k = pair_of(args.attrs, "kernel", {}), s = pair_of(args.attrs, "stride", k),
             p = pair_of(args.attrs, "padding", 0);
  const Shape out{x.dim(0), x.dim(1), (x.dim(2) + 2 * p.h - k.h) / s.h + 1,
                  (x.dim(3) + 2 * p.w - k.w) / s.w + 1};
  std::vector<double> y(static_cast<size_t>(out.numel()));
  for_each_index(out, [&](const Shape& at, int64_t flat) {
    std::vector<double> inside;
    for (int64_t r = 0; r < k.h; ++r)
      for (int64_t c = 0; c < k.w; ++c) {
        const int64_t i = at[2] * s.h - p.h + r, j = at[3] * s.w - p.w + c;
        if (i >= 0 && i < x.dim(2) && j >= 0 && j < x.dim(3))
          inside.push_back(v[static_cast<size_t>(flat_index({at[0], at[1], i, j}, x.shape()))]);
      }
    y[static_cast<size_t>(flat)] = finish(inside, k.h * k.w);
  });
  return {f64_tensor(y, out)};
}

std::vector<Tensor> max_reference(const OpArgs& args) {
  return windows_reference(args, [](const std::vector<double>& v, int64_t) {
    double m = -INFINITY;
    for (double x : v) m = std::max(m, x);
    return m;
  });
}

std::vector<Tensor> avg_reference(const OpArgs& args) {
  const bool all = args.attrs.flag("count_include_pad", true);
  return windows_reference(args, [all](const std::vector<double>& v, int64_t n) {
    double sum = 0;
    for (double x : v) sum += x;
    return sum / static_cast<double>(all ? n : static_cast<int64_t>(v.size()));
  });
}

}  // namespace

void add_pool_ops(OpTable& table) {
  using List = std::vector<int64_t>;
  const AttrDef kernel{"kernel", "", "[h, w] or one number"},
      stride{"stride", "the kernel", "[h, w] or one number"},
      padding{"padding", "0", "on each side, at most half of the kernel"};
  table.add(
      {.name = "max_pool2d",
       .summary = "largest value of sliding windows; padding is -infinity",
       .inputs = {{"x"}},
       .attrs = {kernel, stride, padding},
       .outputs = {"y"},
       .call = [](const OpArgs& a) { return one(max_pool2d(a["x"], options_of(a.attrs))); },
       .reference = max_reference,
       .cases = {{"k2s2", {{{2, 3, 6, 8}, Fill::distinct}}, {{"kernel", 2}}},
                 {"cropped", {{{1, 2, 5, 7}, Fill::distinct}}, {{"kernel", 2}}},
                 {"overlap", {{{1, 2, 9, 7}, Fill::distinct}}, {{"kernel", 3}, {"stride", 2}}},
                 {"padded",
                  {{{2, 2, 5, 6}, Fill::distinct}},
                  {{"kernel", 3}, {"stride", 1}, {"padding", 1}}},
                 {"row",
                  {{{1, 2, 4, 9}, Fill::distinct}},
                  {{"kernel", List{1, 4}}, {"stride", List{2, 3}}, {"padding", List{0, 2}}}},
                 {"one", {{{1, 1, 1, 1}, Fill::distinct}}, {{"kernel", 1}}},
                 {"empty_batch", {{{0, 2, 4, 4}, Fill::distinct}}, {{"kernel", 2}}}}});
  table.add(
      {.name = "avg_pool2d",
       .summary = "mean of sliding windows",
       .inputs = {{"x"}},
       .attrs = {kernel,
                 stride,
                 padding,
                 {"count_include_pad", "true", "does padding count in the divisor?"}},
       .outputs = {"y"},
       .call = [](const OpArgs& a) { return one(avg_pool2d(a["x"], options_of(a.attrs))); },
       .reference = avg_reference,
       .cases = {{"k2s2", {{2, 2, 6, 4}}, {{"kernel", 2}}},
                 {"include", {{1, 3, 5, 6}}, {{"kernel", 3}, {"stride", 1}, {"padding", 1}}},
                 {"exclude",
                  {{1, 3, 5, 6}},
                  {{"kernel", 3}, {"stride", 1}, {"padding", 1}, {"count_include_pad", false}}},
                 {"gaps", {{1, 2, 8, 9}}, {{"kernel", 2}, {"stride", List{3, 4}}}},
                 {"row",
                  {{2, 1, 5, 7}},
                  {{"kernel", List{1, 5}},
                   {"stride", 2},
                   {"padding", List{0, 2}},
                   {"count_include_pad", false}}},
                 {"empty_batch", {{0, 2, 4, 4}}, {{"kernel", 2}}}}});
}

}  // namespace tenun
