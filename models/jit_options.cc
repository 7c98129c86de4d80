#include "tenun/models/jit_options.h"

#include "tenun/core/check.h"

namespace tenun {

AttentionOptions JiTOptions::attention_of(std::int64_t layer) const {
  AttentionOptions a = attention;
  if (use_sla2) {
    a.start_layer = sla2_start_layer;
    a.topk_ratio = sla2_topk_ratio;
    a.mode = sla2_router_mode;
    a.aux_weight = sla2_router_aux_weight;
    a.feature_map = sla2_feature_map;
    if (sla2_impl == Sla2Impl::pixelgen) {
      a.method = "pixelgen_sla2";
      a.block_q = a.block_k = static_cast<std::int64_t>(sla2_compression_ratio);
      a.tau = sla2_soft_topk_tau;
      a.soft_iters = sla2_soft_topk_iters;
      a.router_score = RouterScore::softmax;
      a.linear_range = LinearRange::global;
      a.projection = LinearProjection::full;
      a.alpha_per = AlphaPer::head;
      a.alpha_init = 0.5;
      a.dense_prefix = false;
      a.tile = TokenOrder::row;
    } else {
      // Blocks, temperature and the rest come from `attention`: PixelGen's values of those belong
      // to its own cells and softmaxed scores. Its "QAT" flag switches real INT8 on here.
      a.method = "sla2";
      if (sla2_enable_qat) a.quant.qk = LowBit::int8;
    }
  }
  if (layer < a.start_layer) a.method = "dense";
  for (const AttentionRange& range : attention_layers) {
    check(range.options.start_layer == 0 || range.options.start_layer == attention.start_layer,
          "attention_layers",
          "start_layer {} has no meaning in a range of blocks; `first` is where the range starts",
          range.options.start_layer);
    if (!range.covers(layer)) continue;
    const TokenOrder tile = a.tile;
    a = range.options;
    a.tile = tile;
  }
  if (a.method == "auto") a.method = name(automatic_method(a.topk_ratio, tokens() + prefix(layer)));
  return a;
}

JiTOptions jit_preset(char size, std::int64_t patch) {
  check(patch == 16 || patch == 32, "jit_preset", "patch must be 16 or 32, got {}", patch);
  JiTOptions o;
  o.patch_size = patch;
  o.input_size = 16 * patch;
  switch (size) {
    case 'B': o.depth = 12, o.hidden_size = 768, o.num_heads = 12, o.in_context_start = 4; return o;
    case 'L':
      o.depth = 24, o.hidden_size = 1024, o.num_heads = 16, o.in_context_start = 8;
      return o;
    case 'H':
      o.depth = 32, o.hidden_size = 1280, o.num_heads = 16, o.in_context_start = 10;
      o.bottleneck_dim = 256;
      return o;
    default: fail("jit_preset", "size must be B, L or H, got '{}'", size);
  }
}

}  // namespace tenun
