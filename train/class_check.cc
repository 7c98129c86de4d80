#include "tenun/train/class_check.h"

#include <cmath>
#include <numbers>

#include "tenun/core/check.h"

namespace tenun {

std::vector<double> simple_features(const Image& im) {
  std::vector<double> f(27 + 8);
  const double pixels = static_cast<double>(im.rgb.size()) / 3;
  for (size_t i = 0; i < im.rgb.size(); i += 3)
    f[static_cast<size_t>(im.rgb[i] / 86 * 9 + im.rgb[i + 1] / 86 * 3 + im.rgb[i + 2] / 86)] +=
        1 / pixels;
  const auto grey = [&](int x, int y) {
    const uint8_t* p = im.at(x, y);
    return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
  };
  double energy = 1e-9;
  for (int y = 1; y + 1 < im.height; ++y)
    for (int x = 1; x + 1 < im.width; ++x) {
      const double dx = grey(x + 1, y) - grey(x - 1, y), dy = grey(x, y + 1) - grey(x, y - 1),
                   e = dx * dx + dy * dy;
      const double turn = std::fmod(std::atan2(dy, dx) / std::numbers::pi + 2, 1.0);
      f[27 + static_cast<size_t>(turn * 8) % 8] += e;
      energy += e;
    }
  for (size_t k = 27; k < f.size(); ++k) f[k] /= energy;
  return f;
}

ClassCheck nearest_class_check(const Dataset& real, const std::vector<Image>& images,
                               const std::vector<int64_t>& labels, int64_t per_class) {
  check(images.size() == labels.size(), "nearest_class_check", "{} images, {} labels",
        images.size(), labels.size());
  const size_t classes = real.class_names().size();
  std::vector<std::vector<double>> centroid(classes, std::vector<double>(35));
  std::vector<int64_t> count(classes);
  for (int64_t i = 0; i < real.size(); ++i) {
    // Walk the set in a fixed random-like order, so that few images of every class suffice.
    const int64_t index = static_cast<int64_t>((static_cast<uint64_t>(i) * 7919) %
                                               static_cast<uint64_t>(real.size()));
    bool enough = true;
    for (const int64_t c : count) enough = enough && c >= per_class;
    if (enough) break;
    const Dataset::Item item = real.load(index, {});
    const auto c = static_cast<size_t>(item.label);
    if (count[c] >= per_class) continue;
    ++count[c];
    const auto f = simple_features(item.image);
    for (size_t k = 0; k < f.size(); ++k)
      centroid[c][k] += (f[k] - centroid[c][k]) / static_cast<double>(count[c]);
  }
  ClassCheck r;
  std::vector<double> right(classes), total(classes);
  for (size_t i = 0; i < images.size(); ++i) {
    const auto f = simple_features(images[i]);
    size_t best = 0;
    double least = HUGE_VAL;
    for (size_t c = 0; c < classes; ++c) {
      double d = 0;
      for (size_t k = 0; k < f.size(); ++k) d += (f[k] - centroid[c][k]) * (f[k] - centroid[c][k]);
      if (count[c] > 0 && d < least) least = d, best = c;
    }
    const auto want = static_cast<size_t>(labels[i]);
    if (want >= classes) continue;
    total[want] += 1;
    right[want] += best == want ? 1 : 0;
    r.share += best == want ? 1.0 / static_cast<double>(images.size()) : 0;
  }
  for (size_t c = 0; c < classes; ++c)
    r.per_class.push_back(total[c] > 0 ? right[c] / total[c] : -1);
  return r;
}

}  // namespace tenun
