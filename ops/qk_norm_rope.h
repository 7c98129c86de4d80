// From the packed projection to attention's inputs in one pass: splits qkv [B, N, 3 C] into heads,
// applies RMSNorm to each head's q and k (one weight [D] for all heads), turns q and k by rope_2d,
// and writes q, k, v as [B, H, N, D], D = C / H. What the composition
//   q = rope_2d(rms_norm(heads of qkv[..., :C], q_weight), rope), k likewise, v = heads of qkv[...,
//   2 C:]
// computes, without its five intermediate tensors; saved are qkv and one number for each row.
// Arithmetic in f32 (f64 for f64); the outputs have qkv's dtype.
//
//   const Qkv a = qk_norm_rope(linear(x, w, b), qn, kn, {.heads = 12, .rope = {16, 32}});
//   Var o = sdpa(a.q, a.k, a.v);
//
// Errors: ShapeError, DTypeError, ValueError (rope options).
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/ops/rope.h"

namespace tenun {

struct QkNormRopeOptions {
  int64_t heads = 1;
  RopeOptions rope{};
  double eps = 1e-6;
};
struct Qkv {
  Var q, k, v;
};
[[nodiscard]] Qkv qk_norm_rope(const Var& qkv, const Var& q_weight, const Var& k_weight,
                               const QkNormRopeOptions& options);

namespace kernel {
/// q, k, v [B, H, N, D] and rstd [2, B, H, N] (q's, then k's) from qkv contiguous [B, N, 3 C] and
/// weights [2, D]; rstd and weights in the compute type.
extern Kernel<void(Tensor& q, Tensor& k, Tensor& v, Tensor& rstd, const Tensor& qkv,
                   const Tensor& weights, const RopeTable& table, double eps)>
    qk_norm_rope;
/// Fills dqkv and dweights [2, D]. dq, dk, dv are contiguous [B, H, N, D], or undefined for zero.
extern Kernel<void(Tensor& dqkv, Tensor& dweights, const Tensor& dq, const Tensor& dk,
                   const Tensor& dv, const Tensor& qkv, const Tensor& rstd, const Tensor& weights,
                   const RopeTable& table)>
    qk_norm_rope_backward;
}  // namespace kernel

}  // namespace tenun
