// The slots of matrix products (cuda/matmul.h says who fills them).
#include "tenun/ops/matmul.h"

#include "tenun/cuda/elements.h"
#include "tenun/cuda/matmul.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/int8_matmul.h"

namespace tenun::TENUN_BACKEND {
namespace {

MatrixProduct describe(Tensor& c, const Tensor& a, const Tensor& b) {
  const Shape &sa = a.strides(), &sb = b.strides();
  return {.type = a.dtype(),
          .batch = c.dim(0),
          .m = c.dim(1),
          .n = c.dim(2),
          .k = a.dim(2),
          .a = {a.raw(), sa[0], sa[1], sa[2]},
          .b = {b.raw(), sb[0], sb[2], sb[1]},
          .c = c.raw()};
}

void gemm(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& bias) {
  if (a.dtype() != b.dtype() || (bias.defined() && bias.dtype() != a.dtype()))
    throw DTypeError("matmul: operands of different types: " + a.describe() + " x " + b.describe());
  if (c.numel() == 0) return;
  MatrixProduct p = describe(c, a, b);
  Tensor side = bias.defined() ? bias.contiguous() : bias;
  // cuBLASLt reads a bias in wide words, and cannot be told how it is aligned.
  if (side.defined() && !aligned_16(side.raw())) side = side.clone();
  if (side.defined()) p.bias = side.raw();
  if (blas_product(p)) return;
  if (p.type == DType::bf16 || p.type == DType::f16)
    mma_product(p);
  else
    fma_product(p);
}

void gemm_int8(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& a_scale,
               const Tensor& b_scale) {
  if (c.numel() == 0) return;
  MatrixProduct p = describe(c, a, b);
  p.a_scale = a_scale.data<float>(), p.b_scale = b_scale.data<float>();
  mma_product(p);
}

}  // namespace

void register_matmul() {
  kernel::gemm.set(kDevice, gemm);
  kernel::gemm_int8.set(kDevice, gemm_int8);
}

}  // namespace tenun::TENUN_BACKEND
