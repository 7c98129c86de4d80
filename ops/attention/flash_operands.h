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
  bool widen_q = false;  ///< q is bf16, and its panels are wanted in T
  /// Per (head, block), (head, block), key, channel. Those of queries in f32 are made block by
  /// block: unit_of_queries.
  Tensor q_unit, k_unit, k_start, v_unit;
  int64_t key_rows = 0;  ///< of one head in k_start

  [[nodiscard]] int64_t begin(int64_t token) const {
    return block == 0 ? token : token / block * padded + token % block;
  }
};

/// q, k, v of one dtype; args.quant says what is rounded, in the blocks of args.
template <class T>
[[nodiscard]] Operands<T> operands(const Tensor& q, const Tensor& k, const Tensor& v,
                                   const FlashArgs& args);

/// The same in three steps, for a caller who reads all keys and values anyway: lay_out(), KeyBlocks
/// where scores are of 8 bits, add_rest(). v_largest: the largest magnitude of every channel of v,
/// [head][channel], or nullptr.
[[nodiscard]] Operands<float> lay_out(const Tensor& q, const Tensor& k, const Tensor& v,
                                      const FlashArgs& args);
void add_rest(Operands<float>& o, const Tensor& q, const Tensor& k, const Tensor& v,
              const FlashArgs& args, const float* v_largest);

/// 8-bit keys, smoothed and rounded by a unit of each block: k, k_unit and k_start of an Operands.
class KeyBlocks {
 public:
  KeyBlocks(Operands<float>& o, const Tensor& k, const FlashArgs& args);
  /// Block i, counted through the heads, from its rows; any order, any thread.
  void make(int64_t i, const simd::TokenRows<float>& keys) const;

 private:
  Tensor mean_;  ///< over the keys, [head][channel]
  int64_t tn_, key_rows_, row_, d_, depth_;
  float* unit_;
  int32_t* start_;
  int8_t* bytes_;
};

/// Largest magnitude of the rows first .. end of a head, by 127.
[[nodiscard]] float unit_of_queries(const Operands<float>& o, int64_t bh, int64_t first,
                                    int64_t end, int64_t d);
/// Whether operands() takes q, k, v to the bf16 kernels.
[[nodiscard]] bool multiplies_bf16(const Tensor& q, const Tensor& k, const Tensor& v,
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
