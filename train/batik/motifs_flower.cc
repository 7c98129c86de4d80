// Bali, gentongan, pekalongan and sogan: cloths of plants.
#include "tenun/train/batik/motifs.h"

namespace tenun::batik {
namespace {

/// Frangipani: five petals that overlap like a pinwheel, glowing at the heart.
void frangipani(const Pen& pen, Color petal_dye, Color glow, Color outline) {
  if (!pen.visible({0, 0}, 1.1f)) return;
  const Path blade = Path::start({0, 0})
                         .curve({0.18f, -0.42f}, {0.62f, -0.56f}, {0.92f, -0.24f})
                         .curve({1.06f, -0.06f}, {0.98f, 0.16f}, {0.74f, 0.24f})
                         .curve({0.45f, 0.32f}, {0.2f, 0.16f}, {0, 0})
                         .close();
  for (int i = 0; i < 5; ++i) {
    const Pen p = pen.turned(kTau * static_cast<float>(i) / 5);
    p.shape(blade, petal_dye, 0.055f, outline);
    p.scaled(0.66f).fill(blade, mix(petal_dye, glow, 0.5f));
    p.scaled(0.42f).fill(blade, glow);
    for (const float y : {-0.2f, -0.05f, 0.1f})
      p.line(arc({0.42f, 0.6f * y}, {0.84f, y}, -0.06f), 0.022f, outline, Taper::both);
  }
  pen.dot({0, 0}, 0.09f, outline);
  dot_ring(pen, 5, 0.17f, 0.026f, outline);
}

/// A wave of patra: a curl with lobes along its back.
void patra(const Pen& pen, Color body, Color edge, Color light) {
  if (!pen.visible({0.4f, -0.2f}, 1.1f)) return;
  for (int i = 0; i < 7; ++i) {
    const float a = 2.9f - 0.62f * static_cast<float>(i);
    const float r = 0.5f - 0.035f * static_cast<float>(i);
    pen.at(Vec2{0.5f, -0.1f} + polar(a, r * 0.7f))
        .turned(a + 0.55f)
        .shape(leaf(0.62f - 0.05f * static_cast<float>(i), 0.3f, 0.1f), i % 2 == 0 ? body : light,
               0.035f, edge);
  }
  pen.at({0.5f, -0.1f}).shape(Path::circle({0, 0}, 0.38f), body, 0.045f, edge);
  pen.at({0.5f, -0.1f}).line(spiral(0.31f, 0.04f, 2.6f, -1.8f), 0.075f, light, Taper::tail);
}

}  // namespace

// Bold frangipani over rolling patra leaves.
void draw_bali(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.5f, 2.5f, Lie::any);
  const bool waves = rng.chance(0.5f);
  {
    const Color ink = mix(dyes.ground, dyes.second, 0.5f);
    if (waves) {
      sisik(pen, 0.16f, 0.02f, ink);
    } else {
      cecek(pen, 0.07f, 0.013f, ink);
    }
  }
  const Vec2 u{1, 0}, v{0.5f, 0.8f};
  const auto place = [&](int i, int j) {
    Rng part = rng.fork(i, j);
    return Vec2{part.uniform(-0.09f, 0.09f), part.uniform(-0.09f, 0.09f)};
  };
  lattice(pen, u, v, 0.9f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, 300 + j);
    const float first = part.uniform(0, kTau);
    for (int k = 0; k < 3; ++k)
      patra(cell.at(place(i, j))
                .turned(first + kTau * static_cast<float>(k) / 3)
                .at({0.16f, 0})
                .scaled(0.4f, part.sign() * 0.4f),
            k == 1 ? dyes.third : dyes.main, dyes.line, dyes.second);
  });
  lattice(pen, u, v, 0.6f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, 600 + j);
    frangipani(cell.at(place(i, j)).turned(part.uniform(0, kTau)).scaled(part.uniform(0.3f, 0.37f)),
               dyes.wax, part.chance(0.6f) ? hex(0xf6c53c) : dyes.second, dyes.line);
    const Pen small =
        cell.at(place(i, j) + Vec2{0.5f, 0.02f}).turned(part.uniform(0, kTau)).scaled(0.15f);
    frangipani(small, mix(dyes.wax, dyes.second, 0.5f), dyes.second, dyes.line);
  });
}

