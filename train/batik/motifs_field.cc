// Megamendung, the rain clouds of Cirebon, and celup, cloth that was tied and dipped.
#include <algorithm>

#include "tenun/train/batik/finish.h"
#include "tenun/train/batik/motifs.h"

namespace tenun::batik {
namespace {

// A cloud is a closed chain of bows over anchors: a few high ones on top, shallow ones below, and
// two ends drawn out to points. Each next inner line has every anchor a step nearer to a flat core
// low in the cloud, so that all lines share their cusps and the bands are widest on top.
class Cloud {
 public:
  explicit Cloud(Rng rng) {
    const int top = 4 + rng.below(3), bottom = 3 + rng.below(2);
    const float height = rng.uniform(0.42f, 0.56f), depth = rng.uniform(0.16f, 0.24f);
    const float peak = rng.uniform(-0.25f, 0.25f);
    const auto add = [&](float x, float y, float bow) { rim_.push_back({{x, y}, bow}); };
    // Each bow starts at its anchor and ends at the next one.
    add(-1.18f - rng.uniform(0, 0.22f), 0.02f, 0.1f);
    for (int i = 0; i < top; ++i) {
      const float t =
          (static_cast<float>(i) + 0.5f + rng.uniform(-0.14f, 0.14f)) / static_cast<float>(top);
      const float x = -1 + 2 * t, rise = 1 - (x - peak) * (x - peak) * 0.9f;
      if (i > 0) rim_.back().bow = rng.uniform(0.42f, 0.56f);
      add(0.86f * x, -height * std::max(0.2f, rise), 0.5f);
    }
    rim_.back().bow = 0.16f;
    add(1.18f + rng.uniform(0, 0.22f), 0.04f, 0.1f);
    for (int i = 0; i < bottom; ++i) {
      const float t =
          (static_cast<float>(i) + 0.5f + rng.uniform(-0.12f, 0.12f)) / static_cast<float>(bottom);
      const float x = 1 - 2 * t;
      if (i > 0) rim_.back().bow = rng.uniform(0.28f, 0.4f);
      add(0.74f * x, depth * (1 - 0.5f * x * x) + 0.08f, 0.35f);
    }
    rim_.back().bow = 0.12f;
  }

  /// The line at t of the way from the rim (0) to the core (1).
  [[nodiscard]] Path line(float t) const {
    const auto at = [&](size_t i) {
      const Vec2 p = rim_[i % rim_.size()].at;
      return mix(p, Vec2{0.5f * p.x, 0.1f + 0.12f * p.y}, t);
    };
    Path path = Path::start(at(0));
    for (size_t i = 0; i < rim_.size(); ++i) {
      const Vec2 a = at(i), b = at(i + 1), out = perp(b - a) * (-1.33f * rim_[i].bow);
      path.curve(a + (b - a) * 0.02f + out, b - (b - a) * 0.02f + out, b);
    }
    return path.close();
  }

 private:
  struct Anchor {
    Vec2 at;
    float bow;  // height of the bow that starts here, as a share of its chord
  };
  std::vector<Anchor> rim_;
};

void draw_cloud(const Pen& pen, const Rng& rng, const Dyes& dyes, int steps, bool light_heart) {
  const Cloud cloud(rng);
  pen.line(cloud.line(0), 0.1f, light_heart ? dyes.wax : mix(dyes.main, dyes.wax, 0.2f));
  const Color rim = light_heart ? dyes.line : dyes.wax, heart = light_heart ? dyes.wax : dyes.line;
  for (int k = 0; k < steps; ++k) {
    const float t = static_cast<float>(k) / static_cast<float>(steps - 1);
    const Color c = t < 0.5f ? mix(rim, dyes.main, 2 * t) : mix(dyes.main, heart, 2 * t - 1);
    pen.shape(cloud.line(0.86f * t), c, 0.014f, mix(c, dyes.wax, 0.5f));
  }
}

}  // namespace

// Layered clouds with graded outlines on a flat sky; the nearest are the lowest.
void draw_megamendung(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 2.2f, 3.6f, Lie::upright);
  const int steps = 5 + rng.below(3);
  const bool light_heart = rng.chance(0.3f);
  const Vec2 u{1.12f, rng.uniform(-0.08f, 0.08f)}, v{0.56f, rng.uniform(0.52f, 0.66f)};
  // Little clouds far away.
  lattice(pen, u, v, 0.5f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, 1000 + j);
    const Vec2 off{part.uniform(0.3f, 0.75f), part.uniform(-0.16f, 0.16f)};
    const float size = part.uniform(0.1f, 0.2f);
    draw_cloud(cell.at(off).scaled(size), part.fork(1), dyes, 3, light_heart);
  });
  lattice(pen, u, v, 1.0f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    const Vec2 off{part.uniform(-0.14f, 0.14f), part.uniform(-0.1f, 0.1f)};
    const float size = part.uniform(0.36f, 0.5f), side = part.sign();
    draw_cloud(cell.at(off).scaled(side * size, size), part.fork(1), dyes, steps, light_heart);
  });
}

