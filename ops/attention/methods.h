// The attention methods as ops, by the names and with the attributes of golden/README-attention.md;
// attention/attention.h has the one entry point that chooses among them by data, and the fields of
// AttentionSpec that each of these reads.
// Shapes: q (B, H, Nq, D), k and v (B, H, Nk, D) of one floating dtype, o like q, lse (B, H, Nq).
// 16-bit inputs are computed in f32; Autocast applies its type to q, k, v (routers and alpha stay
// in their own). Errors: ShapeError, DTypeError, ValueError.
//
//   Var o = sdpa(q, k, v);
#pragma once
#include "tenun/ops/attention/attention.h"

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

/// Linear attention over the blocks whose mask is 0; without a mask, over all keys.
[[nodiscard]] Var linear_attention(const Var& q, const Var& k, const Var& v, const Tensor& mask,
                                   FeatureMap feature_map, double eps, int64_t block_q,
                                   int64_t block_k);

/// m = sigmoid(x / tau + lambda) along the last axis with row sum `target`; exact gradient.
[[nodiscard]] Var soft_topk(const Var& x, double target, double tau);

enum class SmoothK : uint8_t { no, yes };
/// u8 mask (B, H, T_m, T_n) of the top-k pooled scores; routers (D, D) may be undefined.
[[nodiscard]] Tensor topk_block_map(const Tensor& q, const Tensor& k, const Tensor& router_q,
                                    const Tensor& router_k, int64_t block_q, int64_t block_k,
                                    double topk_ratio, SmoothK smooth_k = SmoothK::no);

/// Sparse-linear attention with a learned router (SLA2, arXiv 2602.12675): O = a O_s + (1 - a) O_l.
/// The router sees q and k as constants; in hard mode it gets no gradient.
[[nodiscard]] AttentionOutput sla2_attention(const Var& q, const Var& k, const Var& v,
                                             const AttentionSpec& spec,
                                             const AttentionParams& params);
/// mean((soft SLA2 - full attention)^2) with constant q, k, v: stage 1 of SLA2's training.
[[nodiscard]] Var sla2_router_loss(const Var& q, const Var& k, const Var& v,
                                   const AttentionSpec& spec, const AttentionParams& params);

/// The variant of PixelGen's `sla` branch, exactly: cells of `compression` tokens, softmax over all
/// keys then mask, global linear branch with a projection across heads. Nq = Nk.
[[nodiscard]] AttentionOutput pixelgen_sla2(const Var& q, const Var& k, const Var& v,
                                            const AttentionSpec& spec,
                                            const AttentionParams& params);

/// Emulated low-bit forward (SageAttention), straight-through backward; the mask may be undefined.
[[nodiscard]] Var int8_attention(const Var& q, const Var& k, const Var& v, const Tensor& mask,
                                 int64_t block_q, int64_t block_k, Quant quant);

}  // namespace tenun
