// Do samples look like their class? A nearest-centroid classifier in a simple feature space (27
// colour bins and 8 gradient directions), with centroids from real images of a data set. Not a
// metric of quality: a sanity check.
#pragma once
#include "tenun/train/data/dataset.h"

namespace tenun {

/// 35 numbers: shares of pixels in 3 x 3 x 3 colour cells, and of gradient energy in 8 directions.
[[nodiscard]] std::vector<double> simple_features(const Image& image);

struct ClassCheck {
  double share = 0;               ///< of images whose nearest centroid is that of their label
  std::vector<double> per_class;  ///< the same by label; -1 where there were none
};
/// Centroids from up to `per_class` images of each class.
[[nodiscard]] ClassCheck nearest_class_check(const Dataset& real, const std::vector<Image>& images,
                                             const std::vector<int64_t>& labels,
                                             int64_t per_class = 200);

}  // namespace tenun