// Rings of tied dots: each knot kept the dye out in a ragged ring, and the dye crept under the
// threads. This one is a field, not a drawing: no wax, no line.
void draw_celup(const Pen& cloth, Rng rng, const Dyes& dyes) {
  Canvas& canvas = cloth.canvas();
  const int n = canvas.size();
  const Noise creep(rng.fork(1), 9), fine(rng.fork(2), 72), cloud(rng.fork(3), 4);
  struct Knot {
    Vec2 at;
    float radius, rays, phase;
    Color ring;
  };
  std::vector<Knot> knots;
  const std::array<Color, 3> inks = {dyes.main, dyes.second, dyes.third};
  const float spacing = rng.uniform(0.24f, 0.46f), turn = rng.uniform(0, kTau);
  const Pen grid = cloth.turned(turn).scaled(spacing).at({rng.uniform(), rng.uniform()});
  const bool many = rng.chance(0.5f);
  lattice(grid, {1, 0}, {0.5f, 0.87f}, 1.0f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    const Vec2 p =
        cell.at({part.uniform(-0.08f, 0.08f), part.uniform(-0.08f, 0.08f)}).map()({0, 0});
    const auto tie = [&](Vec2 where, float radius, int rays, Color ring) {
      knots.push_back({where * (1 / static_cast<float>(n)), spacing * radius,
                       static_cast<float>(rays), part.uniform(0, kTau), ring});
    };
    tie(p, part.uniform(0.36f, 0.46f), 10 + part.below(8),
        inks[static_cast<size_t>(many ? part.below(3) : ((i - j) % 2 + 2) % 2)]);
    // Grains of rice tied into the gaps.
    tie(cell.map()({0.5f, 0.29f}), 0.1f, 7, inks[2]);
    tie(cell.map()({0, 0.58f}), 0.1f, 7, inks[2]);
  });
  std::vector<Knot> near;  // those that reach the row at hand
  constexpr float kSoft = 0.005f;
  const auto shade = [&](Vec2 p) {
    const float wet = creep(p.x, p.y) - 0.5f, grain = fine(p.x, p.y) - 0.5f;
    Color c = mix(dyes.ground, dyes.line, 0.5f * cloud(p.x, p.y) + 0.3f * grain);
    for (const Knot& k : near) {
      const Vec2 d = p - k.at;
      if (dot(d, d) > 1.6f * k.radius * k.radius) continue;
      // The folds under the thread make rays that sharpen outwards.
      const float r = length(d) / k.radius;
      const float fold = std::cos(k.rays * std::atan2(d.y, d.x) + k.phase + 3 * wet);
      const float s = r * (1 + 0.07f * fold) + 0.16f * wet + 0.12f * grain, w = kSoft / k.radius;
      const auto band = [&](float lo, float hi) {
        return smoothstep(lo - 3 * w, lo + w, s) * (1 - smoothstep(hi - w, hi + 3 * w, s));
      };
      c = mix(c, dyes.wax, 0.95f * band(0.74f, 0.9f));
      c = mix(c, k.ring, 0.92f * band(-1, 0.72f));
      c = mix(c, dyes.wax, 0.9f * band(0.4f, 0.55f) * (0.75f + 0.25f * fold));
      c = mix(c, dyes.ground, 0.85f * band(0.16f, 0.27f));
      c = mix(c, dyes.wax, band(-1, 0.1f));
    }
    return c;
  };
  const float step = 1 / static_cast<float>(n);
  for (int y = 0; y < n; ++y) {
    near.clear();
    for (const Knot& k : knots)
      if (std::abs((static_cast<float>(y) + 0.5f) * step - k.at.y) < 1.3f * k.radius)
        near.push_back(k);
    for (int x = 0; x < n; ++x)
      canvas.at(x, y) =
          shade({(static_cast<float>(x) + 0.5f) * step, (static_cast<float>(y) + 0.5f) * step});
  }
}

}  // namespace tenun::batik
