// The dye families of the twenty classes: a few traditional colour sets each. A picture takes one
// of them and shifts it a little, as no two vats are the same.
#pragma once
#include <span>

#include "tenun/train/batik/ornaments.h"

namespace tenun::batik {

/// The colour sets of class `cls` (0 .. 19, sorted names).
[[nodiscard]] std::span<const Dyes> dye_families(int cls);
/// The same dyes from another vat: all a little lighter or darker, warmer or cooler.
[[nodiscard]] Dyes another_vat(const Dyes& dyes, Rng& rng);

}  // namespace tenun::batik
