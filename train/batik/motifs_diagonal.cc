// Lereng: the fine diagonal bands of West Java (Ciamis, Garut and the Priangan highlands).
#include <algorithm>

#include "tenun/train/batik/motifs.h"

namespace tenun::batik {
namespace {

/// A straight band of height h around y = 0, wide enough for any picture.
Path stripe(float h) { return rectangle({0, 0}, 40, h); }

/// Calls row(pen, k) for every band line y = k * pitch of the cloth that may show.
template <class Row>
void bands(const Pen& pen, float pitch, Row&& row) {
  const Affine back = pen.map().inverse();
  const auto n = static_cast<float>(pen.canvas().size());
  const auto ys = std::minmax({back({0, 0}).y, back({n, 0}).y, back({0, n}).y, back({n, n}).y});
  const int first = static_cast<int>(std::floor(ys.first / pitch)) - 1;
  const int last = static_cast<int>(std::ceil(ys.second / pitch)) + 1;
  for (int k = first; k <= last; ++k) row(pen.at({0, pitch * static_cast<float>(k)}), k);
}

}  // namespace

// Restrained: few leaves in brown and black on undyed cloth, in slanting rows parted by thin lines.
void draw_ciamis(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 2.4f, 4.2f, Lie::diagonal);
  const float pitch = rng.uniform(0.72f, 0.9f), step = rng.uniform(0.5f, 0.62f);
  const bool rays = rng.chance(0.5f), buds = rng.chance(0.5f);
  const Leafage brown{dyes.main, dyes.line, dyes.wax}, black{dyes.line, dyes.line, dyes.wax};
  bands(pen, pitch, [&](const Pen& row, int k) {
    row.line(Path::segment({-20, 0.5f * pitch}, {20, 0.5f * pitch}), 0.022f, dyes.line);
    row.line(Path::segment({-20, 0.5f * pitch - 0.06f}, {20, 0.5f * pitch - 0.06f}), 0.014f,
             dyes.main);
    lattice(
        row.at({0.3f * static_cast<float>(k), 0}), {step, 0}, {0, 400}, 0.6f,
        [&](const Pen& cell, int i, int) {
          const Leafage& dye = (i + k) % 2 == 0 ? brown : black;
          cell.line(swing({-0.5f * step, 0.05f}, {0.5f * step, -0.05f}, 0.12f), 0.024f, dyes.line);
          veined_leaf(cell.turned(-0.95f), 0.36f, 0.17f, 0.04f, dye);
          veined_leaf(cell.at({0.2f * step, 0.02f}).turned(2.2f), 0.36f, 0.17f, 0.04f, dye);
          if (buds)
            cell.at({0.5f * step, -0.05f})
                .shape(Path::circle({0, -0.05f}, 0.045f), dyes.main, 0.018f, dyes.line);
          if (rays)
            for (int d = 0; d < 3; ++d)
              cell.dot({0.5f * step + 0.05f * static_cast<float>(d - 1), 0.17f}, 0.014f, dyes.main);
        });
  });
}