// Gentongan of Madura: dyed for months in earthen jars; leaves glow on dark cloth among fine dots.
void draw_gentongan(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.6f, 2.7f, Lie::any);
  cecek(pen, 0.052f, 0.0095f, mix(dyes.ground, dyes.wax, 0.62f));
  const std::array<Color, 3> inks = {dyes.main, dyes.second, dyes.third};
  const bool combed = rng.chance(0.5f);
  lattice(pen, {0.86f, 0}, {0.43f, 0.7f}, 0.95f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    const Pen root = cell.at({part.uniform(-0.1f, 0.1f), part.uniform(-0.1f, 0.1f)})
                         .turned(part.uniform(0, kTau));
    const std::array<Vec2, 4> way = {
        Vec2{-0.38f, part.uniform(-0.12f, 0.12f)}, {-0.12f, 0.1f}, {0.14f, -0.08f}, {0.42f, 0.1f}};
    const Path stem = Path::smooth(way, false);
    root.line(stem, 0.06f, dyes.ground);
    root.line(stem, 0.028f, dyes.wax, Taper::tail);
    const Color ink = part.pick(inks), other = part.pick(inks);
    for (int k = 0; k < 5; ++k) {
      const float t = 0.12f + 0.2f * static_cast<float>(k), side = k % 2 == 0 ? 1.f : -1.f;
      const Station s = along(way, t);
      const float len = part.uniform(0.3f, 0.42f) * (1.1f - 0.35f * t), wide = 0.52f * len;
      const Pen l =
          root.at(s.at).turned(s.heading + side * part.uniform(0.75f, 1.1f)).scaled(1, side);
      const Path outline = leaf(len, wide, 0.2f * len);
      l.line(outline, 0.05f, dyes.ground);
      l.shape(outline, k % 2 == 0 ? ink : other, 0.018f, dyes.wax);
      if (combed) {
        const Clip clip(l, leaf(0.97f * len, 0.86f * wide, 0.19f * len));
        sawut(l.turned(0.9f), 0.042f, 0.009f, dyes.wax);
      } else {
        const Clip clip(l, leaf(0.95f * len, 0.8f * wide, 0.19f * len));
        cecek(l, 0.045f, 0.009f, dyes.wax);
      }
      l.line(Path::start({0, 0}).curve({0.4f * len, 0}, {0.7f * len, 0.12f * len},
                                       {0.95f * len, 0.19f * len}),
             0.022f, dyes.ground, Taper::tail);
    }
    tendril(root.at(way.back()).turned(0.5f), 0.22f, 0.026f, dyes.wax);
    const Pen berry = root.at(way.front());
    berry.shape(Path::circle({0, 0}, 0.085f), other, 0.018f, dyes.wax);
    dot_ring(berry, 7, 0.05f, 0.012f, dyes.wax);
    dot_ring(berry, 12, 0.125f, 0.013f, dyes.wax);
  });
}

// Pekalongan: a buketan, the bouquet that came with the Dutch, in light bright dyes.
void draw_pekalongan(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.15f, 1.9f, Lie::upright);
  {
    const Color ink = mix(dyes.ground, dyes.wax, 0.65f);
    const int isen = rng.below(3);
    if (isen == 0) cecek(pen, 0.05f, 0.01f, ink);
    if (isen == 1) sawut(pen.turned(0.8f), 0.05f, 0.009f, ink);
    if (isen == 2) truntum(pen, 0.13f, ink);
  }
  const std::array<Color, 3> inks = {dyes.main, dyes.second, dyes.third};
  const Color green = mix(hex(0x3f8a4f), dyes.line, 0.2f);
  const Leafage leafage{mix(green, dyes.wax, 0.2f), dyes.wax, mix(green, dyes.line, 0.7f)};
  lattice(pen, {1, 0}, {0.5f, 0.86f}, 0.9f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    const Pen bouquet = cell.turned(part.uniform(-0.4f, 0.4f)).scaled(part.sign(), 1);
    const int first = part.below(3);
    const auto ink = [&](int k) { return inks[static_cast<size_t>((first + k) % 3)]; };
    for (int s = 0; s < 3; ++s)  // the stalks below the bow
      bouquet.line(arc({0.02f, 0.2f}, {0.05f * static_cast<float>(s - 1), 0.46f},
                       0.05f * static_cast<float>(s - 1)),
                   0.022f, leafage.vein, Taper::tail);
    for (int s = 0; s < 7; ++s) {  // sprays of leaves that end in buds
      const float turn = static_cast<float>(s - 3) * 0.62f + part.uniform(-0.12f, 0.12f);
      const float reach = part.uniform(0.38f, 0.46f) - 0.02f * std::abs(static_cast<float>(s - 3));
      const Vec2 tip = polar(-kPi / 2 + turn, reach);
      const std::array<Vec2, 4> way = {Vec2{0, 0.2f}, mix({0, 0.2f}, tip, 0.35f) + perp(tip) * 0.1f,
                                       mix({0, 0.2f}, tip, 0.7f) + perp(tip) * 0.1f, tip};
      vine(bouquet, way, 6, 0.17f, leafage, leafage.vein, part);
      if (s % 2 == 0) {
        const Pen bud = bouquet.at(tip).turned(-kPi / 2 + turn);
        bud.shape(petal(0.12f, 0.085f, 0.05f), ink(s / 2), 0.01f, dyes.line);
        bud.shape(leaf(0.075f, 0.05f), leafage.inside, 0.008f, dyes.line);
      }
    }
    const auto flower = [&](Vec2 p, float size, Color dye, int rings) {
      const Pen f = bouquet.at(p).turned(part.uniform(0, kTau)).scaled(size);
      const Color edge = mix(dyes.line, dye, 0.3f), heart = hex(0xf2cf5b);
      blossom(f, 5 + rings * 2, 0.62f + 0.3f / static_cast<float>(rings), 0.1f,
              mix(dye, dyes.wax, 0.6f), mix(dye, dyes.wax, 0.25f), edge, heart);
      for (int r = 1; r < rings; ++r)
        blossom(f.turned(0.3f * static_cast<float>(r)).scaled(1 - 0.3f * static_cast<float>(r)), 6,
                0.9f, 0.1f, mix(dye, dyes.wax, 0.5f - 0.2f * static_cast<float>(r)), dye, edge,
                heart);
    };
    const float swirl = part.uniform(-0.2f, 0.2f);
    for (int s = 0; s < 5; ++s) {
      const float around_angle = kPi * (1.02f + 0.24f * static_cast<float>(s)) + swirl;
      flower(polar(around_angle, s % 2 == 0 ? 0.21f : 0.235f), s % 2 == 0 ? 0.1f : 0.075f,
             ink(1 + s), 1);
    }
    flower({0.02f, 0.0f}, part.uniform(0.155f, 0.185f), ink(0), 3);
    for (const float side : {-1.f, 1.f})  // the bow
      bouquet.at({0.01f, 0.24f})
          .scaled(side, 1)
          .turned(0.35f)
          .shape(petal(0.15f, 0.09f, 0.1f), ink(2), 0.01f, dyes.line);
    bouquet.shape(Path::circle({0.01f, 0.24f}, 0.022f), ink(1), 0.01f, dyes.line);
    const Dyes fly{dyes.ground, dyes.wax, dyes.line, ink(1), ink(2), ink(0)};
    butterfly(
        cell.at({0.5f, part.uniform(0.0f, 0.12f)}).turned(part.uniform(-0.7f, 0.7f)).scaled(0.105f),
        fly);
  });
}

