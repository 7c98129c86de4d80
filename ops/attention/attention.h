// The one entry point of all attention methods. The method is data: YAML, the command line and C++
// fill the same AttentionSpec; AttentionParams holds what a method learns.
//   q (B, H, Nq, D), k and v (B, H, Nk, D) -> o (B, H, Nq, D)
// Block methods cut the tokens into blocks of block_q queries and block_k keys (any N; the last may
// be short); a selector marks the pairs of blocks that get exact attention, a combiner brings the
// branches together. Sources: docs/attention_methods.md.
//
//   AttentionOutput r = attention(q, k, v, {.method = AttentionMethod::sla2, .topk_ratio = 0.1},
//                                 {.router_q = wq, .router_k = wk, .alpha = alpha});
//
// Errors: ShapeError, DTypeError; ValueError for values outside their domain, and for a parameter
// that the method needs and does not get.
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
/// How scores become a mask: a number of blocks, or as many of the best as hold the share `mass` of
/// the row's softmax (top_p: with the block that reaches it; cdf: without, at least one) or of its
/// gates (threshold: vmoba); random: a number of blocks by spec.key, whatever the scores;
/// topk_top_p: what either selects (SpargeAttention2, arXiv 2602.13515).
enum class Selector : uint8_t { topk, top_p, cdf, threshold, random, topk_top_p };
/// What SLA's linear branch covers: all keys; the blocks that are not selected; those of them that
/// are not negligible either.
enum class SlaVariant : uint8_t { main, complement, paper };
/// Where VMoBA's (query, chunk) pairs compete: for each query, or within a head.
enum class GateScope : uint8_t { query_head, head_global };
using attn::FeatureMap;
using attn::LowBit;
using attn::Quant;

/// Square tiles of an image as they lie in the token order; 0: unknown, neighbours are neighbours
/// in the sequence.
struct TileGrid {
  int64_t tokens = 0;   ///< of one tile
  int64_t columns = 0;  ///< tiles in a row of the image
};

struct AttentionSpec {
  AttentionMethod method = AttentionMethod::dense;
  int64_t block_q = 128, block_k = 64;
  double topk_ratio = 0.1;  ///< k = clamp(floor(ratio * T_n + 1e-6), 1, T_n) key blocks a row
  RouterMode mode = RouterMode::hard;
  double tau = 0.1;  ///< of SoftTop-k
  FeatureMap feature_map = FeatureMap::softmax;
  double eps = 1e-8;  ///< in the linear branch's denominator
  LinearRange linear_range = LinearRange::complement;
  bool phi_on_smoothed_k = false;      ///< phi acts on k minus its token mean
  int64_t prefix = 0;                  ///< leading tokens that all select, and that select all
  Quant quant{};                       ///< low-bit forward of the exact branch
  std::optional<double> scale{};       ///< of q k^T; default 1 / sqrt(D); dense and sparse only
  double dropout = 0;                  ///< of the probabilities; dense only
  RandomKey key{};                     ///< of the dropout, and of Selector::random
  Selector selector = Selector::topk;  ///< sparse without a mask, sparge, vmoba
  double mass = 0.9;                   ///< of the selectors by mass
  int64_t topk = 0;  ///< vsa, vmoba, llsa: blocks a row; 0: from topk_ratio, rounded up
  SlaVariant variant = SlaVariant::complement;
  double negligible_ratio = 0;  ///< sla `paper`: share of blocks that are left out
  GateScope scope = GateScope::query_head;
  double theta = -0.1;      ///< sparge: blocks whose mean cosine is at most that are kept whole
  bool smooth_k = true;     ///< sparge: scores and similarities of k minus its token mean
  int64_t levels = 1;       ///< llsa: of pooling, each by block_k
  bool enrichment = true;   ///< llsa: coarse keys are attended, too
  int64_t radius = 1;       ///< window: tiles to each side
  TileGrid grid{};          ///< window
  int64_t compression = 8;  ///< pixelgen_sla2: tokens of a cell
  int64_t iters = 8;        ///< pixelgen_sla2: bisections of the soft mask
  bool aux = false;  ///< soft modes: also the distance to full attention, for router training
};

