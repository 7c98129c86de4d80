// One measurement of `tenun bench attention`: times, where they go, memory, accuracy.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "tenun/ops/attention/attention.h"
#include "tenun/tools/bench.h"

namespace tenun::tools {

enum class Passes : uint8_t { forward, both };

/// What is measured: the operator with these operands, in this dtype.
struct AttentionCase {
  AttentionSpec spec;
  AttentionParams params;
  Tensor q, k, v;  ///< f32 on the CPU; converted and moved before the clock starts
  DType dtype = DType::f32;
  Device device = cpu();
  [[nodiscard]] double dense_flops(Passes d) const;  ///< 4 B H Nq Nk D; with backward 3.5 times
};

struct AttentionParts {
  std::vector<std::pair<std::string, double>> ms;  ///< by kernel, and "rest": outside of all
  double kernels = 0;                              ///< of them, the exact and the linear branch
};

struct AttentionMemory {
  int64_t saved = 0;    ///< bytes kept for the backward pass, inputs and output not counted
  int64_t scratch = 0;  ///< the most beyond inputs, outputs, gradients and what is saved
  int64_t peak = 0;     ///< the most bytes in use by all tensors
};

struct AttentionAccuracy {
  double cos = 1, rel_l1 = 0;              ///< against the method in float64, no low-bit products
  double cos_dense = 1, rel_l1_dense = 0;  ///< against dense attention in float64
  double cos_grad = 1, rel_l1_grad = 0;    ///< worst of dq, dk, dv against the method in float64
  int64_t queries = 0, keys = 0;           ///< of the one head that was compared
};

[[nodiscard]] Timing time_attention(const AttentionCase& c, Passes d, double seconds);
/// One call, after others of its kind: it does not warm up.
[[nodiscard]] AttentionParts attention_parts(const AttentionCase& c, Passes d);
[[nodiscard]] AttentionMemory attention_memory(const AttentionCase& c, Passes d);
/// Of the first head, with up to 1024 queries and all keys (or as many keys as queries, where a
/// method insists); the gradients only for Passes::both.
[[nodiscard]] AttentionAccuracy attention_accuracy(const AttentionCase& c, Passes d);
/// Share of blocks without exact attention in this very case.
[[nodiscard]] double measured_sparsity(const AttentionCase& c);

/// Is a section of a Profile (core/profile.h) a kernel of the exact or the linear branch?
[[nodiscard]] bool is_branch(const std::string& section);
/// Does the number of selected blocks follow spec.topk_ratio?
[[nodiscard]] bool has_sparsity(AttentionMethod m);
/// Does the method have a low-bit forward pass?
[[nodiscard]] bool has_low_bit(AttentionMethod m);

}  // namespace tenun::tools
