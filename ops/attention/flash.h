// Exact (softmax) attention over all key blocks or over lists of them, without ever holding N x N:
// the forward pass keeps o and the logarithm of each row's denominator; the backward pass forms the
// probabilities of one tile at a time again (Dao 2023, FlashAttention-2). It is the part that all
// attention methods share. q (B, H, Nq, D), k and v (B, H, Nk, D); any strides; f32, f64, bf16, f16
// (computed in f32). lse and delta (B, H, Nq) are in the compute type. Blocks: T_m = ceil(Nq /
// block_q), T_n = ceil(Nk / block_k); the last ones may be short. A row without keys gives o = 0,
// lse = -inf and no gradient.
#pragma once
#include "tenun/core/kernel.h"
#include "tenun/core/random.h"
#include "tenun/core/tensor.h"

namespace tenun::attn {

/// Selected blocks as sorted lists, by rows (query blocks) and by columns (key blocks), for every
/// head bh: row r = bh * T_m + I visits row_index[row_start[r] .. row_start[r + 1]).
struct BlockLists {
  int64_t block_q = 0, block_k = 0;
  Tensor row_start, row_index;  ///< i64 [B H T_m + 1], i32; there may be room behind the last entry
  Tensor col_start, col_index;  ///< i64 [B H T_n + 1], i32: the transpose
  [[nodiscard]] BlockLists to(Device device) const {
    return {block_q,
            block_k,
            row_start.to(device),
            row_index.to(device),
            col_start.to(device),
            col_index.to(device)};
  }
};
/// From a mask (B, H, T_m, T_n) of any dtype: an element that is not 0 is selected.
[[nodiscard]] BlockLists block_lists(const Tensor& mask, int64_t block_q, int64_t block_k);

/// int8: units of amax / 127. fp8 (values only): E4M3, units of amax / 448, emulated: rounded to
/// what that type can hold, multiplied in bf16 or wider, where the products of two are exact.
enum class LowBit : uint8_t { none, int8, fp8 };
/// Low-bit products of the forward pass (SageAttention): q k^T and p v.
struct Quant {
  LowBit qk = LowBit::none, pv = LowBit::none;
  [[nodiscard]] bool any() const { return qk != LowBit::none || pv != LowBit::none; }
};

struct FlashArgs {
  double scale = 1;
  const BlockLists* lists = nullptr;  ///< none: all blocks
  Tensor
      weight{};  ///< soft mask m (B, H, T_m, T_n) in the compute type: p ~ m exp(s); not with lists
  int64_t block_q = 0, block_k = 0;  ///< of weight and quant
  double dropout = 0;                ///< share of probabilities that are dropped
  RandomKey key{};
  Quant quant{};  ///< what the forward rounds, as docs/attention/7_int8.md states
  /// Means of k's blocks, (B, H, T_n, D) in the compute type, where the caller has them: smoothing
  /// need not read k for its mean.
  Tensor k_pooled{};
};
struct FlashGrads {
  Tensor dq, dk, dv, dweight;  ///< undefined: not wanted; else contiguous, in the compute type
};

namespace kernel {
/// An undefined o: only lse is wanted.
extern Kernel<void(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                   const FlashArgs& args)>
    flash_forward;
/// dS = P (dy v^T - delta), from which dq, dk; dv = P^T dy; dweight = sums of dS / weight. Passing
/// delta = rowsum(dy * o) gives the gradient of o; subtracting the gradient of lse adds that. An
/// undefined dy is zero. With args.quant, k must be the smoothed k: the rounding is ignored
/// (straight-through).
extern Kernel<void(FlashGrads& grads, const Tensor& dy, const Tensor& q, const Tensor& k,
                   const Tensor& v, const Tensor& lse, const Tensor& delta, const FlashArgs& args)>
    flash_backward;
/// delta[b, h, i] = sum_d a[b, h, i, d] b[b, h, i, d]
extern Kernel<void(Tensor& delta, const Tensor& a, const Tensor& b)> row_dot;
/// Fills the tensors of `lists` from contiguous flags u8 (B, H, T_m, T_n), on their device.
extern Kernel<void(BlockLists& lists, const Tensor& flags)> block_lists;
}  // namespace kernel

struct FlashResult {
  Tensor o, lse;
};
[[nodiscard]] FlashResult flash_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                        const FlashArgs& args);
/// x minus its mean over the tokens, in the compute type. The map is its own adjoint.
[[nodiscard]] Tensor smoothed(const Tensor& x);
[[nodiscard]] Tensor row_dot(const Tensor& a, const Tensor& b);

/// ShapeError unless q, k, v are (B, H, Nq, D), (B, H, Nk, D), (B, H, Nk, D) of one dtype.
void check_qkv(const char* op, const Tensor& q, const Tensor& k, const Tensor& v);
/// ShapeError unless `mask` is (B, H, T_m, T_n); ValueError unless the blocks are positive.
void check_blocks(const char* op, const Tensor& q, const Tensor& k, const Tensor* mask,
                  int64_t block_q, int64_t block_k);
[[nodiscard]] inline int64_t blocks(int64_t n, int64_t block) { return (n + block - 1) / block; }

}  // namespace tenun::attn
