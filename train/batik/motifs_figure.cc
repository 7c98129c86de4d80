// Betawi, cendrawasih and lasem: cloths with figures and birds.
#include "tenun/train/batik/motifs.h"

namespace tenun::batik {
namespace {

/// A row of tall triangles (tumpal) on y = 0, pointing up, with an inner triangle and a shoot.
void tumpal(const Pen& pen, float width, float height, const Dyes& d, Color second_dye) {
  lattice(pen, {width, 0}, {0, 400}, height + width, [&](const Pen& cell, int i, int) {
    const auto triangle = [&](float k) {
      return Path::polygon(
          std::array<Vec2, 3>{Vec2{-0.5f * width * k, 0}, {0.5f * width * k, 0}, {0, -height * k}});
    };
    const Color body = i % 2 == 0 ? d.main : second_dye;
    cell.shape(triangle(1), body, 0.018f, d.wax);
    cell.at({0, -0.05f * height}).shape(triangle(0.62f), d.wax, 0.012f, d.line);
    cell.at({0, -0.09f * height}).fill(triangle(0.42f), i % 2 == 0 ? second_dye : d.third);
    for (int k = 0; k < 5; ++k) {
      const float t = 0.16f + 0.16f * static_cast<float>(k);
      for (const float s : {-1.f, 1.f})
        cell.dot({s * 0.5f * width * (1 - t) * 0.8f, -height * t}, 0.013f, d.wax);
    }
    cell.dot({0, -height - 0.03f}, 0.024f, d.third);
    // Flowers hang in the gaps.
    const Pen gap = cell.at({0.5f * width, -0.74f * height});
    gap.fill(around(6, petal(0.085f, 0.07f)), d.wax);
    gap.dot({0, 0}, 0.026f, d.second);
    gap.line(Path::segment({0, 0.09f}, {0, 0.3f * height}), 0.012f, d.wax);
  });
}

/// Ondel-ondel, the giant of Batavia's feasts: round mask, crown of palm flowers, wide dress, sash.
void ondel_ondel(const Pen& pen, const Dyes& d, bool man) {
  if (!pen.visible({0, 0}, 1.2f)) return;
  for (int i = 0; i < 9; ++i) {  // kembang kelapa
    const float t = static_cast<float>(i) / 8 - 0.5f;
    const Vec2 root{0.24f * t, -0.5f}, tip = root + polar(-kPi / 2 + 1.5f * t, 0.42f);
    pen.line(Path::segment(root, tip), 0.025f, d.wax);
    for (int k = 0; k < 3; ++k)
      pen.dot(mix(root, tip, 0.5f + 0.25f * static_cast<float>(k)), 0.042f,
              k % 2 == 0 ? d.third : d.second);
  }
  const Path dress = Path::start({-0.22f, -0.08f})
                         .curve({-0.45f, 0.0f}, {-0.5f, 0.5f}, {-0.52f, 0.9f})
                         .line({0.52f, 0.9f})
                         .curve({0.5f, 0.5f}, {0.45f, 0.0f}, {0.22f, -0.08f})
                         .close();
  const Color cloth = man ? d.line : d.main;
  for (const float s : {-1.f, 1.f}) {
    pen.line(Path::start({0.3f * s, 0.05f})
                 .curve({0.58f * s, 0.15f}, {0.62f * s, 0.4f}, {0.6f * s, 0.55f}),
             0.17f, d.line);
    pen.line(Path::start({0.3f * s, 0.05f})
                 .curve({0.58f * s, 0.15f}, {0.62f * s, 0.4f}, {0.6f * s, 0.55f}),
             0.13f, cloth);
    pen.dot({0.6f * s, 0.58f}, 0.07f, d.wax);
  }
  pen.shape(dress, cloth, 0.03f, d.line);
  {
    const Clip clip(pen, dress);
    for (int i = 0; i < 3; ++i) {
      const float y = 0.58f + 0.12f * static_cast<float>(i);
      pen.line(Path::segment({-0.6f, y}, {0.6f, y}), 0.05f, i % 2 == 0 ? d.third : d.second);
    }
    pen.line(Path::segment({-0.45f, -0.1f}, {0.4f, 0.62f}), 0.16f, d.second);
    pen.line(Path::segment({-0.45f, -0.1f}, {0.4f, 0.62f}), 0.05f, d.wax);
  }
  const Color face = man ? hex(0xc8452f) : hex(0xf6ead8);
  pen.shape(Path::ellipse({0, -0.3f}, 0.25f, 0.28f), face, 0.03f, d.line);
  pen.fill(Path::start({-0.25f, -0.36f})
               .curve({-0.24f, -0.64f}, {0.24f, -0.64f}, {0.25f, -0.36f})
               .curve({0.14f, -0.48f}, {-0.14f, -0.48f}, {-0.25f, -0.36f})
               .close(),
           d.line);
  pen.line(Path::start({-0.22f, -0.47f}).curve({-0.1f, -0.56f}, {0.1f, -0.56f}, {0.22f, -0.47f}),
           0.06f, d.third);
  for (const float s : {-1.f, 1.f}) {
    pen.dot({0.1f * s, -0.32f}, 0.05f, hex(0xffffff));
    pen.dot({0.1f * s, -0.32f}, 0.027f, d.line);
    pen.line(arc({0.04f * s, -0.39f}, {0.17f * s, -0.39f}, -0.12f * s), 0.022f, d.line);
  }
  if (man) pen.line(arc({-0.13f, -0.19f}, {0.13f, -0.19f}, -0.12f), 0.04f, d.line, Taper::both);
  pen.line(arc({-0.09f, -0.14f}, {0.09f, -0.14f}, 0.14f), 0.04f, man ? d.wax : hex(0xc22738),
           Taper::both);
}

}  // namespace

// Betawi: bright rows of tumpal, and ondel-ondel dancing between them.
void draw_betawi(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.7f, 2.6f, Lie::upright);
  const float width = rng.uniform(0.26f, 0.36f), height = rng.uniform(0.34f, 0.42f);
  const float band = 0.78f + 2 * height + 0.12f;
  const float gap = rng.uniform(0.5f, 0.6f);
  const bool stars = rng.chance(0.5f);
  if (stars) {
    truntum(pen, 0.16f, mix(dyes.ground, dyes.wax, 0.5f));
  } else {
    cecek(pen, 0.07f, 0.012f, mix(dyes.ground, dyes.wax, 0.6f));
  }
  for (int k = -3; k <= 3; ++k) {
    const Pen row = pen.at({0, band * static_cast<float>(k)});
    for (const float s : {-1.f, 1.f}) {
      const Pen side = row.at({0, 0.5f * band * s}).scaled(1, s);
      tumpal(side, width, height, dyes, dyes.second);
      side.line(Path::segment({-20, 0}, {20, 0}), 0.06f, dyes.line);
      side.line(Path::segment({-20, 0}, {20, 0}), 0.025f, dyes.third);
    }
    lattice(row, {gap, 0}, {0, 400}, 0.6f, [&](const Pen& cell, int i, int) {
      if (((i + k) % 3 + 3) % 3 == 2) {
        blossom(cell.scaled(0.17f), 8, 0.55f, 0.05f, dyes.third, dyes.second, dyes.line, dyes.wax);
        dot_ring(cell, 12, 0.22f, 0.014f, dyes.wax);
      } else {
        ondel_ondel(cell.at({0, 0.02f}).scaled(0.39f), dyes, ((i + k) % 3 + 3) % 3 == 0);
      }
    });
  }
}

