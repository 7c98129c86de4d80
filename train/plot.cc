#include "tenun/train/plot.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/core.h>

#include "tenun/core/font.h"

namespace tenun {
namespace {

using Colour = std::array<uint8_t, 3>;
constexpr std::array<Colour, 4> kColours = {
    {{31, 87, 160}, {190, 70, 30}, {40, 130, 70}, {120, 60, 150}}};

void blend(Image& im, int x, int y, const Colour& c, double a) {
  if (x < 0 || y < 0 || x >= im.width || y >= im.height) return;
  uint8_t* p = im.at(x, y);
  for (size_t k = 0; k < 3; ++k) p[k] = static_cast<uint8_t>(std::lround(p[k] + (c[k] - p[k]) * a));
}

// A round brush along the segment: simple, and smooth at its edges.
void line(Image& im, double x0, double y0, double x1, double y1, const Colour& c, double radius,
          double opacity) {
  const int left = static_cast<int>(std::min(x0, x1) - radius - 1),
            right = static_cast<int>(std::max(x0, x1) + radius + 2);
  const int top = static_cast<int>(std::min(y0, y1) - radius - 1),
            bottom = static_cast<int>(std::max(y0, y1) + radius + 2);
  const double dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
  for (int y = top; y <= bottom; ++y)
    for (int x = left; x <= right; ++x) {
      const double t =
          length > 0 ? std::clamp(((x - x0) * dx + (y - y0) * dy) / length, 0.0, 1.0) : 0;
      const double d = std::hypot(x - x0 - t * dx, y - y0 - t * dy);
      if (d < radius + 0.5) blend(im, x, y, c, opacity * std::min(1.0, radius + 0.5 - d));
    }
}

double round_step(double range, int ticks) {
  const double raw = range / ticks, power = std::pow(10, std::floor(std::log10(raw))),
               part = raw / power;
  return (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10) * power;
}

}  // namespace

Image plot_curves(const std::string& title, const std::vector<Curve>& curves, int width,
                  int height) {
  Image im(width, height);
  std::fill(im.rgb.begin(), im.rgb.end(), uint8_t{255});
  double x0 = HUGE_VAL, x1 = -HUGE_VAL;
  std::vector<double> ys;
  for (const Curve& c : curves)
    for (size_t i = 0; i < c.x.size(); ++i)
      if (std::isfinite(c.y[i]))
        x0 = std::min(x0, c.x[i]), x1 = std::max(x1, c.x[i]), ys.push_back(c.y[i]);
  draw_text(im, 60, 12, title, {40, 40, 40}, 2);
  if (ys.empty()) return im;
  // Outliers of the first steps would flatten the rest: the top is the 99th percentile.
  std::sort(ys.begin(), ys.end());
  double y0 = ys.front(), y1 = ys[(ys.size() - 1) * 99 / 100];
  if (y1 <= y0) y1 = y0 + 1;
  if (x1 <= x0) x1 = x0 + 1;
  y0 -= 0.05 * (y1 - y0), y1 += 0.05 * (y1 - y0);
  const int left = 70, right = width - 20, top = 44, bottom = height - 40;
  const auto px = [&](double x) { return left + (x - x0) / (x1 - x0) * (right - left); };
  const auto py = [&](double y) {
    return bottom - (std::clamp(y, y0, y1) - y0) / (y1 - y0) * (bottom - top);
  };
  const Colour grid{225, 225, 225}, ink{90, 90, 90};
  const double sy = round_step(y1 - y0, 6), sx = round_step(x1 - x0, 8);
  for (double y = std::ceil(y0 / sy) * sy; y <= y1; y += sy) {
    line(im, left, py(y), right, py(y), grid, 0.5, 1);
    const std::string t = fmt::format("{:.4g}", std::abs(y) < sy * 1e-9 ? 0.0 : y);
    draw_text(im, left - 8 - text_width(t, 1), static_cast<int>(py(y)) - 3, t, ink, 1);
  }
  for (double x = std::ceil(x0 / sx) * sx; x <= x1; x += sx) {
    line(im, px(x), top, px(x), bottom, grid, 0.5, 1);
    const std::string t = fmt::format("{:.6g}", x);
    draw_text(im, static_cast<int>(px(x)) - text_width(t, 1) / 2, bottom + 8, t, ink, 1);
  }
  for (size_t k = 0; k < curves.size(); ++k) {
    const Curve& c = curves[k];
    const Colour& colour = kColours[k % kColours.size()];
    const double keep = 1 - 2.0 / (2 + std::max(1.0, static_cast<double>(c.x.size()) / 25));
    double mean = 0, weight = 0, lx = 0, ly = 0, mx = 0, my = 0;
    bool first = true;
    for (size_t i = 0; i < c.x.size(); ++i) {
      if (!std::isfinite(c.y[i])) continue;
      mean = keep * mean + (1 - keep) * c.y[i], weight = keep * weight + (1 - keep);
      const double x = px(c.x[i]), y = py(c.y[i]), m = py(mean / weight);
      if (!first) {
        line(im, lx, ly, x, y, colour, 0.5, 0.25);
        line(im, mx, my, x, m, colour, 1.2, 1);
      }
      first = false, lx = x, ly = y, mx = x, my = m;
    }
    draw_text(im, right - 10 - text_width(c.label, 2), top + 8 + static_cast<int>(k) * 20, c.label,
              colour, 2);
  }
  return im;
}

}  // namespace tenun