/// What methods learn; those that a method does not use stay undefined.
struct AttentionParams {
  Var router_q{}, router_k{};      ///< (D, D), y = x W^T; undefined: identity
  Var alpha{};                     ///< logits of the mix, (H) or (H, T_m)
  Var proj_l{};                    ///< (C, C), C = H D: pixelgen_sla2
  Var proj_weight{}, proj_bias{};  ///< (D, D) and (D), after SLA's linear branch
  Var gate_c{};                    ///< (B, H, N, D), of VSA's coarse branch; undefined: 1
  Tensor mask{};                   ///< (B, H, T_m, T_n), not 0 = selected: method sparse
  Var q_step{}, k_step{};  ///< (H), sla2 with quant.qk = int8: learned units of q and of the
                           ///< smoothed k (LSQ); undefined: the largest value of a block / 127
};

/// A number that is worked out when it is asked for: on a device that waits, so the forward pass
/// does not do it.
class Measured {
 public:
  Measured(double value) : value_(value) {}  // NOLINT(google-explicit-constructor)
  Measured(double (*measure)(const Tensor&), Tensor of) : measure_(measure), of_(std::move(of)) {}
  operator double() const {  // NOLINT(google-explicit-constructor)
    return measure_ == nullptr ? value_ : measure_(of_);
  }

 private:
  double value_ = 0;
  double (*measure_)(const Tensor&) = nullptr;
  Tensor of_;
};

struct AttentionStats {
  Measured density = 1;   ///< measured share of blocks with exact attention
  Measured mix_mean = 1;  ///< mean of sigmoid(alpha) now; 1 where there is no mix
  int64_t blocks_q = 1, blocks_k = 1;
};

struct AttentionOutput {
  Var o;
  Tensor lse;    ///< natural log-sum-exp of the exact branch (B, H, Nq), where the method has it
  Tensor mask;   ///< hard: u8; soft: the weights, (B, H, T_m, T_n); vmoba: u8 (B, H, N, chunks);
                 ///< undefined for dense, sage, linear, llsa
  Var aux_loss;  ///< with spec.aux, in soft modes
  AttentionStats stats;
};

[[nodiscard]] AttentionOutput attention(const Var& q, const Var& k, const Var& v,
                                        const AttentionSpec& spec,
                                        const AttentionParams& params = {});

/// Smallest and largest scale (amax / 127, for fp8 amax / 448) of an operand's groups; 0 where it
/// is not rounded.
struct ScaleRange {
  double low = 0, high = 0;
};
struct AttentionQuantError {
  double cosine = 1, rel_l1 = 0;  ///< of o against the same method without rounding
  ScaleRange q, k, v;  ///< q: of block_q rows; k (smoothed): of block_k rows; v: channels
};
/// What the low-bit products of spec.quant cost on these inputs: two forward passes, no gradient.
[[nodiscard]] AttentionQuantError attention_quant_error(const Tensor& q, const Tensor& k,
                                                        const Tensor& v, const AttentionSpec& spec,
                                                        const AttentionParams& params = {});

/// The public name of a value ("pixelgen_sla2") and back; ValueError lists the names there are.
[[nodiscard]] std::string_view name(AttentionMethod v);
[[nodiscard]] std::string_view name(RouterMode v);
[[nodiscard]] std::string_view name(LinearRange v);
[[nodiscard]] std::string_view name(Selector v);
[[nodiscard]] std::string_view name(SlaVariant v);
[[nodiscard]] std::string_view name(GateScope v);
[[nodiscard]] std::string_view name(FeatureMap v);
[[nodiscard]] std::string_view name(LowBit v);
template <class E>
[[nodiscard]] E from_name(std::string_view text);
/// Every method, in the order of the enumeration.
[[nodiscard]] std::vector<AttentionMethod> available_attention_methods();
/// The number of keys from which sla2 with this share of exact blocks is faster than dense
/// attention; attention/automatic.cc has the table.
[[nodiscard]] int64_t break_even_length(double topk_ratio);
/// What method `automatic` does: sla2 from the break-even length on, dense below it. The log says
/// which, once for each pair of arguments.
[[nodiscard]] AttentionMethod automatic_method(double topk_ratio, int64_t tokens);

}  // namespace tenun