namespace {

/// The bird of paradise: a small body, and plumes that fall like a fountain.
void paradise(const Pen& pen, const Dyes& d, Rng& rng) {
  if (!pen.visible({-0.5f, 0.4f}, 1.9f)) return;
  const float sway = rng.uniform(-0.12f, 0.12f);
  for (int i = 0; i < 11; ++i) {
    const float t = static_cast<float>(i) / 10;
    const Vec2 tip{-1.25f + 0.75f * t + sway, 0.15f + 1.1f * t - 0.25f * t * t};
    const std::array<Vec2, 4> way = {Vec2{-0.2f, 0.0f},
                                     {-0.42f - 0.1f * t, -0.2f + 0.3f * t},
                                     mix({-0.5f, 0}, tip, 0.55f) + Vec2{-0.06f, -0.1f},
                                     tip};
    const Path plume = Path::smooth(way, false);
    const Color ink = i % 3 == 0 ? d.wax : i % 3 == 1 ? d.main : d.second;
    pen.line(plume, 0.13f, d.line, Taper::both);
    pen.line(plume, 0.095f, ink, Taper::both);
    for (int k = 0; k < 7; ++k) {
      const Station s = along(way, 0.4f + 0.09f * static_cast<float>(k));
      pen.line(Path::segment(s.at, s.at + polar(s.heading + 0.8f, 0.11f)), 0.014f, ink,
               Taper::tail);
      pen.line(Path::segment(s.at, s.at + polar(s.heading - 0.8f, 0.11f)), 0.014f, ink,
               Taper::tail);
    }
  }
  for (const float k : {0.f, 1.f}) {  // two wires with a bead
    const std::array<Vec2, 4> wire = {Vec2{-0.2f, 0.05f},
                                      {-0.7f + 0.3f * k, 0.5f},
                                      {-0.9f + 0.4f * k, 1.0f},
                                      {-0.6f + 0.35f * k, 1.3f}};
    pen.line(Path::smooth(wire, false), 0.022f, d.wax);
    pen.shape(Path::circle(wire[3], 0.05f), d.third, 0.02f, d.wax);
  }
  const Path body = Path::start({-0.4f, 0.1f})
                        .curve({-0.3f, -0.2f}, {0.0f, -0.2f}, {0.14f, -0.36f})
                        .curve({0.2f, -0.56f}, {0.46f, -0.54f}, {0.46f, -0.36f})
                        .curve({0.46f, -0.1f}, {0.3f, 0.3f}, {-0.02f, 0.28f})
                        .curve({-0.2f, 0.28f}, {-0.34f, 0.22f}, {-0.4f, 0.1f})
                        .close();
  pen.fill(Path::start({0.43f, -0.45f})
               .curve({0.56f, -0.47f}, {0.66f, -0.4f}, {0.72f, -0.3f})
               .curve({0.6f, -0.32f}, {0.5f, -0.3f}, {0.44f, -0.32f})
               .close(),
           d.wax);
  pen.shape(body, d.third, 0.04f, d.wax);
  {
    const Clip clip(pen, body);
    pen.fill(Path::circle({0.3f, -0.42f}, 0.21f), d.main);
    sisik(pen.turned(-0.4f), 0.12f, 0.016f, mix(d.third, d.wax, 0.6f));
  }
  for (int i = 0; i < 5; ++i) {
    const float t = static_cast<float>(i) / 4;
    pen.at({0.14f, -0.04f})
        .turned(kPi - 0.25f + 0.75f * t)
        .shape(petal(0.66f - 0.16f * t, 0.17f), i % 2 == 0 ? d.second : d.main, 0.025f, d.line);
  }
  pen.dot({0.33f, -0.41f}, 0.055f, d.wax);
  pen.dot({0.34f, -0.41f}, 0.03f, d.line);
}

}  // namespace

