// Shapes: the outlines that batik motifs are put together from, each around the origin of its pen.
// Petals and leaves grow from the origin along +x to (length, 0); `wide` is the full width.
#pragma once
#include <algorithm>

#include "tenun/train/batik/canvas.h"

namespace tenun::batik {

/// Pointed at both ends, the tip bent sideways by `bend`.
[[nodiscard]] Path leaf(float length, float wide, float bend = 0);
/// Pointed at the origin, round at the far end; `notch` pushes the end in, as in a rose petal.
[[nodiscard]] Path petal(float length, float wide, float notch = 0);
/// n copies of a part, turned around the origin.
[[nodiscard]] Path around(int n, const Path& part, float first = 0);
[[nodiscard]] Path star(int points, float outer, float inner, float first = 0);
/// A closed ring of n outward bumps.
[[nodiscard]] Path scallops(int n, float r, float bump, float first = 0);
[[nodiscard]] Path diamond(float rx, float ry);
[[nodiscard]] Path rectangle(Vec2 centre, float w, float h);
/// The centre line of a spiral from radius r0 at angle `from`, `turns` around, to r1.
[[nodiscard]] Path spiral(float r0, float r1, float from, float turns);
/// A line from a to b that swings to one side, and an S.
[[nodiscard]] Path arc(Vec2 a, Vec2 b, float bulge);
[[nodiscard]] Path swing(Vec2 a, Vec2 b, float bulge);

/// A point and the direction of a smooth curve through `through` at t in [0, 1].
struct Station {
  Vec2 at;
  float heading;
};
[[nodiscard]] Station along(std::span<const Vec2> through, float t);

/// Repeats cell(pen, i, j) at i*u + j*v for every cell whose disc of radius `reach` may show.
template <class Cell>
void lattice(const Pen& pen, Vec2 u, Vec2 v, float reach, Cell&& cell) {
  const Affine to_cell = (pen.map() * Affine{u.x, u.y, v.x, v.y, 0, 0}).inverse();
  const Canvas::Box box = pen.canvas().paintable();
  const auto left = static_cast<float>(box.x0), right = static_cast<float>(box.x1);
  const auto top = static_cast<float>(box.y0), bottom = static_cast<float>(box.y1);
  Vec2 lo{1e30f, 1e30f}, hi{-1e30f, -1e30f};
  for (const Vec2 corner :
       {Vec2{left, top}, Vec2{right, top}, Vec2{left, bottom}, Vec2{right, bottom}}) {
    const Vec2 c = to_cell(corner);
    lo = {std::min(lo.x, c.x), std::min(lo.y, c.y)};
    hi = {std::max(hi.x, c.x), std::max(hi.y, c.y)};
  }
  const float area = std::abs(u.x * v.y - u.y * v.x);
  const int more_i = static_cast<int>(reach * length(v) / area) + 1;
  const int more_j = static_cast<int>(reach * length(u) / area) + 1;
  for (int j = static_cast<int>(std::floor(lo.y)) - more_j;
       j <= static_cast<int>(std::ceil(hi.y)) + more_j; ++j)
    for (int i = static_cast<int>(std::floor(lo.x)) - more_i;
         i <= static_cast<int>(std::ceil(hi.x)) + more_i; ++i) {
      const Vec2 p = u * static_cast<float>(i) + v * static_cast<float>(j);
      if (pen.visible(p, reach)) cell(pen.at(p), i, j);
    }
}

}  // namespace tenun::batik
