#include "tenun/ops/resize.h"

#include <cmath>

#include "tenun/ops/cases/pairs.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

ResizeOptions options_of(const Attrs& a) {
  check(!a.flag("align_corners", false), "resize",
        "align_corners = true is not offered: pixel centres lie at k + 1/2");
  ResizeOptions o{.mode = resize_mode(a.text("mode", "bilinear")),
                  .antialias = a.flag("antialias", false),
                  .cubic_a = a.real("cubic_a", -0.75)};
  if (a.has("scale_factor")) {
    const std::vector<double> s = a.reals("scale_factor");
    check(s.size() == 1 || s.size() == 2, "resize", "scale_factor must be one number or [h, w]");
    o.scale_h = s.front(), o.scale_w = s.back();
  }
  return o;
}

// From the definition: the two-dimensional weight of every pair of pixels, without tables.
std::vector<Tensor> resize_reference(const OpArgs& args) {
  const Tensor& x = args.tensor("x");
  const auto v = doubles(x);
  const Pair size = pair_of(args.attrs, "size", {});
  const std::string mode = args.attrs.text("mode", "bilinear");
  const bool antialias = args.attrs.flag("antialias", false);
  const double a = args.attrs.real("cubic_a", -0.75);
  const auto scales = args.attrs.reals("scale_factor", std::vector<double>{});
  const auto shape_of_kernel = [&](double t) {
    t = std::abs(t);
    if (mode == "bilinear") return t < 1 ? 1 - t : 0.0;
    if (t < 1) return (a + 2) * t * t * t - (a + 3) * t * t + 1;
    return t < 2 ? a * t * t * t - 5 * a * t * t + 8 * a * t - 4 * a : 0.0;
  };
  const auto weights = [&](int64_t in, int64_t out, int64_t i, double scale) {
    std::vector<double> w(static_cast<size_t>(in));
    const double step = scale > 0 ? 1 / scale : static_cast<double>(in) / static_cast<double>(out);
    const double centre = (static_cast<double>(i) + 0.5) * step - 0.5;
    if (mode == "nearest") {
      w[static_cast<size_t>(
          std::min(in - 1, static_cast<int64_t>(static_cast<double>(i) * step)))] = 1;
    } else if (antialias) {
      const double stretch = std::max(step, 1.0);
      double sum = 0;
      for (int64_t j = 0; j < in; ++j)
        sum += w[static_cast<size_t>(j)] =
            shape_of_kernel((static_cast<double>(j) - centre) / stretch);
      for (double& u : w) u /= sum;
    } else {
      for (int64_t j = -8; j < in + 8; ++j)  // far enough for the cases
        w[static_cast<size_t>(std::min(in - 1, std::max<int64_t>(j, 0)))] +=
            shape_of_kernel(static_cast<double>(j) - centre);
    }
    return w;
  };
  const Shape out{x.dim(0), x.dim(1), size.h, size.w};
  std::vector<double> y(static_cast<size_t>(out.numel()));
  for_each_index(out, [&](const Shape& at, int64_t flat) {
    const auto wh = weights(x.dim(2), size.h, at[2], scales.empty() ? 0 : scales.front());
    const auto ww = weights(x.dim(3), size.w, at[3], scales.empty() ? 0 : scales.back());
    for (int64_t i = 0; i < x.dim(2); ++i)
      for (int64_t j = 0; j < x.dim(3); ++j)
        y[static_cast<size_t>(flat)] +=
            wh[static_cast<size_t>(i)] * ww[static_cast<size_t>(j)] *
            v[static_cast<size_t>(flat_index({at[0], at[1], i, j}, x.shape()))];
  });
  return {f64_tensor(y, out)};
}

}  // namespace

void add_resize_ops(OpTable& table) {
  using List = std::vector<int64_t>;
  using Reals = std::vector<double>;
  table.add(
      {.name = "resize",
       .summary = "resizing of images: nearest, bilinear, bicubic, with or without antialias",
       .inputs = {{"x"}},
       .attrs = {{"size", "", "[h, w] or one number"},
                 {"mode", "bilinear", "nearest, bilinear or bicubic"},
                 {"antialias", "false", "stretch the kernel when the image shrinks"},
                 {"cubic_a", "-0.75", "Keys's parameter"},
                 {"align_corners", "false", "only false is offered"},
                 {"scale_factor", "size / input size", "replaces the ratio in the map"}},
       .outputs = {"y"},
       .call =
           [](const OpArgs& a) {
             return one(resize(a["x"], pair_of(a.attrs, "size", {}), options_of(a.attrs)));
           },
       .reference = resize_reference,
       .cases = {
           {"bilinear_up", {{2, 1, 4, 5}}, {{"size", List{11, 7}}}},
           {"bilinear_down", {{1, 2, 9, 8}}, {{"size", List{5, 3}}}},
           {"bilinear_antialias", {{1, 2, 17, 12}}, {{"size", List{5, 7}}, {"antialias", true}}},
           {"antialias_up", {{1, 2, 3, 4}}, {{"size", 7}, {"antialias", true}}},
           {"bicubic_up", {{2, 1, 5, 7}}, {{"size", List{9, 16}}, {"mode", "bicubic"}}},
           {"bicubic_down", {{1, 2, 16, 13}}, {{"size", List{14, 4}}, {"mode", "bicubic"}}},
           {"bicubic_antialias",
            {{1, 2, 17, 13}},
            {{"size", List{6, 4}}, {"mode", "bicubic"}, {"antialias", true}, {"cubic_a", -0.5}}},
           {"bicubic_antialias_up_down",
            {{1, 1, 5, 12}},
            {{"size", List{8, 3}}, {"mode", "bicubic"}, {"antialias", true}}},
           {"scale_factor",
            {{1, 3, 9, 9}},
            {{"size", 4}, {"mode", "bicubic"}, {"scale_factor", Reals{0.4555555555, 0.5}}}},
           {"one_pixel", {{1, 2, 1, 1}}, {{"size", List{3, 2}}, {"mode", "bicubic"}}},
           {"to_one_pixel", {{2, 1, 4, 3}}, {{"size", 1}, {"antialias", true}}},
           {"same_size", {{1, 1, 6, 5}}, {{"size", List{6, 5}}, {"mode", "bicubic"}}},
           {"empty_batch", {{0, 2, 4, 4}}, {{"size", 3}}},
           {"nearest_up", {{1, 2, 3, 4}}, {{"size", List{7, 8}}, {"mode", "nearest"}}},
           {"nearest_down", {{1, 1, 8, 5}}, {{"size", List{3, 2}}, {"mode", "nearest"}}}}});
}

}  // namespace tenun
