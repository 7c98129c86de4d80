// Tambal and sekar jagad: cloths that show many motifs at once, in patches and on islands.
#include <algorithm>

#include "tenun/train/batik/motifs.h"

namespace tenun::batik {
namespace {

constexpr int kFillings = 10;

/// Fills the clip with a small motif; one repeat is about `s` wide.
void filling(const Pen& pen, int kind, float s, const Dyes& d) {
  switch (kind) {
    case 0: mini_kawung(pen, s, d.wax, d.line); break;
    case 1: truntum(pen, 0.9f * s, d.wax); break;
    case 2: sisik(pen, 0.7f * s, 0.05f * s, d.wax); break;
    case 3: ukel(pen, 0.8f * s, 0.07f * s, d.wax); break;
    case 4:  // parang: slanting S strokes between lines
      lattice(pen.turned(kPi / 4), {0.4f * s, 0}, {0, 1.1f * s}, s, [&](const Pen& cell, int, int) {
        cell.line(swing({0.22f * s, -0.4f * s}, {-0.22f * s, 0.4f * s}, 0.14f), 0.17f * s, d.wax,
                  Taper::both);
        cell.line(swing({0.22f * s, -0.4f * s}, {-0.22f * s, 0.4f * s}, 0.14f), 0.04f * s, d.line);
        cell.line(Path::segment({-0.21f * s, 0.55f * s}, {0.21f * s, 0.55f * s}), 0.07f * s,
                  d.second);
      });
      break;
    case 5:  // ceplok: little rosettes in squares
      lattice(pen, {s, 0}, {0, s}, s, [&](const Pen& cell, int, int) {
        cell.line(rectangle({0, 0}, 0.92f * s, 0.92f * s), 0.05f * s, d.second);
        cell.fill(around(8, petal(0.4f * s, 0.17f * s)), d.wax);
        cell.dot({0, 0}, 0.1f * s, d.line);
      });
      break;
    case 6:  // nitik: a weave of dashes
      lattice(
          pen, {0.3f * s, 0}, {0.15f * s, 0.3f * s}, 0.3f * s, [&](const Pen& cell, int i, int j) {
            cell.fill(rectangle({0, 0}, 0.17f * s, 0.09f * s), (i + j) % 4 == 0 ? d.second : d.wax);
          });
      break;
    case 7:  // lereng: stripes with dots
      sawut(pen.turned(-kPi / 4), 0.42f * s, 0.1f * s, d.wax);
      cecek(pen.turned(-kPi / 4), 0.42f * s, 0.05f * s, d.second);
      break;
    case 8:  // banji: crosses
      lattice(pen, {0.7f * s, 0}, {0.35f * s, 0.6f * s}, 0.5f * s, [&](const Pen& cell, int, int) {
        cell.fill(rectangle({0, 0}, 0.42f * s, 0.12f * s), d.wax);
        cell.fill(rectangle({0, 0}, 0.12f * s, 0.42f * s), d.wax);
        cell.dot({0.35f * s, 0}, 0.05f * s, d.second);
      });
      break;
    default:  // flowers
      lattice(pen, {1.1f * s, 0}, {0.55f * s, 0.95f * s}, s, [&](const Pen& cell, int i, int j) {
        cell.fill(around(6, petal(0.45f * s, 0.34f * s)), (i + j) % 2 == 0 ? d.wax : d.second);
        cell.dot({0, 0}, 0.13f * s, d.main);
        for (int k = 0; k < 3; ++k)
          cell.dot(polar(kTau * static_cast<float>(k) / 3 + kPi / 6, 0.56f * s), 0.04f * s, d.wax);
      });
      break;
  }
}

/// The dyes of one patch: any of the darker colours as its ground.
Dyes patch_dyes(const Dyes& d, Rng& rng) {
  const std::array<Color, 5> grounds = {d.ground, d.main, d.second, d.third, d.line};
  Dyes out = d;
  out.ground = rng.pick(grounds);
  out.line = out.ground == d.line ? d.ground : d.line;
  out.second = out.ground == d.third ? d.main : d.third;
  if (out.ground == d.second) out.second = d.line;
  out.wax = luminance(out.ground) > 0.66f ? d.line : d.wax;
  return out;
}

}  // namespace

// Patches sewn together: squares cut along their diagonals, each piece with a motif of its own.
void draw_tambal(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 1.9f, 3.2f, rng.chance(0.6f) ? Lie::upright : Lie::diagonal);
  const int cut = rng.below(3);
  const float repeat = rng.uniform(0.17f, 0.22f);
  std::vector<std::pair<Pen, Path>> seams;
  lattice(pen, {1, 0}, {0, 1}, 0.75f, [&](const Pen& cell, int i, int j) {
    Rng part = rng.fork(i, j);
    const bool slash = ((i + j) % 2 + 2) % 2 == 0;
    const int pieces = cut == 0 ? 2 : cut == 1 ? 4 : 2 + 2 * part.below(2);
    int last = -1;
    for (int k = 0; k < pieces; ++k) {
      const float first = kPi / 4 + (slash ? 0 : kPi / 2) +
                          kTau * static_cast<float>(k) / static_cast<float>(pieces);
      const auto corner = [&](float angle) { return polar(angle, 0.7072f); };
      Path piece = pieces == 2 ? Path::polygon(std::array<Vec2, 3>{
                                     corner(first), corner(first + kPi / 2), corner(first + kPi)})
                               : Path::polygon(std::array<Vec2, 3>{Vec2{0, 0}, corner(first),
                                                                   corner(first + kPi / 2)});
      const Dyes d = patch_dyes(dyes, part);
      int kind = part.below(kFillings);
      if (kind == last) kind = (kind + 1) % kFillings;
      last = kind;
      cell.fill(piece, d.ground);
      {
        const Clip clip(cell, piece);
        filling(cell, kind, repeat, d);
      }
      seams.push_back({cell, std::move(piece)});
    }
  });
  for (const auto& [cell, piece] : seams) cell.line(piece, 0.055f, dyes.wax);
  for (const auto& [cell, piece] : seams) cell.line(piece, 0.014f, dyes.line);
}

