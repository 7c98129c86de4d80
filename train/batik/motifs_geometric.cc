// Kawung, parang and ceplok: the geometry of the courts of Central Java.
#include "tenun/train/batik/motifs.h"

namespace tenun::batik {

// Four fruits of the sugar palm meet in every point of a square lattice, each along a diagonal; the
// gaps between them are stars with a cross of dots.
void draw_kawung(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 2.3f, 4.4f, rng.chance(0.6f) ? Lie::diagonal : Lie::upright);
  const float fat = rng.uniform(0.185f, 0.235f), reach = 0.316f;
  const int heart = rng.below(3), gap = rng.below(3);
  const Path fruit = Path::ellipse({0.353f, 0}, reach, fat);
  const Path core = Path::ellipse({0.353f, 0}, 0.62f * reach, 0.5f * fat);
  lattice(pen, {1, 0}, {0, 1}, 0.75f, [&](const Pen& cell, int, int) {
    const Pen mid = cell.at({0.5f, 0});  // the star-shaped gaps lie on the edges of the lattice
    for (const Pen& g : {mid, cell.at({0, 0.5f})}) {
      if (gap == 0) {
        g.fill(star(4, 0.15f, 0.045f), dyes.third);
        g.dot({0, 0}, 0.032f, dyes.wax);
        dot_ring(g, 4, 0.19f, 0.018f, dyes.wax);
      } else if (gap == 1) {
        dot_ring(g, 4, 0.075f, 0.026f, dyes.wax, kPi / 4);
        dot_ring(g, 4, 0.155f, 0.02f, dyes.third);
      } else {
        g.fill(around(8, petal(0.14f, 0.055f)), dyes.wax);
        g.dot({0, 0}, 0.03f, dyes.ground);
      }
    }
    for (int i = 0; i < 4; ++i) {
      const Pen arm = cell.turned(kPi / 4 + kPi / 2 * static_cast<float>(i));
      arm.shape(fruit, dyes.wax, 0.022f, dyes.line);
      if (heart == 0) {
        arm.shape(core, dyes.main, 0.016f, dyes.line);
        arm.line(Path::segment({0.2f, 0}, {0.5f, 0}), 0.022f, dyes.wax, Taper::both);
      } else if (heart == 1) {
        arm.line(core, 0.022f, dyes.main);
        for (const float x : {0.27f, 0.435f}) {
          arm.line(Path::segment({x - 0.05f, 0}, {x + 0.05f, 0}), 0.024f, dyes.line, Taper::both);
          arm.line(Path::segment({x, -0.05f}, {x, 0.05f}), 0.024f, dyes.line, Taper::both);
        }
      } else {
        arm.at({0.14f, 0}).shape(leaf(0.42f, 1.1f * fat), dyes.second, 0.018f, dyes.line);
        for (const float x : {0.28f, 0.36f, 0.44f}) arm.dot({x, 0}, 0.021f, dyes.line);
      }
    }
    cell.fill(diamond(0.055f, 0.055f), dyes.third);
    cell.dot({0, 0}, 0.022f, dyes.wax);
  });
}

namespace {

// One blade of the parang: an S whose upper end curls over the next blade. It is symmetric under a
// half turn, as the whole band is.
struct Blade {
  Path body, inner;
  std::array<Vec2, 4> spine;
};
Blade parang_blade(float lean, float fat) {
  const std::array<Vec2, 4> top = {Vec2{lean * 0.32f + 0.5f * fat, -0.16f},
                                   {lean * 0.42f + 0.62f * fat, -0.34f},
                                   {lean * 0.40f + 0.05f * fat, -0.46f},
                                   {lean * 0.30f - 0.62f * fat, -0.36f}};
  const std::array<Vec2, 3> nape = {Vec2{lean * 0.36f - 0.42f * fat, -0.25f},
                                    {lean * 0.30f - 0.28f * fat, -0.2f},
                                    {lean * 0.12f - 0.44f * fat, -0.02f}};
  std::vector<Vec2> ring(top.begin(), top.end());
  ring.insert(ring.end(), nape.begin(), nape.end());
  for (size_t i = 0; i < 7; ++i) ring.push_back(ring[i] * -1.f);
  Blade blade;
  blade.body = Path::smooth(ring, true);
  std::vector<Vec2> small;  // half as wide around the slanting middle line
  for (const Vec2 p : ring) {
    const float middle = -0.9f * lean * 0.8f * p.y;
    small.push_back({middle + 0.52f * (p.x + 0.9f * lean * p.y), 0.8f * p.y});
  }
  blade.inner = Path::smooth(small, true);
  blade.spine = {Vec2{lean * 0.3f, -0.33f},
                 {lean * 0.12f, -0.12f},
                 {lean * -0.12f, 0.12f},
                 {lean * -0.3f, 0.33f}};
  return blade;
}

}  // namespace

