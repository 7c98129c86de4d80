#include "tenun/ops/patchify.h"

#include <cmath>

#include "tenun/core/check.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

PatchOrder order_of(const OpArgs& a) {
  const std::string name = a.attrs.text("order", "channels_last");
  check(name == "channels_last" || name == "channels_first", "patchify",
        "order '{}' is neither channels_last nor channels_first", name);
  return name == "channels_last" ? PatchOrder::channels_last : PatchOrder::channels_first;
}

std::vector<Tensor> patchify_reference(const OpArgs& args) {
  const Tensor& x = args.tensor("x");
  const auto v = doubles(x);
  const int64_t p = args.attrs.integer("patch"), channels = x.dim(1);
  const Shape shape{x.dim(0), x.dim(2) / p * (x.dim(3) / p), p * p * channels};
  std::vector<double> y(v.size());
  for_each_index(x.shape(), [&](const Shape& i, int64_t flat) {
    const int64_t py = i[2] % p, px = i[3] % p, token = i[2] / p * (x.dim(3) / p) + i[3] / p;
    const int64_t feature = order_of(args) == PatchOrder::channels_last
                                ? (py * p + px) * channels + i[1]
                                : (i[1] * p + py) * p + px;
    y[static_cast<size_t>(flat_index({i[0], token, feature}, shape))] =
        v[static_cast<size_t>(flat)];
  });
  return {f64_tensor(y, shape)};
}

std::vector<Tensor> unpatchify_reference(const OpArgs& args) {
  const Tensor& t = args.tensor("tokens");
  const auto v = doubles(t);
  const int64_t p = args.attrs.integer("patch"), channels = args.attrs.integer("channels");
  const auto grid = std::llround(std::sqrt(static_cast<double>(t.dim(1))));
  const Shape shape{t.dim(0), channels, grid * p, grid * p};
  std::vector<double> y(v.size());
  for_each_index(shape, [&](const Shape& i, int64_t flat) {
    const int64_t feature = (i[2] % p * p + i[3] % p) * channels + i[1];
    y[static_cast<size_t>(flat)] =
        v[static_cast<size_t>(flat_index({i[0], i[2] / p * grid + i[3] / p, feature}, t.shape()))];
  });
  return {f64_tensor(y, shape)};
}

}  // namespace

void add_patchify_ops(OpTable& table) {
  table.add(
      {.name = "patchify",
       .summary = "image (B, C, H, W) to tokens (B, T, p p C)",
       .inputs = {{"x"}},
       .attrs = {{"patch", "", "side of a patch"},
                 {"order", "channels_last", "channels_last or channels_first"}},
       .outputs = {"y"},
       .call =
           [](const OpArgs& a) {
             return one(patchify(a["x"], a.attrs.integer("patch"), order_of(a)));
           },
       .reference = patchify_reference,
       .cases = {
           {"p2", {{2, 3, 6, 6}}, {{"patch", 2}}},
           {"p4_gray", {{1, 1, 8, 8}}, {{"patch", 4}}},
           {"p1", {{2, 3, 2, 2}}, {{"patch", 1}}},
           {"wide", {{1, 2, 4, 10}}, {{"patch", 2}}},
           {"convolution_order", {{2, 3, 6, 4}}, {{"patch", 2}, {"order", "channels_first"}}}}});
  table.add({.name = "unpatchify",
             .summary = "tokens (B, G G, p p C) to image (B, C, G p, G p)",
             .inputs = {{"tokens"}},
             .attrs = {{"patch", "", "side of a patch"}, {"channels", "", "channels of the image"}},
             .outputs = {"image"},
             .call =
                 [](const OpArgs& a) {
                   return one(unpatchify(a["tokens"], a.attrs.integer("patch"),
                                         a.attrs.integer("channels")));
                 },
             .reference = unpatchify_reference,
             .cases = {{"p2", {{2, 9, 12}}, {{"patch", 2}, {"channels", 3}}},
                       {"p4_gray", {{1, 4, 16}}, {{"patch", 4}, {"channels", 1}}},
                       {"one_token", {{2, 1, 27}}, {{"patch", 3}, {"channels", 3}}},
                       {"p1", {{1, 4, 5}}, {{"patch", 1}, {"channels", 5}}}}});
}

}  // namespace tenun
