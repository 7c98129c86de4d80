// What the forward kernel reads, made from the tensors once a call: padded rows for head sizes that
// are no multiple of 8, and the operands of low-bit products. Internal to flash_forward.cc.
#pragma once
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/kernels/kernels.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::attn {

/// Which products run in which type.
enum class Score : uint8_t { real, bf16, s8 };
enum class Value : uint8_t { real, bf16, s8, f8 };

/// Where head bh lies in an operand, in the elements that the kernel counts in.
struct Operand {
  Tensor memory;
  const void* base = nullptr;
  int64_t heads = 1, batch_stride = 0, head_stride = 0, stride = 0, size = 1;  // size: bytes
  [[nodiscard]] const void* at(int64_t bh) const {
    return static_cast<const char*>(base) +
           (bh / heads * batch_stride + bh % heads * head_stride) * size;
  }
};

template <class T>
struct Operands {
  Score score = Score::real;
  Value value = Value::real;
  int64_t depth = 0;
  int64_t block = 0, padded = 0;  ///< token t lies at t / block * padded + t % block
  Operand q, k, v;
  bool widen_q = false;                    ///< q is bf16, and its panels are wanted in T
  Tensor q_unit, k_unit, k_start, v_unit;  ///< per (head, block), (head, block), key, channel
  int64_t key_rows = 0;                    ///< of one head in k_start

  [[nodiscard]] int64_t begin(int64_t token) const {
    return block == 0 ? token : token / block * padded + token % block;
  }
};

/// q, k, v of one dtype; `low` as in FlashArgs, whose blocks are in use.
template <class T>
[[nodiscard]] Operands<T> operands(const Tensor& q, const Tensor& k, const Tensor& v,
                                   const FlashArgs& args);
/// Whether the bf16 kernels can read the rows of x in place: whole pairs everywhere.
[[nodiscard]] bool in_pairs(const Tensor& x);
/// Pairs of bf16 tokens, i32 [head][group of `block` tokens, rounded up][D]: (t, t + 1) of a
/// channel.
[[nodiscard]] Tensor token_pairs(const Tensor& x, int64_t block);

template <>
Operands<float> operands(const Tensor&, const Tensor&, const Tensor&, const FlashArgs&);
template <>
Operands<double> operands(const Tensor&, const Tensor&, const Tensor&, const FlashArgs&);

}  // namespace tenun::attn
