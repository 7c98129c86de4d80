// The options of the JiT network: plain data, no tensors. The names are those of PixelGen's
// constructors (JiT and JiTSLA2), so that a YAML key, a command line flag and a C++ field read
// the same; `attention` is Tenun's own way to choose a method.
// Sizes are in pixels (input_size, patch_size), channels or tokens.
// Source: "Back to Basics: Let Denoising Generative Models Denoise", arXiv 2511.13720.
//
//   JiTOptions o = jit_preset('B', 16);
//   o.num_classes = 20;
//   o.attention.method = "sla2";
//   AttentionOptions a = o.attention_of(3);    // what block 3 uses
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tenun/ops/attention/attention.h"

namespace tenun {

enum class AlphaPer { head, head_block };          ///< what owns a mixing weight.
enum class RouterScore { logit, softmax };         ///< what SoftTop-k bisects on.
enum class LinearProjection { none, head, full };  ///< after the linear branch: d x d or C x C.
enum class TokenOrder { row, tile_8x8 };           ///< raster order, or 8 x 8 image tiles.
enum class Sla2Impl { pixelgen, native };          ///< what `use_sla2: true` means.

enum class QuantScales { amax, learned };  ///< units of the integers of q k^T.

/// Straight-through low-bit forward of the sparse branch (QAT).
struct LowBitOptions {
  LowBit qk = LowBit::none;
  LowBit pv = LowBit::none;
  bool smooth_k = true;                    ///< subtract the mean key first
  QuantScales scales = QuantScales::amax;  ///< learned: sla2 with qk = int8
};

/// One attention method and its settings. Methods that have no use for a field ignore it.
struct AttentionOptions {
  std::string method = "dense";
  std::int64_t start_layer = 0;  ///< blocks before this one stay dense
  std::int64_t block_q = 128;    ///< tokens
  std::int64_t block_k = 64;     ///< tokens
  double topk_ratio = 0.15;      ///< share of key blocks that stay exact
  RouterMode mode = RouterMode::hard;
  double tau = 0.1;  ///< SoftTop-k temperature
  std::int64_t soft_iters = 40;
  RouterScore router_score = RouterScore::logit;
  double aux_weight = 0.0;  ///< weight of the MSE to dense attention in soft mode
  FeatureMap feature_map = FeatureMap::softmax;
  LinearRange linear_range = LinearRange::complement;
  LinearProjection projection = LinearProjection::none;
  double eps = 1e-8;  ///< added to the denominator of the linear branch
  AlphaPer alpha_per = AlphaPer::head;
  double alpha_init = 0.5;  ///< logit: the weight is sigmoid(alpha)
  TokenOrder tile = TokenOrder::row;
  bool dense_prefix = true;  ///< in-context tokens: always selected as keys, dense as queries
  Selector selector = Selector::topk;            ///< sparse, sparge, vmoba
  double mass = 0.9;                             ///< share that top_p, cdf and threshold collect
  std::int64_t topk = 0;                         ///< vsa, vmoba, llsa; 0: from topk_ratio
  SlaVariant variant = SlaVariant::complement;   ///< sla
  double negligible_ratio = 0;                   ///< sla `paper`
  GateScope gate_scope = GateScope::query_head;  ///< vmoba
  double theta = -0.1;                           ///< sparge
  bool smooth_k = true;                          ///< sparge
  std::int64_t levels = 1;                       ///< llsa
  bool enrichment = true;                        ///< llsa
  std::int64_t radius = 1;                       ///< window
  LowBitOptions quant;
};

/// Other attention settings for some blocks, start_layer or not: `first` says where they start, and
/// a start_layer of their own is an error.
struct AttentionRange {
  std::int64_t first = 0;
  std::int64_t last = -1;  ///< the last block itself is one of them; -1: to the end
  AttentionOptions options;
  [[nodiscard]] bool covers(std::int64_t layer) const {
    return layer >= first && (last < 0 || layer <= last);
  }
};

struct JiTOptions {
  std::int64_t input_size = 256;
  std::int64_t patch_size = 16;
  std::int64_t in_channels = 3;
  std::int64_t hidden_size = 1024;
  std::int64_t depth = 24;
  std::int64_t num_heads = 16;
  double mlp_ratio = 4.0;
  double attn_drop = 0.0;  ///< middle half of the blocks only
  double proj_drop = 0.0;  ///< likewise
  std::int64_t num_classes = 1000;
  std::int64_t bottleneck_dim = 128;
  bool use_bottleneck = true;
  std::int64_t in_context_len = 32;
  std::int64_t in_context_start = 8;
  AttentionOptions attention;
  std::vector<AttentionRange> attention_layers;  ///< the last one that covers a block wins

  // JiTSLA2 only.
  bool use_sla2 = false;
  Sla2Impl sla2_impl = Sla2Impl::pixelgen;
  std::int64_t sla2_start_layer = 0;
  double sla2_topk_ratio = 0.05;
  double sla2_compression_ratio = 8.0;
  bool sla2_enable_qat = true;
  RouterMode sla2_router_mode = RouterMode::hard;
  double sla2_soft_topk_tau = 1.0;
  std::int64_t sla2_soft_topk_iters = 8;
  double sla2_router_aux_weight = 0.0;
  FeatureMap sla2_feature_map = FeatureMap::softmax;

  /// Image tokens, without the in-context ones.
  [[nodiscard]] std::int64_t tokens() const {
    return (input_size / patch_size) * (input_size / patch_size);
  }
  /// In-context tokens of block `layer`.
  [[nodiscard]] std::int64_t prefix(std::int64_t layer) const {
    return layer >= in_context_start ? in_context_len : 0;
  }
  [[nodiscard]] std::int64_t head_dim() const { return hidden_size / num_heads; }
  /// What block `layer` uses, with `use_sla2`, the `sla2_*` options, `attention_layers` and method
  /// auto resolved. The token order is the network's, whatever a range says.
  [[nodiscard]] AttentionOptions attention_of(std::int64_t layer) const;
};

/// The paper's sizes: 'B', 'L' or 'H' with patch 16 (256 px) or 32 (512 px).
[[nodiscard]] JiTOptions jit_preset(char size, std::int64_t patch);

}  // namespace tenun
