// The bitmap font of plots and contact sheets.
#include "tenun/core/font.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

using namespace tenun;

TEST_SUITE("core_font") {
  TEST_CASE("glyphs have ink, fit their box and are cut at the edge") {
    CHECK(text_width("") == 0);
    CHECK(text_width("ab", 2) == 22);
    std::set<std::string> shapes;
    for (char c = ' '; c <= '~'; ++c) {
      Image cell(kGlyphWidth + 2, kGlyphHeight + 2);
      draw_text(cell, 1, 1, std::string_view(&c, 1), {255, 255, 255});
      shapes.emplace(cell.rgb.begin(), cell.rgb.end());
      for (int x = 0; x < cell.width; ++x)
        CHECK(cell.at(x, 0)[0] + cell.at(x, cell.height - 1)[0] == 0);
    }
    CHECK(shapes.size() == 95);
    Image tiny(3, 3);
    draw_text(tiny, -2, -2, "#", {9, 8, 7}, 3);
    CHECK(std::any_of(tiny.rgb.begin(), tiny.rgb.end(), [](uint8_t v) { return v == 8; }));
    Image unknown(5, 7), question(5, 7);
    draw_text(unknown, 0, 0, "\x01", {1, 2, 3});
    draw_text(question, 0, 0, "?", {1, 2, 3});
    CHECK(unknown.rgb == question.rgb);
  }
}
