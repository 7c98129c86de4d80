// Fixed sinusoidal embeddings, computed in f64.
//   sincos_pos_embed(dim, grid)   the position table of JiT and DiT for a grid of tokens, [G*G,
//   dim]:
//     token (row i, column j) -> [sin(j w), cos(j w), sin(i w), cos(i w)], w_k = 10000^(-4k/dim):
//     the column first, then the row
//   timestep_embedding(t, dim)    [B] -> [B, dim]: [cos(t f), sin(t f)], f_k =
//   max_period^(-k/half),
//     half = dim / 2 rounded down; an odd dim ends with a 0. The result has t's dtype (f32 for
//     16-bit and integer t); t is used raw.
//
//   Tensor pos = sincos_pos_embed(768, 16, DType::f32);   Var e = timestep_embedding(t, 256);
//
// Errors: ShapeError, ValueError.
#pragma once
#include "tenun/autograd/var.h"

namespace tenun {

[[nodiscard]] Tensor sincos_pos_embed(int64_t dim, int64_t grid, DType dtype = DType::f64);
[[nodiscard]] Var timestep_embedding(const Var& t, int64_t dim, double max_period = 10000);

}  // namespace tenun
