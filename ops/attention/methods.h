// The attention methods as ops, by the names and with the attributes that `tenun ops NAME` lists;
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

/// Sparse-linear attention (SLA, arXiv 2509.24006): O = O_s + O_l W^T + b. The blocks come from
/// pooled q and smoothed k, without gradient.
[[nodiscard]] AttentionOutput sla_attention(const Var& q, const Var& k, const Var& v,
                                            const AttentionSpec& spec,
                                            const AttentionParams& params);

/// Mask (..., T) of the best blocks of each row of logits, by their share `p` of the softmax:
/// Selector::top_p or Selector::cdf.
[[nodiscard]] Tensor top_p_block_map(const Tensor& scores, double p, Selector convention);

/// Exact attention over a mask: params.mask, or spec.selector over pooled scores (with routers, if
/// params has them) and the prefix.
[[nodiscard]] AttentionOutput sparse_attention(const Var& q, const Var& k, const Var& v,
                                               const AttentionSpec& spec,
                                               const AttentionParams& params);

/// Training-free block selection (SpargeAttention, arXiv 2502.18137): pooled scores by cdf or
/// top-k, and whole every block whose tokens are unlike each other (mean cosine <= theta).
[[nodiscard]] AttentionOutput sparge_attention(const Var& q, const Var& k, const Var& v,
                                               const AttentionSpec& spec);

/// Video sparse attention (VSA, arXiv 2505.13389), blocks of block_k tokens: o = gate_c O_c + O_f,
/// O_c attention between block means, O_f over the best topk blocks. Nq = Nk.
[[nodiscard]] AttentionOutput vsa_attention(const Var& q, const Var& k, const Var& v,
                                            const AttentionSpec& spec,
                                            const AttentionParams& params);

/// Log-linear sparse attention (LLSA, arXiv 2512.16615): coarse-to-fine selection over `levels`
/// poolings by block_k, whose coarse keys are attended as well (enrichment). Nq = Nk. Prefix blocks
/// join the selection of the finest level only.
[[nodiscard]] AttentionOutput llsa_attention(const Var& q, const Var& k, const Var& v,
                                             const AttentionSpec& spec);

/// Mixture of block attention for video (VMoBA, arXiv 2506.23858), chunks of block_k tokens: every
/// token attends to its own chunk and to those that its gates choose. Nq = Nk. `mask` of the result
/// is the selection (B, H, N, chunks).
[[nodiscard]] AttentionOutput vmoba_attention(const Var& q, const Var& k, const Var& v,
                                              const AttentionSpec& spec);

/// Exact attention to the tiles at most `radius` away: a fixed mask, the floor of the others.
/// Blocks that touch such tiles are taken whole. Nq = Nk.
[[nodiscard]] AttentionOutput window_attention(const Var& q, const Var& k, const Var& v,
                                               const AttentionSpec& spec);

/// The variant of PixelGen's `sla` branch, exactly: cells of `compression` tokens, softmax over all
/// keys then mask, global linear branch with a projection across heads. Nq = Nk.
[[nodiscard]] AttentionOutput pixelgen_sla2(const Var& q, const Var& k, const Var& v,
                                            const AttentionSpec& spec,
                                            const AttentionParams& params);

/// Emulated low-bit forward (SageAttention), straight-through backward; the mask may be undefined.
[[nodiscard]] Var int8_attention(const Var& q, const Var& k, const Var& v, const Tensor& mask,
                                 int64_t block_q, int64_t block_k, Quant quant);

}  // namespace tenun
