// Isen-isen, and how a motif is laid on the cloth.
#include "tenun/train/batik/ornaments.h"

namespace tenun::batik {

Pen lay(const Pen& pen, Rng& rng, float lo, float hi, Lie lie) {
  const float scale = 1 / rng.uniform(lo, hi);
  float angle = 0;
  switch (lie) {
    case Lie::upright: angle = rng.uniform(-0.07f, 0.07f); break;
    case Lie::any: angle = rng.uniform(0, kTau); break;
    case Lie::diagonal: angle = rng.sign() * kPi / 4 + rng.uniform(-0.14f, 0.14f); break;
  }
  const Vec2 phase{rng.uniform(-1, 1), rng.uniform(-1, 1)};
  return pen.turned(angle).scaled(scale).at(phase);
}

void cecek(const Pen& pen, float spacing, float radius, Color ink) {
  lattice(pen, {spacing, 0}, {0.5f * spacing, 0.866f * spacing}, radius,
          [&](const Pen& cell, int, int) {
            cell.dot({0, 0}, radius, ink);
          });
}

void sawut(const Pen& pen, float spacing, float width, Color ink) {
  // Long lines along x: one lattice cell is a piece of a line.
  const float piece = 12 * spacing;
  const Path line = Path::segment({-0.5f * piece, 0}, {0.5f * piece, 0});
  lattice(pen, {piece, 0}, {0, spacing}, 0.5f * piece,
          [&](const Pen& cell, int, int) { cell.line(line, width, ink); });
}

void sisik(const Pen& pen, float size, float width, Color ink) {
  const Path scale =
      Path::start({-0.5f * size, 0})
          .curve({-0.5f * size, 0.62f * size}, {0.5f * size, 0.62f * size}, {0.5f * size, 0});
  lattice(pen, {size, 0}, {0.5f * size, 0.5f * size}, size, [&](const Pen& cell, int, int) {
    cell.line(scale, width, ink);
    cell.dot({0, 0.2f * size}, 0.6f * width, ink);
  });
}

void ukel(const Pen& pen, float size, float width, Color ink) {
  const Path curl = spiral(0.45f * size, 0.06f * size, 0, 1.6f);
  lattice(pen, {size, 0}, {0.5f * size, 0.82f * size}, 0.5f * size,
          [&](const Pen& cell, int i, int j) {
            const float side = (i + j) % 2 == 0 ? 1.f : -1.f;
            cell.turned(1.7f * static_cast<float>(i + 2 * j))
                .scaled(side, 1)
                .line(curl, width, ink, Taper::tail);
          });
}

void truntum(const Pen& pen, float size, Color ink) {
  const Path petals = around(8, petal(0.29f * size, 0.13f * size));
  lattice(pen, {size, 0}, {0.5f * size, 0.6f * size}, 0.4f * size, [&](const Pen& cell, int, int) {
    cell.fill(petals, ink);
    cell.dot({0.25f * size, 0.3f * size}, 0.035f * size, ink);
    cell.dot({0.5f * size, 0}, 0.035f * size, ink);
  });
}

void mini_kawung(const Pen& pen, float size, Color ink, Color heart) {
  Path petals;
  for (int i = 0; i < 4; ++i)
    petals.add(Path::ellipse({0.36f * size, 0}, 0.29f * size, 0.19f * size),
               Affine::turn(kPi / 4 + kPi / 2 * static_cast<float>(i)));
  lattice(pen, {size, 0}, {0, size}, 0.7f * size, [&](const Pen& cell, int, int) {
    cell.fill(petals, ink);
    for (int i = 0; i < 4; ++i)
      cell.dot(polar(kPi / 4 + kPi / 2 * static_cast<float>(i), 0.36f * size), 0.05f * size, heart);
  });
}

void dotted(const Pen& pen, std::span<const Vec2> through, int n, float radius, Color ink) {
  for (int i = 0; i < n; ++i)
    pen.dot(along(through, (static_cast<float>(i) + 0.5f) / static_cast<float>(n)).at, radius, ink);
}

void dot_ring(const Pen& pen, int n, float ring, float radius, Color ink, float first) {
  for (int i = 0; i < n; ++i)
    pen.dot(polar(first + kTau * static_cast<float>(i) / static_cast<float>(n), ring), radius, ink);
}

}  // namespace tenun::batik