// Sogan: the brown of bark and root; scrolls of leaves and flowers on a filled ground.
void draw_sogan(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.6f, 2.7f, rng.chance(0.5f) ? Lie::diagonal : Lie::any);
  const Color ink = mix(dyes.ground, dyes.line, 0.5f);
  if (rng.chance(0.5f)) {
    ukel(pen, 0.11f, 0.012f, ink);
  } else {
    sisik(pen, 0.1f, 0.01f, ink);
  }
  const Leafage dark{dyes.main, dyes.line, dyes.wax}, light{dyes.second, dyes.line, dyes.line};
  const int petals = 6 + rng.below(3);
  constexpr float kPitch = 0.58f;
  lattice(pen, {1, 0}, {0.5f, kPitch}, 1.0f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    // One wave of a scroll that runs along x; its curls hold the flowers.
    const std::array<Vec2, 5> way = {
        Vec2{-0.5f, 0}, {-0.25f, -0.17f}, {0, 0}, {0.25f, 0.17f}, {0.5f, 0}};
    const Path stem = Path::start({-0.5f, 0})
                          .curve({-0.36f, -0.23f}, {-0.14f, -0.23f}, {0, 0})
                          .curve({0.14f, 0.23f}, {0.36f, 0.23f}, {0.5f, 0});
    cell.line(stem, 0.062f, dyes.line);
    cell.line(stem, 0.034f, dyes.wax);
    for (int k = 0; k < 8; ++k) {
      const float t = (static_cast<float>(k) + 0.5f) / 8;
      const Station s = along(way, t);
      const float side = k % 2 == 0 ? 1.f : -1.f;
      veined_leaf(cell.at(s.at).turned(s.heading + 0.85f * side).scaled(1, side),
                  part.uniform(0.2f, 0.26f), 0.115f, 0.05f, k % 4 < 2 ? dark : light);
    }
    for (const float side : {-1.f, 1.f}) {
      const Pen half = cell.at({0.25f * side, -0.06f * side});
      half.line(spiral(0.17f, 0.06f, side > 0 ? kPi / 2 : -kPi / 2, 0.8f), 0.024f, dyes.line,
                Taper::tail);
      blossom(half.turned(part.uniform(0, kTau)).scaled(side > 0 ? 0.155f : 0.12f), petals, 0.66f,
              0.08f, dyes.wax, side > 0 ? dyes.third : dyes.second, dyes.line, dyes.main);
    }
  });
}

}  // namespace tenun::batik
