// Finish: what the cloth and the wax do to a drawing. The hand of the canting makes lines waver,
// dye bleeds a little at the edges and soaks in unevenly, the wax cracks where the cloth was folded
// and lets fine dark veins through in the light parts, and the threads of the weave show.
//
//   Image picture = finish(canvas, rng, {.crack = hex(0x3a2212)});
#pragma once
#include "tenun/core/image.h"
#include "tenun/train/batik/canvas.h"

namespace tenun::batik {

struct Finish {
  Color crack;        // the dye that ran into the cracks
  float crackle = 1;  // how cracked the wax is; 0 for cloth that was never waxed
  float waver = 1;    // how far lines stray
};

[[nodiscard]] Image finish(const Canvas& drawing, const Rng& rng, const Finish& how);

/// Smooth noise over the unit square with values in [0, 1], `cells` bumps across.
class Noise {
 public:
  Noise(Rng rng, int cells);
  [[nodiscard]] float operator()(float x, float y) const;
  /// The values at the pixel centres of row y of an n x n picture.
  void row(int y, int n, std::vector<float>& out) const;

 private:
  int cells_;
  std::vector<float> knots_;
};

}  // namespace tenun::batik
