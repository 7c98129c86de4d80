// Sidoluhur and sidomukti, wedding cloths with symbols in a lattice, and semen, the sprouting world
// of the keraton.
#include "tenun/train/batik/motifs.h"

namespace tenun::batik {
namespace {

void symbol(const Pen& pen, int kind, const Dyes& d) {
  switch (kind) {
    case 0: butterfly(pen.scaled(0.24f), d); break;
    case 1: candi(pen.at({0, -0.01f}).scaled(0.22f), d); break;
    case 2: gurda(pen.at({0, 0.03f}).scaled(0.25f), d); break;
    case 3: meru(pen.at({0, 0.05f}).scaled(0.25f), d); break;
    default:
      blossom(pen.scaled(0.23f), 8, 0.5f, 0, d.wax, d.main, d.line, d.second);
      for (int i = 0; i < 4; ++i)
        pen.turned(kPi / 2 * static_cast<float>(i) + kPi / 4)
            .at({0.24f, 0})
            .shape(leaf(0.12f, 0.08f), d.second, 0.01f, d.line);
      break;
  }
}

/// The four sides of a square standing on its corner, with half diagonal r.
Path frame(float r) { return diamond(r, r); }

}  // namespace

// Every square of a lattice that stands on its corners holds a wish: butterfly, throne, wing,
// flower.
void draw_sidomukti(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.5f, 2.6f, Lie::upright);
  const int shift = rng.below(4), isen = rng.below(3);
  const bool light = rng.chance(0.35f);
  pen.fill(Path::circle({0, 0}, 40), dyes.line);
  constexpr std::array<int, 4> kSymbols = {0, 1, 4, 2};
  lattice(pen, {0.5f, 0.5f}, {0.5f, -0.5f}, 0.6f, [&](const Pen& cell, int i, int j) {
    const bool odd = ((i + j) % 2 + 2) % 2 == 1;
    const Color inside = light && odd ? mix(dyes.wax, dyes.main, 0.22f) : dyes.ground;
    cell.fill(frame(0.47f), dyes.wax);
    cell.fill(frame(0.425f), inside);
    {
      const Clip clip(cell, frame(0.42f));
      const Color ink = mix(inside, light && odd ? dyes.ground : dyes.wax, 0.45f);
      if (isen == 0) cecek(cell.turned(kPi / 4), 0.058f, 0.009f, ink);
      if (isen == 1) truntum(cell, 0.11f, ink);
      if (isen == 2) ukel(cell, 0.12f, 0.011f, ink);
    }
    cell.line(frame(0.39f), 0.012f, light && odd ? dyes.ground : dyes.wax);
    symbol(cell, kSymbols[static_cast<size_t>(((i + 2 * j + shift) % 4 + 4) % 4)], dyes);
  });
  lattice(pen, {0.5f, 0.5f}, {0.5f, -0.5f}, 0.6f, [&](const Pen& cell, int, int) {
    const Pen knot = cell.at({0.5f, 0});
    knot.shape(Path::circle({0, 0}, 0.06f), dyes.main, 0.016f, dyes.wax);
    knot.fill(star(4, 0.045f, 0.015f), dyes.wax);
  });
}

// As sidomukti, but on night blue with broad laced frames, and with mountains and wings.
void draw_sidoluhur(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.4f, 2.4f, Lie::upright);
  const int shift = rng.below(3), lace = rng.below(2);
  constexpr std::array<int, 3> kSymbols = {2, 3, 4};
  lattice(pen, {0.5f, 0.5f}, {0.5f, -0.5f}, 0.6f, [&](const Pen& cell, int i, int j) {
    cell.fill(frame(0.51f), dyes.wax);
    cell.fill(frame(0.475f), dyes.main);
    for (int s = 0; s < 4; ++s) {  // the lace: beads or teeth along each side
      const Pen side = cell.turned(kPi / 2 * static_cast<float>(s) + kPi / 4).at({0.305f, 0});
      for (int k = -4; k <= 4; ++k) {
        const Vec2 p{0, 0.066f * static_cast<float>(k)};
        if (lace == 0) {
          side.dot(p, 0.018f, dyes.wax);
        } else {
          side.at(p).fill(star(4, 0.03f, 0.012f), dyes.wax);
        }
      }
    }
    cell.fill(frame(0.385f), dyes.wax);
    cell.fill(frame(0.355f), dyes.ground);
    {
      const Clip clip(cell, frame(0.35f));
      cecek(cell, 0.05f, 0.007f, mix(dyes.ground, dyes.second, 0.8f));
    }
    symbol(cell.scaled(0.92f), kSymbols[static_cast<size_t>(((i - j + shift) % 3 + 3) % 3)], dyes);
  });
  lattice(pen, {0.5f, 0.5f}, {0.5f, -0.5f}, 0.6f, [&](const Pen& cell, int, int) {
    const Pen knot = cell.at({0.5f, 0});
    knot.shape(frame(0.135f), dyes.line, 0.022f, dyes.wax);
    knot.fill(around(8, petal(0.085f, 0.045f)), dyes.wax);
    knot.dot({0, 0}, 0.02f, dyes.main);
  });
}

// Semen: mountains, winged Garudas and shoots grow over light cloth in a loose order.
void draw_keraton(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.5f, 2.3f, Lie::upright);
  {
    const Color ink = mix(dyes.ground, dyes.second, 0.55f);
    if (rng.chance(0.5f)) {
      ukel(pen, 0.13f, 0.012f, ink);
    } else {
      cecek(pen, 0.055f, 0.009f, ink);
    }
  }
  const Leafage brown{dyes.main, dyes.line, dyes.wax}, blue{dyes.third, dyes.line, dyes.wax};
  const Vec2 u{0.98f, 0}, v{0.49f, 0.46f};
  lattice(pen, u, v, 0.75f, [&](const Pen& cell, int, int) {
    for (int s = 0; s < 4; ++s) {  // shoots to the four gaps
      const float side = s % 2 == 0 ? 1.f : -1.f, down = s < 2 ? 1.f : -1.f;
      const Pen shoot = cell.scaled(side, down).at({0.2f, 0.12f});
      shoot.line(Path::start({0, 0}).curve({0.08f, 0.02f}, {0.14f, 0.08f}, {0.18f, 0.16f}), 0.02f,
                 dyes.line);
      veined_leaf(shoot.at({0.1f, 0.05f}).turned(-0.4f), 0.17f, 0.08f, 0.03f,
                  s % 2 == 0 ? brown : blue);
      veined_leaf(shoot.at({0.15f, 0.1f}).turned(1.7f), 0.14f, 0.07f, -0.03f,
                  s % 2 == 0 ? blue : brown);
      tendril(shoot.at({0.17f, 0.14f}).turned(0.5f), 0.14f, 0.022f, dyes.line);
    }
  });
  lattice(pen, u, v, 0.75f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    const int kind = ((i + 2 * j) % 3 + 3) % 3;
    const Dyes blue_dyes{dyes.ground, dyes.wax, dyes.line, dyes.third, dyes.main, dyes.second};
    const Dyes& d = part.chance(0.5f) ? dyes : blue_dyes;
    if (kind == 0) gurda(cell.scaled(0.27f), d);
    if (kind == 1) meru(cell.at({0, 0.05f}).scaled(0.25f), d);
    if (kind == 2) bird(cell.scaled(part.sign() * 0.24f, 0.24f), d, 3, 0.8f, part);
  });
}

}  // namespace tenun::batik
