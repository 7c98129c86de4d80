#include "tenun/train/batik/finish.h"

#include <algorithm>

namespace tenun::batik {
namespace {

// A crack wanders, is thinner at its ends, and sends out branches at an angle.
void crack(const Pen& pen, Rng rng, Vec2 p, float heading, float reach, float width, int depth) {
  const float step = rng.uniform(0.012f, 0.02f);
  std::vector<Vec2> way{p};
  float drift = 0;
  const int n = std::max(3, static_cast<int>(reach / step));
  for (int i = 0; i < n; ++i) {
    drift = 0.7f * drift + rng.uniform(-0.32f, 0.32f);
    p = p + polar(heading + drift, step * rng.uniform(0.5f, 1.5f));
    way.push_back(p);
    if (depth > 0 && rng.chance(0.11f))
      crack(pen, rng.fork(i, depth), p, heading + rng.sign() * rng.uniform(0.5f, 1.35f),
            reach * rng.uniform(0.15f, 0.5f), width * rng.uniform(0.45f, 0.8f), depth - 1);
  }
  Path path = Path::start(way.front());
  for (size_t i = 1; i < way.size(); ++i) path.line(way[i]);
  pen.line(path, width, {1, 1, 1}, Taper::both);
}

Canvas cracks(int size, const Rng& base, float amount) {
  Canvas canvas(size, {});
  if (amount <= 0) return canvas;
  const Pen pen(canvas);
  Rng rng = base.fork(1);
  // Cloth is crumpled along one or two folds; most cracks follow them.
  const float fold = rng.uniform(0, kPi), second = fold + rng.uniform(0.9f, 1.9f);
  // Now and then brittle wax: many more cracks, and finer ones.
  const bool brittle = rng.chance(0.3f);
  const int n = static_cast<int>(amount * (brittle ? rng.uniform(40, 70) : rng.uniform(10, 28)));
  const float width = brittle ? 0.0023f : 0.0032f;
  for (int i = 0; i < n; ++i) {
    const Vec2 from{rng.uniform(-0.6f, 0.6f), rng.uniform(-0.6f, 0.6f)};
    const float heading = (rng.chance(0.65f) ? fold : second) + rng.uniform(-0.45f, 0.45f);
    const float reach = 0.08f + 0.75f * rng.uniform() * rng.uniform();
    crack(pen, rng.fork(i, 99), from, heading, reach, width * rng.uniform(0.5f, 1.35f), 2);
  }
  return canvas;
}

// The drawing between its pixels. Catmull-Rom weights, because linear ones would blur small
// pictures more than large ones.
Color sample(const Canvas& drawing, Vec2 p) {
  const int last = drawing.size() - 1;
  const auto weights = [](float t) {
    return std::array<float, 4>{t * (-0.5f + t * (1 - 0.5f * t)), 1 + t * t * (-2.5f + 1.5f * t),
                                t * (0.5f + t * (2 - 1.5f * t)), t * t * (-0.5f + 0.5f * t)};
  };
  const float bx = std::floor(p.x), by = std::floor(p.y);
  const auto wx = weights(p.x - bx), wy = weights(p.y - by);
  const int ix = static_cast<int>(bx) - 1, iy = static_cast<int>(by) - 1;
  const bool inside = ix >= 0 && ix + 3 <= last;
  Color sum;
  for (int j = 0; j < 4; ++j) {
    const Color* const line = &drawing.at(0, std::clamp(iy + j, 0, last));
    Color row;
    for (int i = 0; i < 4; ++i) {
      const Color& c = line[inside ? ix + i : std::clamp(ix + i, 0, last)];
      const float w = wx[static_cast<size_t>(i)];
      row = {row.r + w * c.r, row.g + w * c.g, row.b + w * c.b};
    }
    const float w = wy[static_cast<size_t>(j)];
    sum = {sum.r + w * row.r, sum.g + w * row.g, sum.b + w * row.b};
  }
  return sum;
}

}  // namespace

Noise::Noise(Rng rng, int cells)
    : cells_(cells), knots_(static_cast<size_t>(cells + 2) * static_cast<size_t>(cells + 2)) {
  for (float& k : knots_) k = rng.uniform();
}

float Noise::operator()(float x, float y) const {
  x = clamp01(x) * static_cast<float>(cells_);
  y = clamp01(y) * static_cast<float>(cells_);
  const int ix = static_cast<int>(x), iy = static_cast<int>(y);
  float u = x - static_cast<float>(ix), v = y - static_cast<float>(iy);
  u = u * u * (3 - 2 * u);
  v = v * v * (3 - 2 * v);
  const float* k = knots_.data() + static_cast<ptrdiff_t>(iy) * (cells_ + 2) + ix;
  const float top = k[0] + (k[1] - k[0]) * u;
  const float bottom = k[cells_ + 2] + (k[cells_ + 3] - k[cells_ + 2]) * u;
  return top + (bottom - top) * v;
}

void Noise::row(int y, int n, std::vector<float>& out) const {
  out.resize(static_cast<size_t>(n));
  const float step = static_cast<float>(cells_) / static_cast<float>(n);
  const float v = (static_cast<float>(y) + 0.5f) * step;
  const int iy = static_cast<int>(v);
  const float b = smoothstep(0, 1, v - static_cast<float>(iy));
  const float* const k = knots_.data() + static_cast<ptrdiff_t>(iy) * (cells_ + 2);
  int last = -1;
  float left = 0, rise = 0;
  for (int x = 0; x < n; ++x) {
    const float u = (static_cast<float>(x) + 0.5f) * step;
    const int ix = static_cast<int>(u);
    if (ix != last) {
      const float* const a = k + ix;
      left = a[0] + (a[cells_ + 2] - a[0]) * b;
      rise = a[1] + (a[cells_ + 3] - a[1]) * b - left;
      last = ix;
    }
    const float f = u - static_cast<float>(ix);
    out[static_cast<size_t>(x)] = left + rise * (f * f * (3 - 2 * f));
  }
}

Image finish(const Canvas& drawing, const Rng& rng, const Finish& how) {
  const int n = drawing.size();
  const auto side = static_cast<float>(n);
  Rng mood = rng.fork(0);
  const Canvas wax = cracks(n, rng, how.crackle * mood.uniform(0.4f, 1.2f));
  const Noise slow_x(rng.fork(2), 5), slow_y(rng.fork(3), 5);
  const Noise fast_x(rng.fork(4), 24), fast_y(rng.fork(5), 24);
  const Noise soak(rng.fork(6), 4), mottle(rng.fork(7), 22), slub(rng.fork(8), 60);
  const float depth = mood.uniform(0.05f, 0.13f), threads = mood.uniform(95, 125);
  // Threads finer than a pixel average out: the response of a box of one pixel to a wave.
  const float angle = kPi * threads / side;
  const float weave = 0.028f * std::max(0.f, 1 - angle * angle / 6);
  const float slow = 0.007f * how.waver * side, fast = 0.0032f * how.waver * side;
  const auto thread = [&](int i) {
    return std::sin(kTau * threads * (static_cast<float>(i) + 0.5f) / side);
  };
  std::vector<float> warp_threads;
  for (int x = 0; x < n; ++x) warp_threads.push_back(thread(x));

  std::vector<float> sx, sy, fx, fy, wet, spots, yarn;
  Image out(n, n);
  for (int y = 0; y < n; ++y) {
    slow_x.row(y, n, sx);
    slow_y.row(y, n, sy);
    fast_x.row(y, n, fx);
    fast_y.row(y, n, fy);
    soak.row(y, n, wet);
    mottle.row(y, n, spots);
    slub.row(y, n, yarn);
    const float weft_thread = weave * thread(y);
    uint8_t* to = out.at(0, y);
    for (int x = 0; x < n; ++x, to += 3) {
      const auto i = static_cast<size_t>(x);
      Color c =
          sample(drawing, {static_cast<float>(x) + slow * (sx[i] - 0.5f) + fast * (fx[i] - 0.5f),
                           static_cast<float>(y) + slow * (sy[i] - 0.5f) + fast * (fy[i] - 0.5f)});
      const float vein = wax.at(x, y).r;
      if (vein > 0) c = mix(c, how.crack, 0.85f * vein * smoothstep(0.12f, 0.7f, luminance(c)));
      const float shade = 1 + depth * (wet[i] - 0.5f) + 0.05f * (spots[i] - 0.5f) +
                          0.05f * (yarn[i] - 0.5f) + weft_thread * warp_threads[i];
      const auto byte = [&](float value) {
        return static_cast<uint8_t>(255 * clamp01(value * shade) + 0.5f);
      };
      to[0] = byte(c.r);
      to[1] = byte(c.g);
      to[2] = byte(c.b);
    }
  }
  return out;
}

}  // namespace tenun::batik
