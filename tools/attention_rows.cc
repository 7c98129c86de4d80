#include "tenun/tools/attention_rows.h"

#include <algorithm>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"

namespace tenun::tools {
namespace {

// The exact branch alone.
AttentionParams exact_only(AttentionParams p) {
  constexpr double kAll = 100;  // sigmoid(100) is 1 in f32
  if (p.alpha.defined()) p.alpha = Var(Tensor::full(p.alpha.shape(), kAll));
  for (Var AttentionParams::*const v :
       {&AttentionParams::proj_l, &AttentionParams::proj_weight, &AttentionParams::gate_c})
    if ((p.*v).defined()) p.*v = Var(Tensor::zeros((p.*v).shape()));
  return p;
}

}  // namespace

Tensor attention_rows(const AttentionLayer& all, const std::vector<int64_t>& queries) {
  const AttentionLayer l = first_sample(all);
  const Tensor &q = l.q, &k = l.k;
  const int64_t heads = q.dim(1), nq = q.dim(2), nk = k.dim(2), d = q.dim(3),
                count = std::ssize(queries);
  for (const int64_t i : queries)
    check<ShapeError>(i >= 0 && i < nq, "attention_rows", "there are queries 0 to {}, not {}",
                      nq - 1, i);
  AttentionSpec spec = l.spec;
  spec.quant = {};
  spec.aux = false;
  const AttentionParams params = exact_only(fill_params(spec, q, l.params, 1));
  Tensor rows({heads, count, nk}, DType::f32);
  for (int64_t first = 0; first < count; first += d) {
    const int64_t some = std::min(d, count - first);
    Tensor dy = Tensor::zeros(q.shape(), DType::f32);
    for (int64_t c = 0; c < some; ++c)
      dy.select(2, queries[static_cast<size_t>(first + c)]).slice(2, c, c + 1).fill_(1);
    const Var v = Var::parameter(Tensor::zeros(k.shape(), DType::f32));
    Tape tape;
    tape.backward(attention(q, k, v, spec, params).o, dy);
    rows.slice(1, first, first + some)
        .copy_(v.grad().select(0, 0).slice(2, 0, some).transpose(1, 2));
  }
  return rows;
}

}  // namespace tenun::tools