// Pastel bands on cream: chains of diamonds, chevrons and little flowers, in turn.
void draw_garutan(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 2.6f, 4.4f, Lie::diagonal);
  const float pitch = 0.56f;
  const int shift = rng.below(3), flower = 5 + rng.below(4);
  const std::array<Color, 3> tints = {dyes.main, dyes.second, dyes.third};
  bands(pen, pitch, [&](const Pen& row, int k) {
    const int kind = ((k + shift) % 3 + 3) % 3;
    const Color tint = tints[static_cast<size_t>(kind)];
    row.fill(stripe(pitch), kind == 1 ? mix(dyes.wax, tint, 0.35f) : dyes.ground);
    for (const float y : {-0.5f, 0.5f}) {
      row.line(Path::segment({-20, pitch * y}, {20, pitch * y}), 0.026f, dyes.line);
      row.line(Path::segment({-20, pitch * y * 0.86f}, {20, pitch * y * 0.86f}), 0.012f, tint);
    }
    lattice(row, {0.42f, 0}, {0, 400}, 0.4f, [&](const Pen& cell, int i, int) {
      if (kind == 0) {
        cell.shape(diamond(0.19f, 0.19f), tint, 0.016f, dyes.line);
        cell.shape(diamond(0.12f, 0.12f), dyes.wax, 0.012f, dyes.line);
        cell.fill(star(4, 0.09f, 0.03f), dyes.third);
        for (const float s : {-1.f, 1.f}) {
          cell.dot({0.21f, 0.12f * s}, 0.018f, dyes.line);
          cell.dot({0.21f, 0.055f * s}, 0.013f, tint);
        }
      } else if (kind == 1) {
        for (int c = 0; c < 3; ++c) {
          const float x = 0.14f * static_cast<float>(c) - 0.14f;
          cell.line(Path::start({x - 0.07f, -0.19f}).line({x + 0.07f, 0}).line({x - 0.07f, 0.19f}),
                    0.036f, c == i % 3 ? dyes.wax : tint);
        }
      } else {
        cell.scaled(0.17f).shape(around(flower, petal(1, 3.6f / static_cast<float>(flower))), tint,
                                 0.09f, dyes.line);
        cell.dot({0, 0}, 0.045f, dyes.wax);
        for (const float s : {-1.f, 1.f})
          cell.at({0.21f, 0})
              .turned(s * kPi / 2)
              .shape(leaf(0.2f, 0.1f), dyes.second, 0.014f, dyes.line);
      }
    });
  });
}

// Delicate: thin waving vines with small leaves run along the slope between lines of dots.
void draw_priangan(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 2.0f, 3.4f, Lie::diagonal);
  const float pitch = rng.uniform(0.46f, 0.58f), wave = rng.uniform(0.07f, 0.11f);
  const int petals = 5 + rng.below(2);
  const bool filled = rng.chance(0.5f);
  cecek(pen, 0.085f, 0.009f, mix(dyes.ground, dyes.wax, 0.75f));
  const Path bud = petal(0.14f, 0.085f);
  bands(pen, pitch, [&](const Pen& row, int k) {
    if (filled && k % 2 == 0) {
      row.fill(stripe(0.8f * pitch), mix(dyes.ground, dyes.main, 0.45f));
    }
    lattice(row.at({0, 0.5f * pitch}), {0.06f, 0}, {0, 400}, 0.05f, [&](const Pen& cell, int, int) {
      cell.dot({0, 0}, 0.016f, dyes.wax);
    });
    lattice(row.at({0.37f * static_cast<float>(k), 0}), {0.64f, 0}, {0, 400}, 0.7f,
            [&](const Pen& cell, int i, int) {
              const Path half = Path::start({-0.32f, 0})
                                    .curve({-0.2f, -2 * wave}, {-0.12f, -2 * wave}, {0, 0})
                                    .curve({0.12f, 2 * wave}, {0.2f, 2 * wave}, {0.32f, 0});
              cell.line(half, 0.024f, dyes.line);
              for (int s = 0; s < 4; ++s) {
                const float x = -0.24f + 0.16f * static_cast<float>(s);
                const float y = -1.4f * wave * (x < 0 ? 1.f : -1.f);
                const float up = s % 2 == 0 ? -1.f : 1.f;
                cell.at({x, y}).turned(up * 1.0f).shape(
                    leaf(0.18f, 0.09f, 0.02f), s < 2 ? dyes.main : dyes.second, 0.012f, dyes.wax);
              }
              const Pen flower = cell.at({0.32f, i % 2 == 0 ? -0.07f : 0.07f});
              if (i % 2 == 0) {
                flower.shape(around(petals, petal(0.105f, 0.09f)), dyes.third, 0.012f, dyes.wax);
                flower.dot({0, 0}, 0.028f, dyes.wax);
              } else {
                flower.turned(kPi / 2).shape(bud, dyes.second, 0.012f, dyes.wax);
              }
            });
  });
}

}  // namespace tenun::batik
