// The attention methods as ops, by the names and with the attributes of golden/README-attention.md.
// attention/attention.h has the one entry point that chooses among them by data.
// Shapes: q (B, H, Nq, D), k and v (B, H, Nk, D) of one floating dtype, o like q, lse (B, H, Nq).
// 16-bit inputs are computed in f32. Autocast: Cast::low. Errors: ShapeError, DTypeError,
// ValueError.
//
//   Var o = sdpa(q, k, v);
#pragma once
#include <optional>

#include "tenun/autograd/var.h"
#include "tenun/ops/attention/flash.h"

namespace tenun {

struct SdpaOptions {
  std::optional<double> scale{};  ///< of q k^T; default 1 / sqrt(D)
  double dropout = 0;             ///< share of probabilities that are dropped, in [0, 1)
  RandomKey key{};                ///< element (b, h, i, j) of the probabilities drops by this key
};
/// softmax(scale q k^T) v
[[nodiscard]] Var sdpa(const Var& q, const Var& k, const Var& v, const SdpaOptions& options = {});

struct SparseResult {
  Var o, lse;  ///< lse: natural logarithm of each row's denominator
};
/// Attention over the blocks whose mask (B, H, T_m, T_n) is not 0.
[[nodiscard]] SparseResult block_sparse_attention(const Var& q, const Var& k, const Var& v,
                                                  const Tensor& mask, int64_t block_q,
                                                  int64_t block_k,
                                                  std::optional<double> scale = {});

}  // namespace tenun