// Cendrawasih of Papua: birds of paradise with falling plumes among twigs.
void draw_cendrawasih(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.15f, 1.8f, Lie::upright);
  if (rng.chance(0.5f)) {
    cecek(pen, 0.06f, 0.009f, mix(dyes.ground, dyes.wax, 0.5f));
  } else {
    lattice(pen, {0.1f, 0}, {0.05f, 0.087f}, 0.1f, [&](const Pen& cell, int, int) {
      cell.line(diamond(0.026f, 0.026f), 0.008f, mix(dyes.ground, dyes.second, 0.45f));
    });
  }
  const Leafage leafage{mix(dyes.ground, dyes.third, 0.75f), dyes.wax, dyes.wax};
  const float facing = rng.sign();
  const Vec2 u{1, 0}, v{0.5f, 0.7f};
  lattice(pen, u, v, 0.9f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    const float side = j % 2 == 0 ? facing : -facing;
    const Pen twig = cell.scaled(side, 1);
    const std::array<Vec2, 4> way = {
        Vec2{-0.15f, 0.2f}, {0.12f, 0.12f}, {0.34f, 0.14f}, {0.58f, -0.02f}};
    vine(twig, way, 7, 0.19f, leafage, mix(dyes.second, dyes.line, 0.3f), part);
    blossom(twig.at({0.56f, -0.03f}).scaled(0.1f), 6, 0.7f, 0.1f, dyes.wax, dyes.main, dyes.line,
            dyes.second);
    blossom(twig.at({0.42f, 0.26f}).scaled(0.075f), 5, 0.8f, 0.1f, dyes.second, dyes.wax, dyes.line,
            dyes.main);
  });
  lattice(pen, u, v, 0.9f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, 200 + j);
    const float side = j % 2 == 0 ? facing : -facing;
    paradise(
        cell.scaled(side, 1).at({0.12f, -0.02f}).turned(part.uniform(-0.15f, 0.15f)).scaled(0.36f),
        dyes, part);
  });
}

