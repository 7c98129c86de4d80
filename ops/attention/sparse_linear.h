// Exact attention over listed blocks and linear attention over the others (or over all keys), mixed
// by a gate, as one recorded op: o = g O_s + (1 - g) O_l with g (B, H, T_m) of each query block. It
// is what SLA2 runs in hard mode. The linear branch mixes while its panel is in the cache,
// gradients of both branches meet in one buffer, and neither a mask nor a weight of T_m x T_n is
// formed. The plain composition is flash(), linear_complement() and mix() of attention/parts.h.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/linear.h"

namespace tenun::attn {

struct SparseLinearVars {
  Var o;
  Tensor lse;  ///< of the exact branch
};
/// alpha (H) or (H, T_m): g = sigmoid(alpha), 1 for query blocks that list every key block.
/// `complement`: the linear branch runs over the blocks that are not listed.
[[nodiscard]] SparseLinearVars sparse_linear(const Var& q, const Var& k, const Var& v,
                                             const Var& alpha, FlashArgs args, LinearArgs linear,
                                             BlockLists lists, bool complement);

}  // namespace tenun::attn
