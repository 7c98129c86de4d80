// The linear branch: o_i = sum_j w_ij phi(q_i).phi(k_j) v_j / (eps + sum_j w_ij phi(q_i).phi(k_j)),
// with one weight for each pair of blocks, or over all keys. Every key block J is reduced to its
// state phi(K_J)^T [V_J, 1]; a query block reads the weighted sum of the states (Katharopoulos
// 2020; SLA, arXiv 2509.24006): linear in N for a fixed number of blocks. A denominator of exactly
// 0 gives o = 0 and no gradient. Shapes, strides and dtypes as in attention/flash.h.
#pragma once
#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun::attn {

/// phi: softmax over the channels; x + 1 for x > 0, else e^x; max(x, 0).
enum class FeatureMap : uint8_t { softmax, elu, relu };

struct BlockLists;  // attention/flash.h

struct LinearArgs {
  FeatureMap feature_map = FeatureMap::softmax;
  double eps = 0;                    ///< added to the denominator
  int64_t block_q = 0, block_k = 0;  ///< of weight
  Tensor weight{};  ///< (B, H, T_m, T_n) in the compute type; undefined: 1 for all keys
  /// Instead of a weight: 1 for the blocks that are not listed.
  const BlockLists* lists = nullptr;
  /// (B, H, T_m) in the compute type: forward makes o = gate * o + (1 - gate) * branch of what o
  /// holds; backward takes the gradient of that mix (its other share is not this branch's affair).
  Tensor gate{};
};
struct LinearGrads {
  Tensor dq, dk, dv, dweight;  ///< undefined: not wanted; else contiguous, in the compute type
  Tensor dot{};                ///< (B, H, Nq): dy . branch of each row, without the gate
  bool accumulate = false;     ///< dq, dk, dv are added to
};

namespace kernel {
extern Kernel<void(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v,
                   const LinearArgs& args)>
    linear_forward;
extern Kernel<void(LinearGrads& grads, const Tensor& dy, const Tensor& q, const Tensor& k,
                   const Tensor& v, const LinearArgs& args)>
    linear_backward;
}  // namespace kernel

[[nodiscard]] Tensor linear_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const LinearArgs& args);

}  // namespace tenun::attn
