// A small line chart as a picture: loss curves without another program.
#pragma once
#include <string>
#include <vector>

#include "tenun/core/image.h"

namespace tenun {

struct Curve {
  std::string label;
  std::vector<double> x, y;  ///< equally long; values that are not finite are left out
};
/// Axes with round ticks, a faint line through the values and a bold one through their running
/// mean.
[[nodiscard]] Image plot_curves(const std::string& title, const std::vector<Curve>& curves,
                                int width = 900, int height = 480);

}  // namespace tenun
