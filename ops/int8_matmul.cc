#include "tenun/ops/int8_matmul.h"

#include "tenun/ops/functors.h"
#include "tenun/ops/gemm.h"
#include "tenun/ops/map.h"
#include "tenun/ops/matrix_product.h"
#include "tenun/ops/quant.h"

namespace tenun {
namespace {

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
  static Tensor product(const Tensor& a, const Tensor& b) { return tenun::product(a, b); }
};

}  // namespace

constinit Kernel<void(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& a_scale,
                      const Tensor& b_scale)>
    kernel::gemm_int8{"int8_matmul", gemm_int8_cpu};

Var int8_matmul(const Var& a, const Var& b) {
  check_product("int8_matmul", a.value(), b.value());
  check(a.dim(-1) <= 1 << 17, "int8_matmul", "K = {} is more than 131072: its sums might overflow",
        a.dim(-1));
  return apply(MatrixProduct<Int8MatMul>{}, a, b);
}

}  // namespace tenun
