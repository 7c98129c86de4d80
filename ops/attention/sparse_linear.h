// Exact attention over listed blocks and linear attention over the others (or over all keys), mixed
// by a gate, as one recorded op: o = g O_s + (1 - g) O_l with g (B, H, T_m) of each query block. It
// is what SLA2 runs in hard mode. Both branches of a panel of queries run while it is in the cache,
// their gradients meet in one buffer, and neither a mask nor a weight of T_m x T_n is formed. With
// flash.quant the linear branch of f32 tensors multiplies bf16 (phi, sums and denominators are
// f32). The plain composition is flash(), linear_complement() and mix() of attention/parts.h.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/linear.h"

namespace tenun::attn {

namespace kernel {
/// o and lse, and the exact branch alone where `exact` is defined; o and exact of one dtype.
/// flash.lists, linear.gate and the blocks of both are those of the op, flash.scale is not
/// negative. A backend without this kernel runs the two branches one after the other.
extern Kernel<void(Tensor& o, Tensor& exact, Tensor& lse, const Tensor& q, const Tensor& k,
                   const Tensor& v, const FlashArgs& flash, const LinearArgs& linear)>
    sparse_linear_forward;
}  // namespace kernel

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
