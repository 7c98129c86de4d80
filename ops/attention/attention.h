// The one entry point of all attention methods. The method is data: YAML, the command line and C++
// fill the same AttentionSpec; AttentionParams holds what a method learns.
//   q (B, H, Nq, D), k and v (B, H, Nk, D) -> o (B, H, Nq, D)
// Block methods cut the tokens into blocks of block_q queries and block_k keys (any N; the last may
// be short); a selector marks the pairs of blocks that get exact attention, a combiner brings the
// branches together. Sources: spec pages of each method's file.
//
//   AttentionOutput r = attention(q, k, v, {.method = AttentionMethod::sla2, .topk_ratio = 0.1},
//                                 {.router_q = wq, .router_k = wk, .alpha = alpha});
//
// Errors: ShapeError, DTypeError; ValueError for values outside their domain, for a parameter that
// the method needs and does not get, and for a method that is not available.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "tenun/autograd/var.h"
#include "tenun/core/random.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/linear.h"

namespace tenun {

enum class AttentionMethod : uint8_t {
  automatic,
  dense,
  sage,
  sla2,
  sla,
  pixelgen_sla2,
  vsa,
  vmoba,
  sparge,
  llsa,
  window,
  linear,
  sparse
};
/// How a router's scores become a mask: top-k, or SoftTop-k (training of the router).
enum class RouterMode : uint8_t { hard, soft };
/// What the linear branch runs over: the blocks that are not selected, or all keys.
enum class LinearRange : uint8_t { complement, global };
using attn::FeatureMap;
using attn::LowBit;
using attn::Quant;

struct AttentionSpec {
  AttentionMethod method = AttentionMethod::dense;
  int64_t block_q = 128, block_k = 64;
  double topk_ratio = 0.1;  ///< k = clamp(floor(ratio * T_n + 1e-6), 1, T_n) key blocks a row
  RouterMode mode = RouterMode::hard;
  double tau = 0.1;  ///< of SoftTop-k
  FeatureMap feature_map = FeatureMap::softmax;
  double eps = 1e-8;  ///< in the linear branch's denominator
  LinearRange linear_range = LinearRange::complement;
  bool phi_on_smoothed_k = false;  ///< phi acts on k minus its token mean
  int64_t prefix = 0;              ///< leading tokens that all select, and that select all
  Quant quant{};                   ///< low-bit forward of the exact branch
  std::optional<double> scale{};   ///< of q k^T; default 1 / sqrt(D); dense and sparse only
  double dropout = 0;              ///< of the probabilities; dense only
  RandomKey key{};                 ///< of the dropout
  int64_t compression = 8;         ///< pixelgen_sla2: tokens of a cell
  int64_t iters = 8;               ///< pixelgen_sla2: bisections of the soft mask
  bool aux = false;  ///< soft modes: also the distance to full attention, for router training
};

/// What methods learn; those that a method does not use stay undefined.
struct AttentionParams {
  Var router_q, router_k;  ///< (D, D), y = x W^T; undefined: identity
  Var alpha;               ///< logits of the mix, (H) or (H, T_m)
  Var proj_l;              ///< (C, C), C = H D: pixelgen_sla2
  Tensor mask;             ///< (B, H, T_m, T_n), not 0 = selected: method sparse
};

struct AttentionStats {
  double density = 1;   ///< measured share of blocks with exact attention
  double mix_mean = 1;  ///< mean of sigmoid(alpha); 1 where there is no mix
  int64_t blocks_q = 1, blocks_k = 1;
};

struct AttentionOutput {
  Var o;
  Tensor lse;    ///< natural log-sum-exp of the exact branch (B, H, Nq), where the method has it
  Tensor mask;   ///< hard: u8; soft: the weights, (B, H, T_m, T_n); undefined for dense
  Var aux_loss;  ///< with spec.aux, in soft modes
  AttentionStats stats;
};

[[nodiscard]] AttentionOutput attention(const Var& q, const Var& k, const Var& v,
                                        const AttentionSpec& spec,
                                        const AttentionParams& params = {});

/// The public name of a value ("pixelgen_sla2") and back; ValueError lists the names there are.
[[nodiscard]] std::string_view name(AttentionMethod v);
[[nodiscard]] std::string_view name(RouterMode v);
[[nodiscard]] std::string_view name(LinearRange v);
[[nodiscard]] std::string_view name(FeatureMap v);
[[nodiscard]] std::string_view name(LowBit v);
template <class E>
[[nodiscard]] E from_name(std::string_view text);
/// Methods that attention() takes now.
[[nodiscard]] std::vector<AttentionMethod> available_attention_methods();

}  // namespace tenun
