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
  const int n = static_cast<int>(amount * rng.uniform(7, 26));
  for (int i = 0; i < n; ++i) {
    const Vec2 from{rng.uniform(-0.6f, 0.6f), rng.uniform(-0.6f, 0.6f)};
    const float heading = (rng.chance(0.65f) ? fold : second) + rng.uniform(-0.45f, 0.45f);
    const float reach = 0.08f + 0.75f * rng.uniform() * rng.uniform();
    crack(pen, rng.fork(i, 99), from, heading, reach, rng.uniform(0.0016f, 0.0042f), 2);
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
  Color sum;
  for (int j = 0; j < 4; ++j) {
    const int y = std::clamp(iy + j, 0, last);
    Color row;
    for (int i = 0; i < 4; ++i) {
      const Color& c = drawing.at(std::clamp(ix + i, 0, last), y);
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
  const float slow = 0.007f * how.waver, fast = 0.0032f * how.waver;

  std::vector<float> warp_thread(static_cast<size_t>(n));
  for (int x = 0; x < n; ++x)
    warp_thread[static_cast<size_t>(x)] =
        std::sin(kTau * threads * (static_cast<float>(x) + 0.5f) / side);

  Image out(n, n);
  for (int y = 0; y < n; ++y) {
    const float v = (static_cast<float>(y) + 0.5f) / side;
    const float weft_thread = std::sin(kTau * threads * v);
    for (int x = 0; x < n; ++x) {
      const float u = (static_cast<float>(x) + 0.5f) / side;
      const Vec2 from{static_cast<float>(x) +
                          side * (slow * (slow_x(u, v) - 0.5f) + fast * (fast_x(u, v) - 0.5f)),
                      static_cast<float>(y) +
                          side * (slow * (slow_y(u, v) - 0.5f) + fast * (fast_y(u, v) - 0.5f))};
      Color c = sample(drawing, from);
      const float vein = wax.at(x, y).r;
      if (vein > 0) {
        const float waxed = smoothstep(0.3f, 0.75f, luminance(c));
        c = mix(c, how.crack, 0.85f * vein * waxed);
      }
      const float shade = 1 + depth * (soak(u, v) - 0.5f) + 0.05f * (mottle(u, v) - 0.5f) +
                          0.05f * (slub(u, v) - 0.5f) +
                          weave * warp_thread[static_cast<size_t>(x)] * weft_thread;
      uint8_t* const px8 = out.at(x, y);
      const auto byte = [&](float value) {
        return static_cast<uint8_t>(
            std::lround(255 * clamp01(value * shade + 0.012f * (shade - 1))));
      };
      px8[0] = byte(c.r);
      px8[1] = byte(c.g);
      px8[2] = byte(c.b);
    }
  }
  return out;
}

}  // namespace tenun::batik