namespace {

/// The part of a polygon that is nearer to `a` than to `b`, less a margin.
std::vector<Vec2> nearer(const std::vector<Vec2>& polygon, Vec2 a, Vec2 b, float margin) {
  const Vec2 n = b - a;
  const float len = length(n), limit = dot(mix(a, b, 0.5f), n) - margin * len;
  std::vector<Vec2> out;
  for (size_t i = 0; i < polygon.size(); ++i) {
    const Vec2 p = polygon[i], q = polygon[(i + 1) % polygon.size()];
    const float dp = dot(p, n) - limit, dq = dot(q, n) - limit;
    if (dp <= 0) out.push_back(p);
    if ((dp < 0) != (dq < 0) && dp != dq) out.push_back(mix(p, q, dp / (dp - dq)));
  }
  return out;
}

}  // namespace

// Sekar jagad, the map of the world in flowers: winding islands, each with its own filling. The
// islands are the cells of a Voronoi diagram, drawn in a little and rounded.
void draw_sekar(const Pen& cloth, Rng rng, const Dyes& dyes) {
  const Pen pen = lay(cloth, rng, 2.4f, 4.2f, Lie::any);
  const float channel = rng.uniform(0.03f, 0.05f), repeat = rng.uniform(0.17f, 0.23f);
  const auto site = [&](int i, int j) {
    Rng part = rng.fork(i, 500 + j);
    return Vec2{static_cast<float>(i) + 0.5f * static_cast<float>(j) + part.uniform(-0.36f, 0.36f),
                0.87f * (static_cast<float>(j) + part.uniform(-0.36f, 0.36f))};
  };
  cecek(pen, 0.045f, 0.009f, mix(dyes.ground, dyes.wax, 0.6f));
  lattice(pen, {1, 0}, {0.5f, 0.87f}, 1.3f, [&](const Pen& cell, int i, int j) {
    const Vec2 home = {static_cast<float>(i) + 0.5f * static_cast<float>(j),
                       0.87f * static_cast<float>(j)};
    const Vec2 here = site(i, j) - home;
    std::vector<Vec2> land = {{-2, -2}, {2, -2}, {2, 2}, {-2, 2}};
    for (int dj = -2; dj <= 2; ++dj)
      for (int di = -2; di <= 2; ++di)
        if (di != 0 || dj != 0) land = nearer(land, here, site(i + di, j + dj) - home, channel);
    if (land.size() < 3) return;
    // Points along the coast, pushed in and out; corners are cut by leaving them out.
    Rng part = rng.fork(i, j);
    std::vector<Vec2> coast;
    for (size_t k = 0; k < land.size(); ++k) {
      const Vec2 p = land[k], q = land[(k + 1) % land.size()];
      const float len = length(q - p);
      if (len < 0.12f) {
        coast.push_back(mix(mix(p, q, 0.5f), here, 0.1f));
        continue;
      }
      const int n = 1 + static_cast<int>(len / 0.22f);
      for (int m = 0; m < n; ++m) {
        const float t = (static_cast<float>(m) + 0.5f) / static_cast<float>(n);
        coast.push_back(mix(mix(p, q, 0.08f + 0.84f * t), here, part.uniform(0.0f, 0.09f)));
      }
    }
    const Path island = Path::smooth(coast, true);
    const Dyes d = patch_dyes(dyes, part);
    cell.line(island, 0.1f, dyes.wax);
    cell.fill(island, d.ground);
    {
      const Clip clip(cell, island);
      const Pen inside = cell.at(here).turned(part.uniform(0, kTau));
      if (part.chance(0.3f)) {
        cecek(inside, 0.06f, 0.011f, d.wax);
        blossom(inside.scaled(0.3f), 5 + part.below(4), 0.62f, 0.08f, d.wax, d.second, d.line,
                d.main);
      } else {
        filling(inside, part.below(kFillings), repeat, d);
      }
      cell.line(island, 0.07f, d.ground);
    }
    cell.line(island, 0.022f, dyes.line);
  });
}

}  // namespace tenun::batik
