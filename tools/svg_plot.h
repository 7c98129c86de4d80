// A line plot on logarithmic axes as SVG text: the pictures of `tenun bench`. No other program is
// needed to draw or to read it.
//
//   SvgPanel p{.title = "forward", .x_label = "tokens", .y_label = "ms"};
//   p.series.push_back({"dense", {1024, 4096}, {3, 48}});
//   p.marks.push_back({2000, "break-even 2000", 1});
//   write_file("plot.svg", svg_plot("attention", {p}));
#pragma once
#include <string>
#include <vector>

namespace tenun::tools {

struct SvgSeries {
  std::string label;
  std::vector<double> x, y;  ///< equally long; values that are not positive and finite are left out
  bool dashed = false;
};
struct SvgMark {
  double x = 0;
  std::string label;
  size_t series = 0;  ///< whose colour it takes
};
struct SvgPanel {
  std::string title, x_label, y_label;
  std::vector<double> x_ticks{};  ///< empty: round numbers
  std::vector<SvgSeries> series{};
  std::vector<SvgMark> marks{};  ///< dashed vertical lines
};

/// Panels side by side, each with its legend below.
[[nodiscard]] std::string svg_plot(const std::string& title, const std::vector<SvgPanel>& panels);

/// Where `value` lies between the logarithms of lo and hi, on a stretch from `from` to `to`.
[[nodiscard]] double log_position(double value, double lo, double hi, double from, double to);
/// 1, 2, 5, 10, 20, ... within [lo, hi], thinned to whole decades where there are more than ten.
[[nodiscard]] std::vector<double> log_ticks(double lo, double hi);
/// Text inside SVG: & < > and quotes replaced.
[[nodiscard]] std::string svg_escape(const std::string& text);

}  // namespace tenun::tools
