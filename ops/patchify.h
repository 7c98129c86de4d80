// Images [B, C, H, W] to tokens [B, T, p p C] and back: pure reorderings. Token (i, j) of the
// (H/p) x (W/p) grid is number i (W/p) + j and holds the patch at rows i p.., columns j p...
//   PatchOrder::channels_last    feature (py p + px) C + c: what unpatchify and JiT's output use
//   PatchOrder::channels_first   feature (c p + py) p + px: the order of a convolution weight
//                                [out, C, p, p], so that a convolution with kernel = stride = p is
//                                linear(patchify(x, p, channels_first), weight viewed as [out, C p
//                                p])
//
//   Var tokens = patchify(image, 16);   Var back = unpatchify(tokens, 16, 3);     // square images
//
// Errors: ShapeError where the sizes do not divide.
#pragma once
#include "tenun/autograd/var.h"

namespace tenun {

enum class PatchOrder : uint8_t { channels_last, channels_first };

[[nodiscard]] Var patchify(const Var& x, int64_t patch,
                           PatchOrder order = PatchOrder::channels_last);
/// The inverse of patchify for square images: tokens [B, G*G, p p C] to [B, C, G p, G p].
[[nodiscard]] Var unpatchify(const Var& tokens, int64_t patch, int64_t channels);

}  // namespace tenun
