#include "tenun/tools/panels.h"

#include <algorithm>
#include <cmath>

#include "tenun/core/font.h"

namespace tenun::tools {
namespace {

constexpr int kGap = 20, kMargin = 16, kLabel = 12, kLine = 11;
constexpr Colour kInk{40, 40, 40}, kFaint{120, 120, 120}, kFrame{150, 150, 150};

// Pixels of a panel's sides: cells of equal size, at most p.side pixels for the longer side.
struct Extent {
  int width = 0, height = 0;
  explicit Extent(const Panel& p) {
    const int64_t longer = std::max<int64_t>({p.columns, p.rows, 1});
    const auto side = [&](int64_t cells) {
      return longer <= p.side ? static_cast<int>(cells * (p.side / longer))
                              : static_cast<int>(std::max<int64_t>(1, cells * p.side / longer));
    };
    width = side(p.columns), height = side(p.rows);
  }
};

int lines_of(const std::string& t) {
  return t.empty() ? 0 : 1 + static_cast<int>(std::count(t.begin(), t.end(), '\n'));
}

void draw_lines(Image& im, int x, int y, const std::string& text, const Colour& ink) {
  size_t from = 0;
  for (int i = 0; i < lines_of(text); ++i) {
    const size_t to = std::min(text.find('\n', from), text.size());
    draw_text(im, x, y + i * kLine, text.substr(from, to - from), ink);
    from = to + 1;
  }
}

// The mean of the cells that a pixel covers.
Colour mean_colour(const Panel& p, const Extent& e, int x, int y) {
  const auto range = [](int at, int pixels, int64_t cells) {
    const int64_t from = at * cells / pixels;
    return std::pair{from, std::max(from + 1, (at + 1) * cells / pixels)};
  };
  const auto [x0, x1] = range(x, e.width, p.columns);
  const auto [y0, y1] = range(y, e.height, p.rows);
  std::array<int64_t, 3> sum{};
  for (int64_t r = y0; r < y1; ++r)
    for (int64_t c = x0; c < x1; ++c)
      for (size_t k = 0; k < 3; ++k) sum[k] += p.cells[static_cast<size_t>(r * p.columns + c)][k];
  Colour mean{};
  for (size_t k = 0; k < 3; ++k) mean[k] = static_cast<uint8_t>(sum[k] / ((x1 - x0) * (y1 - y0)));
  return mean;
}

void draw_panel(Image& im, int left, int top, const Panel& p) {
  const Extent e(p);
  for (int y = -1; y <= e.height; ++y)
    for (int x = -1; x <= e.width; ++x) {
      const bool inside = x >= 0 && y >= 0 && x < e.width && y < e.height;
      const Colour c = inside ? mean_colour(p, e, x, y) : kFrame;
      std::copy(c.begin(), c.end(), im.at(left + x, top + y));
    }
  draw_text(im, left, top - kLabel, p.across, kFaint);
  for (size_t i = 0; i < p.down.size(); ++i)  // letter below letter
    draw_text(im, left - kLabel, top + static_cast<int>(i) * (kGlyphHeight + 2),
              std::string(1, p.down[i]), kFaint);
  draw_lines(im, left, top + e.height + 5, p.caption, kInk);
}

Colour between(const Colour& a, const Colour& b, double t) {
  Colour c{};
  for (size_t k = 0; k < 3; ++k) c[k] = static_cast<uint8_t>(std::lround(a[k] + (b[k] - a[k]) * t));
  return c;
}

constexpr int kBarWidth = 160, kBarHeight = 10;

int bar_width(const ColourBar& b) {
  return b.colour == nullptr ? 0 : kBarWidth + text_width(b.low) + text_width(b.high) + 3 * kGap;
}

void draw_bar(Image& im, int left, int top, const ColourBar& b) {
  draw_text(im, left, top + 2, b.low, kFaint);
  left += text_width(b.low) + 6;
  for (int y = -1; y <= kBarHeight; ++y)
    for (int x = -1; x <= kBarWidth; ++x) {
      const bool inside = x >= 0 && y >= 0 && x < kBarWidth && y < kBarHeight;
      const Colour c = inside ? b.colour(static_cast<double>(x) / (kBarWidth - 1)) : kFrame;
      std::copy(c.begin(), c.end(), im.at(left + x, top + y));
    }
  draw_text(im, left + kBarWidth + 6, top + 2, b.high, kFaint);
}

}  // namespace

Colour shade(double weight) {
  return between({255, 255, 255}, {10, 60, 140}, std::clamp(weight, 0.0, 1.0));
}

Colour heat(double weight) {
  constexpr std::array<Colour, 7> kStops{{{0, 0, 8},
                                          {50, 12, 95},
                                          {120, 28, 109},
                                          {190, 55, 84},
                                          {237, 105, 37},
                                          {251, 180, 28},
                                          {252, 255, 180}}};
  const double at = std::clamp(weight, 0.0, 1.0) * (kStops.size() - 1);
  const auto i = std::min(static_cast<size_t>(at), kStops.size() - 2);
  return between(kStops[i], kStops[i + 1], at - static_cast<double>(i));
}

Image panel_sheet(const std::string& title, const std::vector<std::string>& lines,
                  const std::vector<Panel>& panels, int columns, const ColourBar& bar) {
  int cell_w = 0, cell_h = 0, text_w = text_width(title, 2) + bar_width(bar);
  for (const std::string& l : lines) text_w = std::max(text_w, text_width(l));
  for (const Panel& p : panels) {
    const Extent e(p);
    int caption = 0;
    size_t from = 0;
    for (int i = 0; i < lines_of(p.caption); ++i) {
      const size_t to = std::min(p.caption.find('\n', from), p.caption.size());
      caption = std::max(caption, text_width(p.caption.substr(from, to - from)));
      from = to + 1;
    }
    cell_w = std::max(cell_w, std::max({e.width, caption, text_width(p.across)}) + kGap + kLabel);
    cell_h = std::max(cell_h, e.height + kLabel + lines_of(p.caption) * kLine + kGap);
  }
  const int count = static_cast<int>(panels.size());
  if (columns == 0) {
    columns = 1;  // about as wide as high
    while (columns < count && columns * cell_w < (count + columns - 1) / columns * cell_h)
      ++columns;
  }
  const int rows = (count + columns - 1) / columns,
            head = kMargin + 22 + kLine * static_cast<int>(lines.size()) + 8;
  Image im(std::max(columns * cell_w, text_w) + 2 * kMargin, head + rows * cell_h + kMargin);
  std::fill(im.rgb.begin(), im.rgb.end(), uint8_t{255});
  draw_text(im, kMargin, kMargin, title, kInk, 2);
  if (bar.colour != nullptr)
    draw_bar(im, kMargin + text_width(title, 2) + 2 * kGap, kMargin + 2, bar);
  for (size_t i = 0; i < lines.size(); ++i)
    draw_text(im, kMargin, kMargin + 22 + static_cast<int>(i) * kLine, lines[i], kFaint);
  for (int i = 0; i < count; ++i)
    draw_panel(im, kMargin + kLabel + i % columns * cell_w, head + kLabel + i / columns * cell_h,
               panels[static_cast<size_t>(i)]);
  return im;
}

}  // namespace tenun::tools
