// What convolutions and pooling share: pairs of sizes (height, width) and the arithmetic of sliding
// windows.
//   Pair stride = 2;   Pair kernel = {1, 7};
#pragma once
#include <cstdint>

#include "tenun/core/layout.h"

namespace tenun {

/// A size for the two axes of an image; one number means both.
struct Pair {
  int64_t h, w;
  constexpr Pair(int64_t both) : h(both), w(both) {}  // NOLINT: implicit on purpose
  constexpr Pair(int64_t height, int64_t width) : h(height), w(width) {}
  constexpr bool operator==(const Pair&) const = default;
};

/// How windows slide over an image.
struct Windows {
  Pair kernel = 1, stride = 1, padding = 0, dilation = 1;
};

/// How many windows fit: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1 for
/// each axis of x (B, C, H, W). Checks the numbers; ShapeError where nothing fits.
[[nodiscard]] Pair window_counts(const Shape& x, const Windows& w, const char* op);

}  // namespace tenun
