// The recorded parts that block methods are composed of: exact attention over lists or soft weights
// (flash), the linear branch, and combiners. Selectors are in attention/select.h. A method is a
// selector, these, and a combiner; the public functions check shapes, the parts do not.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "tenun/autograd/var.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/linear.h"

namespace tenun::attn {

struct FlashVars {
  Var o, lse;
};
/// With `m` (B, H, T_m, T_n): soft weights, differentiable; with `lists`: those blocks only.
[[nodiscard]] FlashVars flash(const Var& q, const Var& k, const Var& v, const Var& m,
                              FlashArgs args, std::optional<BlockLists> lists = {});
/// Only the log-sum-exp of full attention, (B, H, Nq).
[[nodiscard]] Var full_lse(const Var& q, const Var& k, double scale);

/// Keys and values that merged attention takes parts of; (B, H, any number, D).
struct KeySource {
  Var k, v;
};
struct KeyPart {
  size_t source = 0;                  ///< whose keys ...
  int64_t first = 0, count = 0;       ///< ... and which of them
  std::optional<BlockLists> lists{};  ///< blocks of the queries and of these keys; none: all
  double log_weight = 0;              ///< added to the scores: every key counts e^that times
};
/// One softmax over all parts together; a key may be in several.
[[nodiscard]] FlashVars merged_flash(const Var& q, const std::vector<KeySource>& sources,
                                     std::vector<KeyPart> parts, double scale);
/// Each token over the chunks of keys that are not 0 in its line of `selection` u8 (B, H, N,
/// chunks): the queries of a chunk are gathered, and a token's chunks merged by their lse.
[[nodiscard]] FlashVars chunk_attention(const Var& q, const Var& k, const Var& v,
                                        const Tensor& selection, int64_t chunk, double scale);

/// The linear branch over 1 - m, or over all keys where `m` is undefined. A constant m may be u8.
[[nodiscard]] Var linear_complement(const Var& q, const Var& k, const Var& v, const Var& m,
                                    LinearArgs args);
/// k minus its mean over the tokens.
[[nodiscard]] Var smooth_tokens(const Var& k);

namespace kernel {
/// o = g a + (1 - g) b with gate g (B, H, T_m) of each query block; a, b, o (B, H, N, D).
extern Kernel<void(Tensor& o, const Tensor& a, const Tensor& b, const Tensor& gate,
                   int64_t block_q)>
    mix_forward;
/// da = g dy, db = (1 - g) dy, dgate = sums of dy (a - b); undefined: not wanted.
extern Kernel<void(Tensor& da, Tensor& db, Tensor& dgate, const Tensor& dy, const Tensor& a,
                   const Tensor& b, const Tensor& gate, int64_t block_q)>
    mix_backward;
}  // namespace kernel
/// sigmoid(alpha) a + (1 - sigmoid(alpha)) b; alpha (H) or (H, T_m). Query blocks whose mask (B, H,
/// T_m, T_n) is 1 throughout give a, whatever alpha is; an undefined mask: none.
[[nodiscard]] Var mix(const Var& a, const Var& b, const Var& alpha, const Tensor& mask,
                      int64_t block_q);

/// mean((a - b)^2) over all elements, shape []; b is a constant.
[[nodiscard]] Var mean_squared_difference(const Var& a, const Tensor& b);

/// Applies Autocast's 16-bit type to the three operands.
void cast_low(Var& q, Var& k, Var& v);
[[nodiscard]] double default_scale(const Var& q);

}  // namespace tenun::attn
