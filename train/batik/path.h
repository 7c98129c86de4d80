// Path: outlines made of lines and cubic Bezier curves, kept exact until they are drawn, so that
// the same path is smooth at any size. A path may hold several contours; filling is by winding
// number.
//
//   Path leaf = Path::start({0, 0}).curve({.3f, -.3f}, {.7f, -.3f}, {1, 0}).close();
#pragma once
#include <span>
#include <vector>

#include "tenun/train/batik/geometry.h"

namespace tenun::batik {

/// Contours as polylines: contour i is points[starts[i] .. starts[i + 1]).
struct Polyline {
  std::vector<Vec2> points;
  std::vector<int> starts;
  std::vector<char> closed;

  void clear() {
    points.clear();
    starts.clear();
    closed.clear();
  }
};

class Path {
 public:
  [[nodiscard]] static Path start(Vec2 p) { return Path().move(p); }
  [[nodiscard]] static Path polygon(std::span<const Vec2> corners);
  /// The Catmull-Rom spline through the points.
  [[nodiscard]] static Path smooth(std::span<const Vec2> through, bool closed);
  [[nodiscard]] static Path ellipse(Vec2 centre, float rx, float ry);
  [[nodiscard]] static Path circle(Vec2 centre, float r) { return ellipse(centre, r, r); }
  [[nodiscard]] static Path segment(Vec2 a, Vec2 b) { return Path::start(a).line(b); }

  Path& move(Vec2 p);
  Path& line(Vec2 p) { return curve(last(), p, p); }
  Path& curve(Vec2 c1, Vec2 c2, Vec2 p);
  Path& quad(Vec2 c, Vec2 p) { return curve(mix(last(), c, 2.f / 3), mix(p, c, 2.f / 3), p); }
  Path& close();
  Path& add(const Path& other, const Affine& placed = {});

  /// The path under `m` as polylines whose distance from the curve stays below `tolerance`.
  void flatten(const Affine& m, float tolerance, Polyline& out) const;
  [[nodiscard]] const std::vector<Vec2>& controls() const { return points_; }
  [[nodiscard]] bool empty() const { return points_.empty(); }

 private:
  struct Contour {
    int first;
    bool closed;
  };
  [[nodiscard]] Vec2 last() const { return points_.back(); }

  std::vector<Vec2> points_;  // per contour: the start, then three points a segment
  std::vector<Contour> contours_;
};

}  // namespace tenun::batik
