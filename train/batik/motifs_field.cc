// Megamendung, the rain clouds of Cirebon, and celup, cloth that was tied and dipped.
#include <algorithm>

#include "tenun/train/batik/finish.h"
#include "tenun/train/batik/motifs.h"

namespace tenun::batik {
namespace {

// A cloud is a closed chain of bows between anchors on a flat oval; its two ends are drawn out to
// points. The next inner line has its anchors a step further in, so all lines share their cusps.
class Cloud {
 public:
  explicit Cloud(Rng rng) : lobes_(9 + rng.below(4)), flat_(rng.uniform(0.4f, 0.52f)) {
    const float even = kTau / static_cast<float>(lobes_);
    const float first = rng.uniform(0, even);
    for (int i = 0; i < lobes_; ++i)
      anchors_.push_back(first + even * (static_cast<float>(i) + rng.uniform(-0.2f, 0.2f)));
    tail_ = rng.uniform(0.15f, 0.5f);
    lean_ = rng.sign() * rng.uniform(0.05f, 0.2f);
  }

  /// The outline `inset` inside the outermost one, in units of the cloud's half width.
  [[nodiscard]] Path line(float inset) const {
    const auto at = [&](float angle, float out) {
      const float c = std::cos(angle), s = std::sin(angle);
      const float pull = 1 + tail_ * std::pow(std::abs(c), 8.f);
      const float r = 1 - inset * 1.1f;
      return Vec2{(r + out) * pull * c + lean_ * s * flat_,
                  (flat_ * (1 - inset * 1.25f) + out) * s};
    };
    Path path = Path::start(at(anchors_[0], 0));
    for (int i = 0; i < lobes_; ++i) {
      const float a = anchors_[static_cast<size_t>(i)];
      const float b = i + 1 < lobes_ ? anchors_[static_cast<size_t>(i + 1)] : anchors_[0] + kTau;
      const float chord = length(at(b, 0) - at(a, 0));
      const float bow = 0.52f * chord;
      path.curve(at(a + 0.06f * (b - a), bow), at(b - 0.06f * (b - a), bow), at(b, 0));
    }
    return path.close();
  }
  /// Where the cusps are, for the curls that hang on them.
  [[nodiscard]] const std::vector<float>& anchors() const { return anchors_; }
  [[nodiscard]] float flat() const { return flat_; }

 private:
  int lobes_;
  float flat_, tail_, lean_;
  std::vector<float> anchors_;
};

void draw_cloud(const Pen& pen, const Rng& rng, const Dyes& dyes, int steps, bool light_heart) {
  const Cloud cloud(rng);
  pen.line(cloud.line(0), 0.07f, dyes.wax);
  for (int k = 0; k < steps; ++k) {
    const float t = static_cast<float>(k) / static_cast<float>(steps - 1);
    // From white at the rim over the middle tone to the darkest, or back to light.
    Color c = t < 0.5f ? mix(dyes.wax, dyes.main, 2 * t) : mix(dyes.main, dyes.line, 2 * t - 1);
    if (light_heart)
      c = t < 0.5f ? mix(dyes.line, dyes.main, 2 * t) : mix(dyes.main, dyes.wax, 2 * t - 1);
    pen.shape(cloud.line(0.82f * t * (1 - 0.12f * t)), c, 0.012f, mix(c, dyes.wax, 0.55f));
  }
  pen.line(spiral(0.1f, 0.015f, 0.3f, 1.4f), 0.025f, light_heart ? dyes.line : dyes.wax,
           Taper::tail);
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
  const Noise creep(rng.fork(1), 9), fine(rng.fork(2), 38), cloud(rng.fork(3), 4);
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
    const float side = static_cast<float>(n);
    knots.push_back({{p.x / side, p.y / side},
                     spacing * part.uniform(0.36f, 0.46f),
                     static_cast<float>(10 + part.below(8)),
                     part.uniform(0, kTau),
                     inks[static_cast<size_t>(many ? part.below(3) : ((i - j) % 2 + 2) % 2)]});
  });
  constexpr float kSoft = 0.014f;
  const auto shade = [&](Vec2 p) {
    const float wet = creep(p.x, p.y) - 0.5f, grain = fine(p.x, p.y) - 0.5f;
    Color c = mix(dyes.ground, dyes.line, 0.5f * cloud(p.x, p.y) + 0.3f * grain);
    for (const Knot& k : knots) {
      const Vec2 d = p - k.at;
      if (dot(d, d) > 1.6f * k.radius * k.radius) continue;
      // The folds under the thread make rays that sharpen outwards.
      const float r = length(d) / k.radius;
      const float fold = std::cos(k.rays * std::atan2(d.y, d.x) + k.phase + 3 * wet);
      const float s = r * (1 + 0.07f * fold) + 0.16f * wet + 0.1f * grain, w = kSoft / k.radius;
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
  // Small pictures take several samples a pixel.
  const int dense = n < 96 ? 3 : n < 192 ? 2 : 1;
  const float share = 1 / static_cast<float>(dense * dense);
  const float step = 1 / static_cast<float>(n * dense);
  for (int y = 0; y < n; ++y)
    for (int x = 0; x < n; ++x) {
      Color sum;
      for (int j = 0; j < dense; ++j)
        for (int i = 0; i < dense; ++i) {
          const Color c = shade({(static_cast<float>(x * dense + i) + 0.5f) * step,
                                 (static_cast<float>(y * dense + j) + 0.5f) * step});
          sum = {sum.r + share * c.r, sum.g + share * c.g, sum.b + share * c.b};
        }
      canvas.at(x, y) = sum;
    }
}

}  // namespace tenun::batik
