// Image: a plain 8-bit RGB picture, row-major, three bytes a pixel, no padding between rows.
// The common currency of the picture files (core/io), the data sets and the plots.
//
//   Image im{4, 2};            // 4 wide, 2 high, black
//   im.at(3, 1)[0] = 255;      // the red of the last pixel
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tenun {

struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;

  Image() = default;
  Image(int w, int h)
      : width(w), height(h), rgb(static_cast<size_t>(w) * static_cast<size_t>(h) * 3) {}

  /// The three bytes of the pixel in column x of row y.
  [[nodiscard]] uint8_t* at(int x, int y) { return rgb.data() + offset(x, y); }
  [[nodiscard]] const uint8_t* at(int x, int y) const { return rgb.data() + offset(x, y); }

 private:
  [[nodiscard]] size_t offset(int x, int y) const {
    return (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) * 3;
  }
};

}  // namespace tenun
