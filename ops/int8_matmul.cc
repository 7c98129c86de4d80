#include "tenun/ops/int8_matmul.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/functors.h"
#include "tenun/ops/gemm.h"
#include "tenun/ops/map.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/quant.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

Shape batch_of(const Tensor& x) { return {x.shape().begin(), x.shape().end() - 2}; }

Tensor spread(const Tensor& x, const Shape& batch) {
  Shape s = batch;
  s.push_back(x.dim(-2)), s.push_back(x.dim(-1));
  return x.expand(s).reshape({batch.numel(), x.dim(-2), x.dim(-1)});
}

Tensor product(const Tensor& a, const Tensor& b) {
  const Shape batch = broadcast_shapes(batch_of(a), batch_of(b), "int8_matmul");
  // b is quantised as rows of its transpose, which is how a weight lies in memory.
  const Quantized qa = quantize_int8(a, {.granularity = Granularity::token});
  const Quantized qb = quantize_int8(b.transpose(-2, -1), {.granularity = Granularity::token});
  const Tensor sa = qa.scale.unsqueeze(-1), sb = qb.scale.unsqueeze(-2);
  if (a.dtype() == DType::f64)
    return map(
        fn::Mul{},
        map(fn::Mul{}, matmul(qa.q.to(DType::f64), qb.q.transpose(-2, -1).to(DType::f64)), sa), sb);
  Shape out = batch;
  out.push_back(a.dim(-2)), out.push_back(b.dim(-1));
  Tensor c({batch.numel(), a.dim(-2), b.dim(-1)}, DType::f32, a.device());
  kernel::gemm_int8(a.device(), c, spread(qa.q, batch), spread(qb.q.transpose(-2, -1), batch),
                    spread(sa, batch).contiguous(), spread(sb, batch).contiguous());
  return c.view(out).to(a.dtype());
}

struct Int8MatMul {
  static constexpr const char* name = "int8_matmul";
  static constexpr Cast cast = Cast::low;
  Saved a, b;
  Shape shape_a, shape_b;

  Tensor forward(const Ctx& c, const Tensor& a_, const Tensor& b_) {
    if (c.recording) {
      shape_a = a_.shape(), shape_b = b_.shape();
      if (c.needs[1]) a = a_;
      if (c.needs[0]) b = b_;
    }
    return product(a_, b_);
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    Grads<2> g;
    if (c.needs[0]) g[0] = sum_to(matmul(dy, b.get().transpose(-2, -1)), shape_a);
    if (c.needs[1]) g[1] = sum_to(matmul(a.get().transpose(-2, -1), dy), shape_b);
    return g;
  }
};

}  // namespace

constinit Kernel<void(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& a_scale,
                      const Tensor& b_scale)>
    kernel::gemm_int8{"int8_matmul", gemm_int8_cpu};

Var int8_matmul(const Var& a, const Var& b) {
  check<ShapeError>(a.rank() >= 2 && b.rank() >= 2, "int8_matmul", "needs matrices, got {} x {}",
                    a.value(), b.value());
  check<ShapeError>(a.dim(-1) == b.dim(-2), "int8_matmul", "inner sizes differ: {} x {}", a.value(),
                    b.value());
  check(a.dim(-1) <= 1 << 17, "int8_matmul", "K = {} is more than 131072: its sums might overflow",
        a.dim(-1));
  return apply(Int8MatMul{}, a, b);
}

}  // namespace tenun