// Lasem: red as chicken blood; phoenixes and flowers that came with Chinese settlers.
void draw_lasem(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.3f, 2.1f, Lie::upright);
  const Color ink = mix(dyes.ground, luminance(dyes.ground) > 0.6f ? dyes.main : dyes.wax, 0.38f);
  if (rng.chance(0.5f)) {
    cecek(pen, 0.05f, 0.0085f, ink);
  } else {
    truntum(pen, 0.11f, ink);
  }
  const Leafage leafage{dyes.third, dyes.line, dyes.wax};
  const float facing = rng.sign();
  const Vec2 u{1, 0}, v{0.5f, 0.62f};
  lattice(pen, u, v, 0.9f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    const Pen shoot =
        cell.at({0.5f, 0.02f}).turned(part.uniform(-0.4f, 0.4f)).scaled(part.sign(), 1);
    const std::array<Vec2, 4> way = {
        Vec2{-0.34f, 0.2f}, {-0.12f, 0.06f}, {0.08f, 0.1f}, {0.3f, -0.08f}};
    vine(shoot, way, 7, 0.16f, leafage, dyes.line, part);
    tendril(shoot.at(way[3]), 0.14f, 0.018f, dyes.line);
    for (int k = 0; k < 5; ++k)
      veined_leaf(shoot.at({0, 0.02f}).turned(0.5f + 1.26f * static_cast<float>(k)).at({0.11f, 0}),
                  0.15f, 0.075f, 0.03f, leafage);
    blossom(shoot.at({0, 0.02f}).turned(part.uniform(0, 1)).scaled(0.15f), 6 + part.below(3), 0.8f,
            0.12f, dyes.main, mix(dyes.main, dyes.wax, 0.5f), dyes.line, dyes.second);
    blossom(shoot.at({-0.22f, 0.2f}).scaled(0.085f), 5, 0.85f, 0.1f, dyes.second, dyes.wax,
            dyes.line, dyes.main);
  });
  lattice(pen, u, v, 0.9f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, 200 + j);
    const float side = j % 2 == 0 ? facing : -facing;
    bird(cell.scaled(0.27f * side, 0.27f).turned(part.uniform(-0.3f, 0.1f)), dyes, 5,
         part.uniform(1.0f, 1.3f), part);
  });
}

}  // namespace tenun::batik
