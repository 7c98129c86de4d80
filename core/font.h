// A 5x7 bitmap font for labels in plots and contact sheets: printable ASCII, fixed pitch.
// Characters outside it are drawn as '?'. Text that leaves the image is cut at its edge.
//
//   draw_text(image, 4, 4, "loss 0.123", {0, 0, 0}, 2);   // each dot 2x2 pixels
#pragma once
#include <array>
#include <string_view>

#include "tenun/core/image.h"

namespace tenun {

inline constexpr int kGlyphWidth = 5, kGlyphHeight = 7;

/// Pixels from the first to the last column of the text, one dot between characters.
[[nodiscard]] int text_width(std::string_view text, int scale = 1);
/// (x, y) is the top left corner.
void draw_text(Image& image, int x, int y, std::string_view text, std::array<uint8_t, 3> color,
               int scale = 1);

}  // namespace tenun
