// Ornaments: the vocabulary that several motifs share. Each is drawn around the origin of its pen
// at about unit size (radius 1, or length 1 along +x), in the dyes given. Isen-isen, the fine
// filling of batik (cecek: dots, sawut: lines, sisik: scales, ukel: spirals), fills whatever the
// clip leaves.
#pragma once
#include "tenun/train/batik/shapes.h"

namespace tenun::batik {

/// What a picture is dyed with. `wax` is the cloth that stayed covered, `line` the darkest dye.
struct Dyes {
  Color ground, wax, line, main, second, third;
};

/// How a motif lies on the cloth.
enum class Lie { upright, any, diagonal };
/// A pen whose unit is one motif: `lo` to `hi` of them fit across, shifted and turned at random.
[[nodiscard]] Pen lay(const Pen& pen, Rng& rng, float lo, float hi, Lie lie);

// Isen-isen.
void cecek(const Pen& pen, float spacing, float radius, Color ink);
void sawut(const Pen& pen, float spacing, float width, Color ink);
void sisik(const Pen& pen, float size, float width, Color ink);
void ukel(const Pen& pen, float size, float width, Color ink);
void truntum(const Pen& pen, float size, Color ink);
void mini_kawung(const Pen& pen, float size, Color ink, Color heart);
/// Dots along a smooth curve.
void dotted(const Pen& pen, std::span<const Vec2> through, int n, float radius, Color ink);
/// Dots on a circle.
void dot_ring(const Pen& pen, int n, float ring, float radius, Color ink, float first = 0);

// Plants.
struct Leafage {
  Color inside, outline, vein;
};
/// A leaf along +x with midrib and side veins.
void veined_leaf(const Pen& pen, float length, float wide, float bend, const Leafage& dye);
/// A flower of n petals with radius 1; `notch` makes roses of it.
void blossom(const Pen& pen, int n, float wide, float notch, Color inside, Color shade,
             Color outline, Color heart);
/// A stem along a smooth curve with pairs of leaves and a curl at its end.
void vine(const Pen& pen, std::span<const Vec2> through, int leaves, float leaf_length,
          const Leafage& dye, Color stem, Rng& rng);
/// A curling shoot along +x.
void tendril(const Pen& pen, float length, float width, Color ink);

// Court symbols.
/// One wing (lar) that spreads from the origin to +x and up.
void wing(const Pen& pen, const Dyes& dyes, int feathers);
/// The winged Garuda: two wings and a tail.
void gurda(const Pen& pen, const Dyes& dyes);
/// A mountain of scales with a tree of flames (meru).
void meru(const Pen& pen, const Dyes& dyes);
/// A throne or temple.
void candi(const Pen& pen, const Dyes& dyes);
void butterfly(const Pen& pen, const Dyes& dyes);
/// A perched bird that looks to +x, with a tail of `plumes` feathers of length `tail`.
void bird(const Pen& pen, const Dyes& dyes, int plumes, float tail, Rng& rng);

}  // namespace tenun::batik