// Diagonal bands of interlocking S-shaped blades, parted by rows of little diamonds (mlinjon).
void draw_parang(const Pen& cloth, Rng rng, const Dyes& dyes) {
  Pen pen = lay(cloth, rng, 1.8f, 3.5f, Lie::diagonal);
  if (rng.chance(0.5f)) pen = pen.scaled(-1, 1);
  const float pitch = rng.uniform(0.36f, 0.46f), strip = rng.uniform(0.13f, 0.17f);
  const float lean = rng.uniform(0.45f, 0.7f), fat = 0.5f * pitch;
  const Blade blade = parang_blade(lean, fat);
  const bool dashes = rng.chance(0.5f);
  const Path bar = rectangle({0, 0}, 12 * pitch, 1);
  // Bands: blades fill |y| < 0.42 and the strip of diamonds is centred on y = 0.5.
  const float band = 0.84f + strip;
  lattice(pen, {pitch, 0}, {0.5f * pitch, band}, 0.9f, [&](const Pen& cell, int i, int) {
    const Pen knife = cell.scaled(1, 0.92f);
    knife.line(blade.body, 0.055f, dyes.main);
    knife.shape(blade.body, dyes.wax, 0.02f, dyes.line);
    knife.shape(blade.inner, i % 2 == 0 || !dashes ? dyes.main : dyes.second, 0.014f, dyes.line);
    dotted(knife, blade.spine, 7, 0.015f, dyes.wax);
    for (const float s : {-1.f, 1.f}) {
      knife.dot(Vec2{0.5f * pitch + 0.06f * lean, -0.04f} * s, 0.016f, dyes.wax);
      knife.dot(Vec2{0.5f * pitch + 0.13f * lean, -0.13f} * s, 0.013f, dyes.wax);
    }
  });
  lattice(pen, {12 * pitch, 0}, {0.5f * pitch, band}, 12 * pitch, [&](const Pen& cell, int, int) {
    const Pen row = cell.at({0, 0.5f * band});
    row.scaled(1, strip).fill(bar, dyes.wax);
    row.scaled(1, 0.78f * strip).fill(bar, dyes.line);
  });
  const Path gem = diamond(0.21f * pitch, 0.3f * strip),
             heart = diamond(0.1f * pitch, 0.13f * strip);
  lattice(pen, {0.5f * pitch, 0}, {0.5f * pitch, band}, 0.4f, [&](const Pen& cell, int i, int) {
    const Pen row = cell.at({0, 0.5f * band});
    row.fill(gem, i % 2 == 0 ? dyes.wax : dyes.second);
    row.fill(heart, dyes.line);
  });
}

