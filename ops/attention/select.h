// Selectors: from q and k to block masks. Pooling (means of the tokens of each block), scores
// between pooled blocks, the hard top-k mask, and SoftTop-k, its relaxation (SLA2, arXiv
// 2602.12675, Eq. 16; SMART pruner, arXiv 2403.19969):
//   m_J = sigmoid(x_J / tau + lambda), lambda such that sum_J m_J = target.
// Scores and soft masks are in the compute type, hard masks u8; all (B, H, T_m, T_n).
#pragma once
#include "tenun/core/kernel.h"
#include "tenun/ops/attention/attention.h"

namespace tenun::attn {

/// Blocks that are selected before the competition: the first `rows` query blocks select all, and
/// the first `cols` key blocks are selected by all.
struct Forced {
  int64_t rows = 0, cols = 0;
};
/// What a block mean divides by: the tokens that are there, or the block size (PixelGen).
enum class PoolDivisor { count, block };

namespace kernel {
/// y (B, H, T, D) = means of the blocks of x (B, H, N, D).
extern Kernel<void(Tensor& y, const Tensor& x, int64_t block, PoolDivisor divisor)> block_mean;
/// The k largest free scores of each row; ties go to the lowest index, NaN counts as -inf.
extern Kernel<void(Tensor& mask, const Tensor& scores, int64_t k, Forced forced)> topk_blocks;
/// The best free scores of each row by their share of its softmax (NaN counts as -inf): the
/// shortest descending prefix with sum >= p (top_p), or as many as have a prefix sum <= p, at least
/// one (cdf). Ties go to the lowest index.
extern Kernel<void(Tensor& mask, const Tensor& scores, double p, Selector convention,
                   Forced forced)>
    mass_blocks;
/// m over the free blocks of each row sums to min(target, their number); forced blocks get 1.
extern Kernel<void(Tensor& m, const Tensor& x, double target, double tau, Forced forced)>
    soft_topk_forward;
/// dx = g / tau (dm - mean of dm weighted by g), g = m (1 - m): lambda's derivative included.
extern Kernel<void(Tensor& dx, const Tensor& dm, const Tensor& m, double tau)> soft_topk_backward;
}  // namespace kernel

/// floor(ratio * count + 1e-6)
[[nodiscard]] int64_t share_of(double ratio, int64_t count);
/// clamp(share_of(ratio, count), 1, count)
[[nodiscard]] int64_t selected_count(double ratio, int64_t count);

[[nodiscard]] Tensor block_mean(const Tensor& x, int64_t block);
[[nodiscard]] Var block_mean(const Var& x, int64_t block, PoolDivisor divisor);
/// scale * a b^T for the last two axes.
[[nodiscard]] Var block_scores(const Var& a, const Var& b, double scale);
[[nodiscard]] Tensor topk_blocks(const Tensor& scores, int64_t k, Forced forced = {});
[[nodiscard]] Tensor mass_blocks(const Tensor& scores, double p, Selector convention,
                                 Forced forced = {});
/// `mask`, and the k lowest of the scores that are not in it; of equal ones the higher index.
[[nodiscard]] Tensor with_lowest(const Tensor& mask, const Tensor& scores, int64_t k);
/// The blocks that the first `prefix` tokens force.
[[nodiscard]] Forced forced_by(int64_t prefix, const Tensor& q, const Tensor& k, int64_t block_q,
                               int64_t block_k);
/// Every selector over scores (B, H, T_m, T_n); spec's topk_ratio, mass and key.
[[nodiscard]] Tensor select_blocks(const char* op, const Tensor& scores, const AttentionSpec& spec,
                                   Forced forced);
/// x (..., T); forced blocks need rank >= 2.
[[nodiscard]] Var soft_topk(const Var& x, double target, double tau, Forced forced);
/// Share of selected blocks.
[[nodiscard]] double density(const Tensor& mask);
/// spec.topk, or ceil(topk_ratio count) where it is 0; at least 1, at most `count`.
[[nodiscard]] int64_t count_of(const AttentionSpec& spec, int64_t count);
/// check_qkv for self-attention in blocks of one size.
void check_self(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, int64_t block);
/// ValueError unless the ratio is in [0, 1].
void check_ratio(const char* op, const char* what, double ratio);

}  // namespace tenun::attn
