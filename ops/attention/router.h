// Router scores between pooled blocks, and masks as flags. Internal to the methods.
#pragma once
#include "tenun/autograd/autocast.h"
#include "tenun/ops/attention/select.h"

namespace tenun::attn {

/// <W_q qbar_I, W_k kbar_J> / sqrt(D) from pooled blocks (B, H, T, D); an undefined W is the
/// identity. Gradients into whatever wants them. Never in 16 bit: the choice of blocks hangs on it.
[[nodiscard]] Var pooled_scores(const char* op, const Var& pooled_q, const Var& pooled_k,
                                const Var& router_q, const Var& router_k);
/// The same from tokens; q and k are constants.
[[nodiscard]] Var router_scores(const char* op, const Tensor& q, const Tensor& k,
                                const Var& router_q, const Var& router_k, int64_t block_q,
                                int64_t block_k);
/// 1 where a mask is not 0, as u8; undefined stays undefined.
[[nodiscard]] Tensor flags(const Tensor& mask);

/// Mean of sigmoid(alpha), for statistics.
[[nodiscard]] double mean_gate(const Tensor& alpha);

}  // namespace tenun::attn
