#include "tenun/ops/conv.h"

#include "tenun/ops/cases/pairs.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::vector<Tensor> conv2d_reference(const OpArgs& args) {
  const Tensor &x = args.tensor("x"), &w = args.tensor("weight");
  const auto xv = doubles(x), wv = doubles(w), bv = doubles(args.tensor("bias"));
  const Pair stride = pair_of(args.attrs, "stride", 1), pad = pair_of(args.attrs, "padding", 0),
             dil = pair_of(args.attrs, "dilation", 1);
  const int64_t groups = args.attrs.integer("groups", 1);
  const int64_t h = x.dim(2), v = x.dim(3), kh = w.dim(2), kw = w.dim(3);
  const Shape out{x.dim(0), w.dim(0), (h + 2 * pad.h - dil.h * (kh - 1) - 1) / stride.h + 1,
                  (v + 2 * pad.w - dil.w * (kw - 1) - 1) / stride.w + 1};
  std::vector<double> y(static_cast<size_t>(out.numel()));
  for_each_index(out, [&](const Shape& at, int64_t flat) {
    double sum = bv.empty() ? 0 : bv[static_cast<size_t>(at[1])];
    const int64_t first = at[1] / (w.dim(0) / groups) * w.dim(1);  // channel 0 of the group
    for (int64_t c = 0; c < w.dim(1); ++c)
      for (int64_t r = 0; r < kh; ++r)
        for (int64_t s = 0; s < kw; ++s) {
          const int64_t i = at[2] * stride.h - pad.h + r * dil.h,
                        j = at[3] * stride.w - pad.w + s * dil.w;
          if (i < 0 || i >= h || j < 0 || j >= v) continue;
          sum += xv[static_cast<size_t>(flat_index({at[0], first + c, i, j}, x.shape()))] *
                 wv[static_cast<size_t>(flat_index({at[1], c, r, s}, w.shape()))];
        }
    y[static_cast<size_t>(flat)] = sum;
  });
  return {f64_tensor(y, out)};
}

}  // namespace

void add_conv_ops(OpTable& table) {
  using List = std::vector<int64_t>;
  table.add(
      {.name = "conv2d",
       .summary = "two-dimensional convolution with stride, padding, dilation and groups",
       .inputs = {{"x"}, {"weight"}, {"bias", true}},
       .attrs = {{"stride", "1", "[h, w] or one number"},
                 {"padding", "0", "zeros on each side, [h, w] or one number"},
                 {"dilation", "1", "distance of the taps, [h, w] or one number"},
                 {"groups", "1", "independent groups of channels"}},
       .outputs = {"y"},
       .call =
           [](const OpArgs& a) {
             return one(conv2d(a["x"], a["weight"], a["bias"],
                               {.stride = pair_of(a.attrs, "stride", 1),
                                .padding = pair_of(a.attrs, "padding", 0),
                                .dilation = pair_of(a.attrs, "dilation", 1),
                                .groups = a.attrs.integer("groups", 1)}));
           },
       .reference = conv2d_reference,
       .cases = {
           {"plain", {{2, 3, 6, 5}, {4, 3, 3, 3}, {4}}},
           {"no_bias", {{1, 2, 4, 4}, {3, 2, 2, 3}}},
           {"one_pixel", {{1, 1, 1, 1}, {1, 1, 1, 1}, {1}}},
           {"empty_batch", {{0, 2, 4, 4}, {3, 2, 3, 3}, {3}}},
           {"padded", {{2, 3, 7, 6}, {4, 3, 3, 3}, {4}}, {{"padding", 1}}},
           {"wide_padding", {{1, 2, 3, 2}, {2, 2, 3, 3}}, {{"padding", List{4, 3}}}},
           {"stride", {{1, 2, 9, 11}, {3, 2, 3, 3}, {3}}, {{"stride", List{2, 3}}}},
           {"stride_padded",
            {{2, 2, 8, 7}, {3, 2, 3, 4}, {3}},
            {{"stride", List{3, 2}}, {"padding", List{2, 1}}}},
           {"dilated",
            {{1, 2, 9, 8}, {2, 2, 3, 2}},
            {{"dilation", List{2, 3}}, {"padding", List{2, 1}}}},
           {"groups", {{2, 4, 5, 6}, {6, 2, 3, 3}, {6}}, {{"groups", 2}, {"padding", 1}}},
           {"depthwise_wide", {{2, 3, 7, 40}, {6, 1, 3, 5}, {6}}, {{"groups", 3}, {"padding", 2}}},
           {"depthwise_stride",
            {{1, 4, 9, 8}, {4, 1, 3, 3}, {4}},
            {{"groups", 4}, {"padding", 1}, {"stride", 2}}},
           {"depthwise", {{2, 5, 6, 5}, {5, 1, 3, 3}, {5}}, {{"groups", 5}, {"padding", 1}}},
           {"pointwise", {{2, 5, 3, 4}, {6, 5, 1, 1}, {6}}},
           {"pointwise_stride", {{1, 3, 5, 5}, {2, 3, 1, 1}, {2}}, {{"stride", 2}}},
           {"patches", {{2, 3, 8, 12}, {5, 3, 4, 4}, {5}}, {{"stride", 4}}},
           {"patches_cropped", {{1, 2, 7, 9}, {3, 2, 3, 2}}, {{"stride", List{3, 2}}}},
           {"row", {{1, 3, 5, 9}, {2, 3, 1, 7}}, {{"padding", List{0, 3}}}},
           // Several blocks of columns, pieces of channels and segments of the sum.
           {"blocks", {{2, 40, 26, 27}, {6, 40, 3, 3}, {6}}, {{"padding", 1}}}}});
}

}  // namespace tenun
