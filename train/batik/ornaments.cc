#include "tenun/train/batik/ornaments.h"

#include <algorithm>

namespace tenun::batik {

void veined_leaf(const Pen& pen, float len, float wide, float bend, const Leafage& dye) {
  if (!pen.visible({0.5f * len, 0}, len)) return;
  const Path outline = leaf(len, wide, bend);
  pen.shape(outline, dye.inside, 0.05f * len, dye.outline);
  pen.line(Path::start({0, 0}).curve({0.3f * len, 0}, {0.6f * len, 0.6f * bend},
                                     {0.94f * len, 0.95f * bend}),
           0.035f * len, dye.vein, Taper::tail);
  for (int i = 1; i <= 4; ++i) {
    const float t = 0.14f + 0.16f * static_cast<float>(i);
    const float w = 0.36f * wide * std::sin(kPi * std::min(1.f, 0.12f + 0.92f * t));
    const Vec2 root{t * len - 0.07f * len, bend * t * t * 0.9f};
    for (const float side : {-1.f, 1.f})
      pen.line(Path::segment(root, root + Vec2{0.13f * len, side * w}), 0.02f * len, dye.vein,
               Taper::tail);
  }
}

void blossom(const Pen& pen, int n, float wide, float notch, Color inside, Color shade,
             Color outline, Color heart) {
  if (!pen.visible({0, 0}, 1.1f)) return;
  const Path outer = petal(1, wide, notch), inner = petal(0.66f, 0.6f * wide, notch);
  for (int i = 0; i < n; ++i) {
    const Pen part = pen.turned(kTau * static_cast<float>(i) / static_cast<float>(n));
    part.shape(outer, inside, 0.06f, outline);
    part.fill(inner, shade);
    for (const float side : {-1.f, 0.f, 1.f})
      part.line(arc({0.3f, 0.05f * side}, {0.82f - 0.06f * std::abs(side), 0.22f * wide * side},
                    0.05f * side),
                0.025f, outline, Taper::tail);
  }
  pen.dot({0, 0}, 0.25f, outline);
  pen.dot({0, 0}, 0.2f, heart);
  dot_ring(pen, 6, 0.11f, 0.035f, outline);
}

void tendril(const Pen& pen, float len, float width, Color ink) {
  Path path = Path::start({0, 0});
  path.curve({0.4f * len, 0.05f * len}, {0.95f * len, 0.1f * len}, {0.98f * len, -0.2f * len})
      .curve({len, -0.42f * len}, {0.66f * len, -0.46f * len}, {0.64f * len, -0.26f * len})
      .curve({0.63f * len, -0.12f * len}, {0.84f * len, -0.1f * len}, {0.82f * len, -0.24f * len});
  pen.line(path, width, ink, Taper::tail);
}

void vine(const Pen& pen, std::span<const Vec2> through, int leaves, float leaf_length,
          const Leafage& dye, Color stem, Rng& rng) {
  pen.line(Path::smooth(through, false), 0.11f * leaf_length, stem, Taper::tail);
  for (int i = 0; i < leaves; ++i) {
    const float t = (static_cast<float>(i) + 0.6f) / static_cast<float>(leaves);
    const Station s = along(through, t);
    const float size = leaf_length * (1 - 0.35f * t) * rng.uniform(0.85f, 1.15f);
    const float side = i % 2 == 0 ? 1.f : -1.f;
    const float bend = rng.uniform(0.05f, 0.25f);
    veined_leaf(pen.at(s.at).turned(s.heading + side * rng.uniform(0.6f, 0.95f)).scaled(1, side),
                size, 0.46f * size, bend * size, dye);
  }
}

void wing(const Pen& pen, const Dyes& dyes, int feathers) {
  if (!pen.visible({0.5f, -0.4f}, 1.1f)) return;
  // Long feathers first, fanned from flat to steep; each next row is shorter and lies on top.
  const std::array<Color, 3> row_dye = {dyes.main, dyes.wax, dyes.second};
  for (int row = 0; row < 3; ++row) {
    const float reach = 1 - 0.27f * static_cast<float>(row);
    for (int i = 0; i < feathers; ++i) {
      const float t = static_cast<float>(i) / static_cast<float>(feathers - 1);
      const float len = reach * (1 - 0.34f * t * t);
      const Pen feather = pen.turned(0.12f - 1.35f * t);
      feather.shape(petal(len, 0.3f), row_dye[static_cast<size_t>(row)], 0.035f, dyes.line);
      if (row < 2)
        feather.line(Path::segment({0.5f * len, 0}, {0.9f * len, 0}), 0.03f, dyes.line,
                     Taper::both);
    }
  }
  pen.shape(Path::circle({0.06f, -0.06f}, 0.17f), dyes.wax, 0.035f, dyes.line);
  pen.line(spiral(0.12f, 0.02f, 0, 1.3f), 0.035f, dyes.line);
}

void gurda(const Pen& pen, const Dyes& dyes) {
  if (!pen.visible({0, 0}, 1.3f)) return;
  for (int i = 0; i < 7; ++i) {  // the tail, a fan upwards
    const float t = static_cast<float>(i) / 6 - 0.5f;
    pen.turned(-kPi / 2 + 1.5f * t)
        .shape(petal(0.95f - 0.5f * t * t, 0.22f), i % 2 == 0 ? dyes.second : dyes.wax, 0.035f,
               dyes.line);
  }
  for (const float side : {-1.f, 1.f}) wing(pen.scaled(side, 1).at({0.12f, 0.1f}), dyes, 6);
  pen.shape(Path::ellipse({0, 0.08f}, 0.2f, 0.3f), dyes.main, 0.04f, dyes.line);
  dot_ring(pen.at({0, 0.08f}), 8, 0.12f, 0.025f, dyes.wax);
  pen.dot({0, 0.08f}, 0.06f, dyes.wax);
}

void meru(const Pen& pen, const Dyes& dyes) {
  if (!pen.visible({0, -0.3f}, 1.2f)) return;
  tendril(pen.at({0, -0.7f}).turned(-kPi / 2), 0.45f, 0.06f, dyes.line);
  for (const float side : {-1.f, 1.f})
    tendril(pen.at({0, -0.65f}).scaled(side, 1).turned(-kPi / 2 + 0.5f), 0.4f, 0.05f, dyes.main);
  for (int row = 0; row < 3; ++row) {  // peaks behind peaks
    const int n = row + 1;
    const float y = -0.5f + 0.3f * static_cast<float>(row);
    for (int i = 0; i < n; ++i) {
      const float x = 0.42f * (static_cast<float>(i) - 0.5f * static_cast<float>(n - 1));
      const auto hill = [&](float s) {
        return Path::start({x - 0.3f * s, y + 0.3f})
            .curve({x - 0.3f * s, y}, {x - 0.1f * s, y - 0.18f * s}, {x, y - 0.34f * s})
            .curve({x + 0.1f * s, y - 0.18f * s}, {x + 0.3f * s, y}, {x + 0.3f * s, y + 0.3f})
            .close();
      };
      pen.shape(hill(1), row % 2 == 0 ? dyes.main : dyes.second, 0.035f, dyes.line);
      pen.fill(hill(0.62f), dyes.wax);
      pen.fill(hill(0.34f), row % 2 == 0 ? dyes.second : dyes.main);
    }
  }
  pen.shape(rectangle({0, 0.42f}, 1.5f, 0.12f), dyes.wax, 0.035f, dyes.line);
  for (int i = 0; i < 9; ++i)
    pen.dot({-0.64f + 0.16f * static_cast<float>(i), 0.42f}, 0.03f, dyes.line);
}

void candi(const Pen& pen, const Dyes& dyes) {
  if (!pen.visible({0, 0}, 1.2f)) return;
  for (int i = 0; i < 4; ++i) {  // roofs, the widest below
    const float k = static_cast<float>(i), w = 0.24f + 0.2f * k, y = -0.62f + 0.24f * k;
    const Path roof = Path::start({-w, y + 0.16f})
                          .curve({-0.7f * w, y + 0.12f}, {-0.5f * w, y}, {-0.4f * w, y - 0.08f})
                          .line({0.4f * w, y - 0.08f})
                          .curve({0.5f * w, y}, {0.7f * w, y + 0.12f}, {w, y + 0.16f})
                          .close();
    pen.shape(roof, i % 2 == 0 ? dyes.main : dyes.wax, 0.04f, dyes.line);
    for (int j = -i; j <= i; ++j)
      pen.dot({0.16f * static_cast<float>(j), y + 0.08f}, 0.03f, dyes.line);
  }
  pen.shape(rectangle({0, 0.5f}, 1.1f, 0.42f), dyes.wax, 0.04f, dyes.line);
  for (const float x : {-0.38f, 0.f, 0.38f})
    pen.at({x, 0.7f}).turned(-kPi / 2).shape(petal(0.36f, 0.22f), dyes.main, 0.03f, dyes.line);
  pen.shape(rectangle({0, 0.78f}, 1.5f, 0.14f), dyes.second, 0.04f, dyes.line);
  pen.at({0, -0.68f}).turned(-kPi / 2).shape(leaf(0.34f, 0.18f), dyes.second, 0.035f, dyes.line);
}

void butterfly(const Pen& pen, const Dyes& dyes) {
  if (!pen.visible({0, 0}, 1.2f)) return;
  for (const float side : {-1.f, 1.f}) {
    const Pen half = pen.scaled(side, 1);
    const auto pane = [&](float angle, float len, float wide, Color inside, Color shade) {
      const Pen w = half.turned(angle);
      w.shape(petal(len, wide), inside, 0.04f, dyes.line);
      w.fill(petal(0.8f * len, 0.62f * wide), shade);
      w.dot({0.62f * len, 0}, 0.1f * wide, dyes.line);
      for (int i = -2; i <= 2; ++i)
        w.dot(polar(0.19f * static_cast<float>(i) * wide / len, 0.88f * len), 0.03f, dyes.line);
    };
    pane(0.62f, 0.78f, 0.5f, dyes.second, dyes.wax);
    pane(-0.55f, 1.0f, 0.62f, dyes.main, dyes.wax);
    half.line(Path::start({0.02f, -0.35f}).curve({0.05f, -0.6f}, {0.2f, -0.75f}, {0.32f, -0.7f}),
              0.035f, dyes.line, Taper::tail);
  }
  pen.shape(Path::ellipse({0, 0.02f}, 0.09f, 0.4f), dyes.main, 0.04f, dyes.line);
}

void bird(const Pen& pen, const Dyes& dyes, int plumes, float tail, Rng& rng) {
  if (!pen.visible({-0.4f, 0}, 1.1f + tail)) return;
  const float droop = rng.uniform(0.05f, 0.35f);
  for (int i = 0; i < plumes; ++i) {  // the tail, behind the body
    const float t = plumes > 1 ? static_cast<float>(i) / static_cast<float>(plumes - 1) - 0.5f : 0;
    const Pen plume = pen.at({-0.34f, 0.04f}).turned(kPi + 0.9f * t);
    const float bend = droop * tail * (t < 0 ? -1.f : 1.f);
    plume.shape(leaf(tail, 0.22f, bend), i % 2 == 0 ? dyes.main : dyes.second, 0.03f, dyes.line);
    plume.line(Path::start({0, 0}).curve({0.3f * tail, 0}, {0.6f * tail, 0.6f * bend},
                                         {0.95f * tail, bend}),
               0.03f, dyes.wax, Taper::tail);
    plume.dot({0.84f * tail, 0.82f * bend}, 0.05f, dyes.wax);
  }
  const Path body = Path::start({-0.45f, 0.06f})
                        .curve({-0.25f, -0.2f}, {0.08f, -0.16f}, {0.2f, -0.42f})
                        .curve({0.26f, -0.62f}, {0.52f, -0.6f}, {0.54f, -0.42f})
                        .curve({0.56f, -0.2f}, {0.5f, 0.32f}, {0.05f, 0.3f})
                        .curve({-0.2f, 0.29f}, {-0.36f, 0.2f}, {-0.45f, 0.06f})
                        .close();
  for (const float x : {0.0f, 0.14f})
    pen.line(Path::start({x, 0.26f}).line({x + 0.02f, 0.46f}).line({x + 0.12f, 0.5f}), 0.035f,
             dyes.line);
  pen.fill(Path::start({0.5f, -0.5f})
               .curve({0.6f, -0.52f}, {0.7f, -0.46f}, {0.76f, -0.36f})
               .curve({0.66f, -0.38f}, {0.58f, -0.36f}, {0.52f, -0.36f})
               .close(),
           dyes.line);
  for (int i = 0; i < 3; ++i)  // the crest
    pen.at({0.36f, -0.56f})
        .turned(-kPi / 2 - 0.75f + 0.4f * static_cast<float>(i))
        .shape(petal(0.26f, 0.1f), dyes.second, 0.025f, dyes.line);
  pen.shape(body, dyes.main, 0.045f, dyes.line);
  {
    const Clip inside(pen, body);
    sisik(pen, 0.13f, 0.018f, dyes.wax);
  }
  pen.dot({0.42f, -0.46f}, 0.06f, dyes.wax);
  pen.dot({0.43f, -0.46f}, 0.03f, dyes.line);
  const Pen shoulder = pen.at({0.24f, -0.02f});
  for (int i = 0; i < 4; ++i) {
    const float t = static_cast<float>(i) / 3;
    shoulder.turned(kPi - 0.12f + 0.62f * t)
        .shape(petal(0.82f - 0.16f * t, 0.2f), i % 2 == 0 ? dyes.second : dyes.wax, 0.03f,
               dyes.line);
  }
  shoulder.shape(Path::circle({0, 0.02f}, 0.12f), dyes.wax, 0.03f, dyes.line);
}

}  // namespace tenun::batik