namespace {

void rosette(const Pen& pen, int kind, int petals, const Dyes& d) {
  const float step = kTau / static_cast<float>(petals);
  switch (kind) {
    case 0:  // a lotus of two rings
      pen.shape(around(petals, petal(0.44f, 1.9f / static_cast<float>(petals)), 0.5f * step),
                d.second, 0.016f, d.line);
      pen.shape(around(petals, petal(0.37f, 1.7f / static_cast<float>(petals))), d.wax, 0.016f,
                d.line);
      pen.fill(around(petals, petal(0.27f, 0.8f / static_cast<float>(petals))), d.main);
      break;
    case 1:  // a star in a scalloped disc
      pen.shape(scallops(2 * petals, 0.36f, 0.05f), d.wax, 0.018f, d.line);
      dot_ring(pen, 2 * petals, 0.355f, 0.017f, d.main, 0.5f * step);
      pen.shape(Path::circle({0, 0}, 0.29f), d.main, 0.015f, d.line);
      pen.fill(star(petals, 0.28f, 0.12f), d.wax);
      break;
    default:  // four broad leaves with shoots between them
      pen.shape(around(4, leaf(0.46f, 0.27f), kPi / 4), d.wax, 0.018f, d.line);
      pen.fill(around(4, leaf(0.36f, 0.12f), kPi / 4), d.main);
      pen.shape(around(4, petal(0.38f, 0.15f)), d.second, 0.014f, d.line);
      dot_ring(pen, 8, 0.42f, 0.02f, d.wax, kPi / 8);
      break;
  }
  pen.shape(Path::circle({0, 0}, 0.105f), d.wax, 0.018f, d.line);
  pen.dot({0, 0}, 0.055f, d.main);
  dot_ring(pen, 8, 0.078f, 0.011f, d.line);
}

}  // namespace

// Rosettes in squares; every second square holds another rosette, and corners carry small diamonds.
void draw_ceplok(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.8f, 3.4f, rng.chance(0.65f) ? Lie::upright : Lie::diagonal);
  const int first = rng.below(3), second = (first + 1 + rng.below(2)) % 3, frame = rng.below(3);
  const int petals = 6 + 2 * rng.below(3);
  const bool checkered = rng.chance(0.5f);
  const Dyes turned{dyes.main, dyes.wax, dyes.line, dyes.ground, dyes.third, dyes.second};
  lattice(pen, {1, 0}, {0, 1}, 0.75f, [&](const Pen& cell, int i, int j) {
    const bool odd = ((i + j) % 2 + 2) % 2 == 1;
    const Dyes& d = odd && checkered ? turned : dyes;
    cell.fill(rectangle({0, 0}, 1.01f, 1.01f), d.ground);
    if (frame == 0) {
      cell.line(rectangle({0, 0}, 0.93f, 0.93f), 0.02f, d.second);
    } else if (frame == 1) {
      cell.shape(scallops(12, 0.45f, 0.03f), mix(d.ground, d.line, 0.35f), 0.018f, d.second);
    } else {
      for (int k = 0; k < 28; ++k) {
        const float s = -0.45f + 0.9f * static_cast<float>(k % 7) / 7;
        const std::array<Vec2, 4> sides = {Vec2{s, -0.45f}, {0.45f, s}, {-s, 0.45f}, {-0.45f, -s}};
        cell.dot(sides[static_cast<size_t>(k / 7)], 0.018f, d.second);
      }
    }
    // A quarter leaf into each corner.
    for (int k = 0; k < 4; ++k) {
      const Pen corner = cell.turned(kPi / 4 + kPi / 2 * static_cast<float>(k)).at({0.69f, 0});
      corner.turned(kPi).shape(leaf(0.24f, 0.13f), d.second, 0.014f, d.wax);
    }
    rosette(cell, odd ? second : first, petals, d);
  });
  lattice(pen, {1, 0}, {0, 1}, 0.75f, [&](const Pen& cell, int, int) {
    cell.line(Path::segment({-0.5f, -0.5f}, {0.5f, -0.5f}), 0.035f, dyes.wax);
    cell.line(Path::segment({-0.5f, -0.5f}, {-0.5f, 0.5f}), 0.035f, dyes.wax);
    const Pen knot = cell.at({-0.5f, -0.5f});
    knot.shape(diamond(0.1f, 0.1f), dyes.third, 0.022f, dyes.wax);
    knot.dot({0, 0}, 0.03f, dyes.wax);
  });
}

}  // namespace tenun::batik
