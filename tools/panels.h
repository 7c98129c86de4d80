// Grids of small labelled pictures: what `tenun viz` draws. A panel is a matrix of colours,
// enlarged by a whole number or, where it has more cells than fit, averaged down.
//
//   Panel p{.columns = 64, .rows = 32, .cells = colours, .caption = "head 0"};
//   write_png("maps.png", panel_sheet("block 3", {"sla2, 128 x 64"}, {p}));
#pragma once
#include <array>
#include <string>
#include <vector>

#include "tenun/core/image.h"

namespace tenun::tools {

using Colour = std::array<uint8_t, 3>;

struct Panel {
  int64_t columns = 0, rows = 0;
  std::vector<Colour> cells;     ///< rows x columns, row by row
  std::string caption{};         ///< below; lines are separated by \n
  std::string across{}, down{};  ///< what the columns and the rows are
  int side = 192;                ///< the most pixels of the longer side
};

/// A bar of colours with what its ends stand for, right of the title.
struct ColourBar {
  Colour (*colour)(double) = nullptr;  ///< of 0 to 1; none: no bar
  std::string low{}, high{};
};

/// From white (0) to deep blue (1): for shares and weights.
[[nodiscard]] Colour shade(double weight);
/// From black (0) over purple and orange to light yellow (1), ever brighter: for heat maps.
[[nodiscard]] Colour heat(double weight);
/// Title, lines of text, and the panels: `columns` in a row, or (0) about as many as there are
/// rows.
[[nodiscard]] Image panel_sheet(const std::string& title, const std::vector<std::string>& lines,
                                const std::vector<Panel>& panels, int columns = 0,
                                const ColourBar& bar = {});

}  // namespace tenun::tools
