// The op qk_norm_rope with its gradients, for the tests of the CPU and of the device.
#pragma once
#include <array>
#include <vector>

#include "tenun/autograd/tape.h"
#include "tenun/ops/qk_norm_rope.h"

namespace tenun::test {

using QkvOp = Qkv (*)(const Var&, const Var&, const Var&, const QkNormRopeOptions&);

/// q, k, v and the gradients of the parameters `in` (qkv, the weights of q and of k). Only the
/// outputs in `used` take part, with the upstream gradients seed(part, shape).
template <class Seed>
std::vector<Tensor> qkv_results(QkvOp op, const std::array<Var, 3>& in, const QkNormRopeOptions& o,
                                const std::vector<int>& used, Seed&& seed) {
  Tape tape;
  const Qkv r = op(in[0], in[1], in[2], o);
  const Var all[] = {r.q, r.k, r.v};
  std::vector<Tensor> out{r.q.value(), r.k.value(), r.v.value()}, seeds;
  std::vector<Var> losses;
  for (const int part : used) {
    losses.push_back(all[part]);
    seeds.push_back(seed(part, r.q.shape()));
  }
  for (const Tensor& g : tape.gradients(losses, in, Tape::Keep::no, seeds)) out.push_back(g);
  return out;
}

}  // namespace tenun::test
