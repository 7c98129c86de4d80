#include "tenun/train/batik/path.h"

#include <algorithm>

namespace tenun::batik {

Path Path::polygon(std::span<const Vec2> corners) {
  Path path = start(corners.front());
  for (const Vec2 p : corners.subspan(1)) path.line(p);
  return path.close();
}

Path Path::smooth(std::span<const Vec2> through, bool closed) {
  const int n = static_cast<int>(through.size());
  const auto at = [&](int i) {
    const int k = closed ? (i % n + n) % n : std::clamp(i, 0, n - 1);
    return through[static_cast<size_t>(k)];
  };
  Path path = start(at(0));
  for (int i = 0; i < (closed ? n : n - 1); ++i) {
    const Vec2 a = at(i), b = at(i + 1);
    path.curve(a + (b - at(i - 1)) * (1.f / 6), b - (at(i + 2) - a) * (1.f / 6), b);
  }
  return closed ? path.close() : path;
}

Path Path::ellipse(Vec2 o, float rx, float ry) {
  const float k = 0.5522847f, kx = k * rx, ky = k * ry;
  return start({o.x + rx, o.y})
      .curve({o.x + rx, o.y + ky}, {o.x + kx, o.y + ry}, {o.x, o.y + ry})
      .curve({o.x - kx, o.y + ry}, {o.x - rx, o.y + ky}, {o.x - rx, o.y})
      .curve({o.x - rx, o.y - ky}, {o.x - kx, o.y - ry}, {o.x, o.y - ry})
      .curve({o.x + kx, o.y - ry}, {o.x + rx, o.y - ky}, {o.x + rx, o.y})
      .close();
}

Path& Path::move(Vec2 p) {
  contours_.push_back({static_cast<int>(points_.size()), false});
  points_.push_back(p);
  return *this;
}

Path& Path::curve(Vec2 c1, Vec2 c2, Vec2 p) {
  points_.insert(points_.end(), {c1, c2, p});
  return *this;
}

Path& Path::close() {
  contours_.back().closed = true;
  return *this;
}

Path& Path::add(const Path& other, const Affine& placed) {
  const int base = static_cast<int>(points_.size());
  for (const Contour& c : other.contours_) contours_.push_back({base + c.first, c.closed});
  for (const Vec2 p : other.points_) points_.push_back(placed(p));
  return *this;
}

void Path::flatten(const Affine& m, float tolerance, Polyline& out) const {
  out.clear();
  for (size_t c = 0; c < contours_.size(); ++c) {
    const auto first = static_cast<size_t>(contours_[c].first);
    const size_t end =
        c + 1 < contours_.size() ? static_cast<size_t>(contours_[c + 1].first) : points_.size();
    out.starts.push_back(static_cast<int>(out.points.size()));
    out.closed.push_back(contours_[c].closed ? 1 : 0);
    Vec2 p0 = m(points_[first]);
    out.points.push_back(p0);
    for (size_t i = first + 1; i + 2 < end; i += 3) {
      const Vec2 p1 = m(points_[i]), p2 = m(points_[i + 1]), p3 = m(points_[i + 2]);
      const Vec2 e0 = p0 - p1 * 2 + p2, e1 = p1 - p2 * 2 + p3;
      const bool straight = points_[i + 1].x == points_[i + 2].x &&
                            points_[i + 1].y == points_[i + 2].y &&
                            points_[i].x == points_[i - 1].x && points_[i].y == points_[i - 1].y;
      const float bend = std::sqrt(std::max(dot(e0, e0), dot(e1, e1)));
      const int n =
          straight
              ? 1
              : std::clamp(static_cast<int>(std::ceil(std::sqrt(0.75f * bend / tolerance))), 1, 64);
      for (int k = 1; k <= n; ++k) {
        const float t = static_cast<float>(k) / static_cast<float>(n), s = 1 - t;
        out.points.push_back(k == n ? p3
                                    : p0 * (s * s * s) + p1 * (3 * s * s * t) +
                                          p2 * (3 * s * t * t) + p3 * (t * t * t));
      }
      p0 = p3;
    }
  }
  out.starts.push_back(static_cast<int>(out.points.size()));
}

}  // namespace tenun::batik
