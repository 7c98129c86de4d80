#include "tenun/tools/svg_plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace tenun::tools {
namespace {

// Colours that stay apart in the usual forms of colour blindness (Okabe and Ito 2008).
constexpr std::array<const char*, 8> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#e69f00", "#56b4e9", "#000000", "#999999"};
constexpr double kWidth = 560, kHeight = 400, kLeft = 64, kRight = 16, kTop = 56, kBottom = 48,
                 kLegendRow = 18, kHead = 34;

const char* colour(size_t i) { return kColours[i % kColours.size()]; }

struct Range {
  double lo = HUGE_VAL, hi = 0;
  void take(double v) {
    if (v > 0 && std::isfinite(v)) lo = std::min(lo, v), hi = std::max(hi, v);
  }
  void widen(double factor) { lo /= factor, hi *= factor; }
  [[nodiscard]] bool empty() const { return hi <= 0; }
};

std::string text(double x, double y, const char* anchor, int size, const std::string& t,
                 const std::string& more = "") {
  return fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\"{}>{}</text>\n", x, y,
      anchor, size, more, svg_escape(t));
}

std::string line(double x0, double y0, double x1, double y1, const std::string& style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x0, y0,
                     x1, y1, style);
}

std::string axes(const SvgPanel& p, const Range& x, const Range& y) {
  std::string s;
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  for (const double t : p.x_ticks.empty() ? log_ticks(x.lo, x.hi) : p.x_ticks) {
    if (t < x.lo || t > x.hi) continue;
    const double at = log_position(t, x.lo, x.hi, kLeft, right);
    s += line(at, kTop, at, bottom, "stroke=\"#e4e4e4\"");
    s += text(at, bottom + 16, "middle", 11, fmt::format("{:g}", t));
  }
  for (const double t : log_ticks(y.lo, y.hi)) {
    const double at = log_position(t, y.lo, y.hi, bottom, kTop);
    s += line(kLeft, at, right, at, "stroke=\"#e4e4e4\"");
    s += text(kLeft - 6, at + 4, "end", 11, fmt::format("{:g}", t));
  }
  s += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#888\"/>\n", kLeft,
      kTop, right - kLeft, bottom - kTop);
  s += text((kLeft + right) / 2, bottom + 36, "middle", 12, p.x_label);
  s += text(16, (kTop + bottom) / 2, "middle", 12, p.y_label,
            fmt::format(" transform=\"rotate(-90 16 {:.1f})\"", (kTop + bottom) / 2));
  return s;
}

std::string curve(const SvgSeries& c, size_t index, const Range& x, const Range& y) {
  std::string points, dots;
  const char* const ink = colour(index);
  for (size_t i = 0; i < std::min(c.x.size(), c.y.size()); ++i) {
    if (!(c.x[i] > 0 && c.y[i] > 0 && std::isfinite(c.x[i]) && std::isfinite(c.y[i]))) continue;
    const double px = log_position(c.x[i], x.lo, x.hi, kLeft, kWidth - kRight),
                 py = log_position(c.y[i], y.lo, y.hi, kHeight - kBottom, kTop);
    points += fmt::format("{}{:.1f},{:.1f}", points.empty() ? "" : " ", px, py);
    dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", px, py, ink);
  }
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n",
                     points, ink, c.dashed ? " stroke-dasharray=\"6 4\"" : "") +
         dots;
}

std::string panel(const SvgPanel& p) {
  Range x, y;
  for (const SvgSeries& c : p.series) {
    for (const double v : c.x) x.take(v);
    for (const double v : c.y) y.take(v);
  }
  std::string s = text(kWidth / 2, kTop - 12, "middle", 14, p.title);
  if (x.empty() || y.empty()) return s + text(kWidth / 2, kHeight / 2, "middle", 12, "no values");
  x.widen(1.15), y.widen(1.4);
  s += axes(p, x, y);
  double lower = 0;  // labels of neighbouring marks on different heights
  for (const SvgMark& m : p.marks) {
    if (!(m.x >= x.lo && m.x <= x.hi)) continue;
    const double at = log_position(m.x, x.lo, x.hi, kLeft, kWidth - kRight);
    s += line(at, kTop, at, kHeight - kBottom,
              fmt::format("stroke=\"{}\" stroke-dasharray=\"2 3\"", colour(m.series)));
    const bool left = at > kWidth * 0.7;
    s += text(at + (left ? -4 : 4), kTop + 14 + lower, left ? "end" : "start", 11, m.label,
              fmt::format(" fill=\"{}\"", colour(m.series)));
    lower += 13;
  }
  for (size_t i = 0; i < p.series.size(); ++i) s += curve(p.series[i], i, x, y);
  for (size_t i = 0; i < p.series.size(); ++i) {
    const double at = kHeight + 8 + kLegendRow * static_cast<double>(i);
    s += line(kLeft, at, kLeft + 28, at,
              fmt::format("stroke=\"{}\" stroke-width=\"2\"{}", colour(i),
                          p.series[i].dashed ? " stroke-dasharray=\"6 4\"" : ""));
    s += text(kLeft + 36, at + 4, "start", 12, p.series[i].label);
  }
  return s;
}

}  // namespace

double log_position(double value, double lo, double hi, double from, double to) {
  if (!(hi > lo)) return (from + to) / 2;
  return from + (std::log(value) - std::log(lo)) / (std::log(hi) - std::log(lo)) * (to - from);
}

std::vector<double> log_ticks(double lo, double hi) {
  const auto list = [&](std::initializer_list<double> steps) {
    std::vector<double> t;
    for (double decade = std::pow(10, std::floor(std::log10(lo))); decade <= hi; decade *= 10)
      for (const double s : steps)
        if (decade * s >= lo * (1 - 1e-12) && decade * s <= hi * (1 + 1e-12))
          t.push_back(decade * s);
    return t;
  };
  std::vector<double> ticks = list({1, 2, 5});
  return ticks.size() > 10 ? list({1}) : ticks;
}

std::string svg_escape(const std::string& t) {
  std::string s;
  for (const char c : t) {
    if (c == '&')
      s += "&amp;";
    else if (c == '<')
      s += "&lt;";
    else if (c == '>')
      s += "&gt;";
    else if (c == '"')
      s += "&quot;";
    else
      s += c;
  }
  return s;
}

std::string svg_plot(const std::string& title, const std::vector<SvgPanel>& panels) {
  size_t most = 0;
  for (const SvgPanel& p : panels) most = std::max(most, p.series.size());
  const double width = kWidth * static_cast<double>(std::max<size_t>(panels.size(), 1)),
               height = kHead + kHeight + kLegendRow * static_cast<double>(most) + 16;
  std::string s = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
      width, height);
  s += text(width / 2, 24, "middle", 16, title);
  for (size_t i = 0; i < panels.size(); ++i)
    s += fmt::format("<g transform=\"translate({} {})\">\n{}</g>\n",
                     kWidth * static_cast<double>(i), kHead, panel(panels[i]));
  return s + "</svg>\n";
}

}  // namespace tenun::tools
