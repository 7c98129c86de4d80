#include "tenun/ops/resize.h"

#include <algorithm>
#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"

namespace tenun {
namespace {

struct Resize {
  static constexpr const char* name = "resize";
  AxisTable rows, columns;

  Tensor forward(const Ctx&, const Tensor& x) { return resample(x, rows, columns); }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    return {resample(dy, rows.transposed(), columns.transposed())};
  }
};

// The interpolation kernels at distance t.
double kernel_at(double t, const ResizeOptions& o) {
  t = std::abs(t);
  if (o.mode == ResizeMode::bilinear) return std::max(0.0, 1 - t);
  const double a = o.cubic_a;
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return 0;
}

// Taps inside the stretched kernel, renormalised.
void add_antialiased(AxisTable& table, double centre, double step, const ResizeOptions& o) {
  const double stretch = std::max(1.0, step);
  const double reach = (o.mode == ResizeMode::bicubic ? 2.0 : 1.0) * stretch;
  const auto most = static_cast<double>(table.inputs);
  const auto low =
      static_cast<int64_t>(std::clamp(std::floor(centre - reach + 0.5), 0.0, most - 1));
  const auto high = static_cast<int64_t>(
      std::clamp(std::floor(centre + reach + 0.5), static_cast<double>(low) + 1, most));
  std::vector<double> w;
  double sum = 0;
  for (int64_t j = low; j < high; ++j) {
    w.push_back(kernel_at((static_cast<double>(j) + 0.5 - centre) / stretch, o));
    sum += w.back();
  }
  if (sum == 0) {  // a given scale may point outside of the image: the border pixel
    table.add(low, {1.0});
    return;
  }
  for (double& v : w) v /= sum;
  table.add(low, w);
}

// Taps around the centre; those outside of the image add to the border pixel.
void add_plain(AxisTable& table, double centre, const ResizeOptions& o) {
  const double at = centre - 0.5, whole = std::floor(at);
  const int taps = o.mode == ResizeMode::bicubic ? 4 : 2;
  const auto pixel = [&](int k) {  // clamped before the cast: a scale may point far outside
    return static_cast<int64_t>(std::clamp(whole + k, 0.0, static_cast<double>(table.inputs) - 1));
  };
  const int from = 1 - taps / 2;
  const int64_t first = pixel(from);
  std::vector<double> w(static_cast<size_t>(pixel(from + taps - 1) - first + 1));
  for (int k = from; k < from + taps; ++k)
    w[static_cast<size_t>(pixel(k) - first)] += kernel_at(at - (whole + k), o);
  table.add(first, w);
}

}  // namespace

ResizeMode resize_mode(std::string_view name) {
  if (name == "nearest") return ResizeMode::nearest;
  if (name == "bilinear") return ResizeMode::bilinear;
  check(name == "bicubic", "resize", "unknown mode '{}'; modes are nearest, bilinear, bicubic",
        name);
  return ResizeMode::bicubic;
}

AxisTable resize_table(int64_t in, int64_t out, const ResizeOptions& o,
                       std::optional<double> scale) {
  AxisTable table;
  table.inputs = in;
  const double step = scale ? 1 / *scale : static_cast<double>(in) / static_cast<double>(out);
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * step;
    if (o.mode == ResizeMode::nearest) {
      const double pixel = std::floor(static_cast<double>(i) * step);
      table.add(static_cast<int64_t>(std::clamp(pixel, 0.0, static_cast<double>(in - 1))), {1.0});
    } else if (o.antialias) {
      add_antialiased(table, centre, step, o);
    } else {
      add_plain(table, centre, o);
    }
  }
  return table;
}

Var resize(const Var& x, Pair size, const ResizeOptions& o) {
  constexpr const char* op = "resize";
  check<ShapeError>(x.rank() == 4, op, "x must be (B, C, H, W), got {}", x.value());
  check<ShapeError>(x.dim(2) >= 1 && x.dim(3) >= 1, op, "x {} has no pixels", x.value());
  check(size.h >= 1 && size.w >= 1, op, "the size must be at least 1 x 1, got {} x {}", size.h,
        size.w);
  check(!o.antialias || o.mode != ResizeMode::nearest, op,
        "antialias goes with bilinear and bicubic, not with nearest");
  for (const auto& s : {o.scale_h, o.scale_w})
    check(!s || (*s > 0 && std::isfinite(*s)), op, "scale_factor must be positive, got {}",
          s.value_or(0));
  // Same size: every output centre is a pixel centre, the weights are 1 there and 0 elsewhere.
  if (Pair{x.dim(2), x.dim(3)} == size && !o.scale_h && !o.scale_w) return x;
  return apply(Resize{resize_table(x.dim(2), size.h, o, o.scale_h),
                      resize_table(x.dim(3), size.w, o, o.scale_w)},
               x);
}

}  // namespace tenun
