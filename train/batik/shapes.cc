#include "tenun/train/batik/shapes.h"

#include <algorithm>

namespace tenun::batik {

Path leaf(float length, float wide, float bend) {
  const float w = 0.67f * wide;
  return Path::start({0, 0})
      .curve({0.25f * length, -w}, {0.65f * length, bend - 0.9f * w}, {length, bend})
      .curve({0.65f * length, bend + 0.9f * w}, {0.25f * length, w}, {0, 0})
      .close();
}

Path petal(float length, float wide, float notch) {
  const float w = 0.5f * wide, end = length * (1 - notch);
  return Path::start({0, 0})
      .curve({0.2f * length, -0.3f * w}, {0.42f * length, -w}, {0.68f * length, -w})
      .curve({0.9f * length, -w}, {1.04f * length, -0.4f * w}, {end, 0})
      .curve({1.04f * length, 0.4f * w}, {0.9f * length, w}, {0.68f * length, w})
      .curve({0.42f * length, w}, {0.2f * length, 0.3f * w}, {0, 0})
      .close();
}

Path around(int n, const Path& part, float first) {
  Path all;
  for (int i = 0; i < n; ++i)
    all.add(part, Affine::turn(first + kTau * static_cast<float>(i) / static_cast<float>(n)));
  return all;
}

Path star(int points, float outer, float inner, float first) {
  std::vector<Vec2> corners;
  for (int i = 0; i < 2 * points; ++i)
    corners.push_back(polar(first + kPi * static_cast<float>(i) / static_cast<float>(points),
                            i % 2 == 0 ? outer : inner));
  return Path::polygon(corners);
}

Path scallops(int n, float r, float bump, float first) {
  const float step = kTau / static_cast<float>(n), out = r + 1.33f * bump;
  Path path = Path::start(polar(first, r));
  for (int i = 0; i < n; ++i) {
    const float a = first + step * static_cast<float>(i);
    path.curve(polar(a + 0.08f * step, out), polar(a + 0.92f * step, out), polar(a + step, r));
  }
  return path.close();
}

Path diamond(float rx, float ry) {
  return Path::polygon(std::array<Vec2, 4>{Vec2{rx, 0}, {0, ry}, {-rx, 0}, {0, -ry}});
}

Path rectangle(Vec2 o, float w, float h) {
  const float x = 0.5f * w, y = 0.5f * h;
  return Path::polygon(std::array<Vec2, 4>{
      Vec2{o.x - x, o.y - y}, {o.x + x, o.y - y}, {o.x + x, o.y + y}, {o.x - x, o.y + y}});
}

Path spiral(float r0, float r1, float from, float turns) {
  const int n = std::max(4, static_cast<int>(std::abs(turns) * 8));
  std::vector<Vec2> points;
  for (int i = 0; i <= n; ++i) {
    const float t = static_cast<float>(i) / static_cast<float>(n);
    points.push_back(polar(from + kTau * turns * t, r0 + (r1 - r0) * t));
  }
  return Path::smooth(points, false);
}

Path arc(Vec2 a, Vec2 b, float bulge) {
  return Path::start(a).quad(mix(a, b, 0.5f) + perp(b - a) * (2 * bulge), b);
}

Path swing(Vec2 a, Vec2 b, float bulge) {
  const Vec2 n = perp(b - a) * (2 * bulge);
  return Path::start(a).curve(mix(a, b, 0.35f) + n, mix(a, b, 0.65f) - n, b);
}

Station along(std::span<const Vec2> through, float t) {
  const int n = static_cast<int>(through.size());
  const auto at = [&](int i) { return through[static_cast<size_t>(std::clamp(i, 0, n - 1))]; };
  const float s = clamp01(t) * static_cast<float>(n - 1);
  const int i = std::min(static_cast<int>(s), n - 2);
  const float f = s - static_cast<float>(i), g = 1 - f;
  const Vec2 a = at(i), b = at(i + 1);
  const Vec2 c1 = a + (b - at(i - 1)) * (1.f / 6), c2 = b - (at(i + 2) - a) * (1.f / 6);
  const Vec2 p = a * (g * g * g) + c1 * (3 * g * g * f) + c2 * (3 * g * f * f) + b * (f * f * f);
  const Vec2 d = (c1 - a) * (g * g) + (c2 - c1) * (2 * g * f) + (b - c2) * (f * f);
  return {p, std::atan2(d.y, d.x)};
}

}  // namespace tenun::batik
