// Keys of `model:`: network, attention, trainers, samplers and their small parts.
#include <fmt/core.h>

#include "tenun/train/config/describe.h"

namespace tenun {
namespace {

const std::vector<std::pair<std::string, FeatureMap>> kFeatureMaps{
    {"softmax", FeatureMap::softmax}, {"elu", FeatureMap::elu}, {"relu", FeatureMap::relu}};
const std::vector<std::pair<std::string, RouterMode>> kRouterModes{{"soft", RouterMode::soft},
                                                                   {"hard", RouterMode::hard}};
const std::vector<std::pair<std::string, LowBit>> kLowBits{{"none", LowBit::none},
                                                           {"int8", LowBit::int8}};
const std::vector<std::pair<std::string, LowBit>> kLowBitValues{
    {"none", LowBit::none}, {"int8", LowBit::int8}, {"fp8", LowBit::fp8}};

/// The constructor of JiT.
void describe_jit_base(Fields& f, JiTOptions& o) {
  f.add("input_size", o.input_size, "height and width of the image in pixels",
        at_least(1) | synonym("image_size") | synonym("img_size") | synonym("resolution"));
  f.add("patch_size", o.patch_size, "pixels per side of one token", at_least(1));
  f.add("in_channels", o.in_channels, "image channels", at_least(1));
  f.add("hidden_size", o.hidden_size, "width C of the network",
        at_least(4) | synonym("hidden_dim") | synonym("embed_dim") | synonym("width"));
  f.add("depth", o.depth, "number of blocks",
        at_least(1) | synonym("num_layers") | synonym("layers") | synonym("num_blocks"));
  f.add("num_heads", o.num_heads, "attention heads", at_least(1) | synonym("heads"));
  f.add("mlp_ratio", o.mlp_ratio, "hidden width of the MLP is int(C * mlp_ratio * 2 / 3)",
        positive());
  f.add("attn_drop", o.attn_drop, "dropout of attention probabilities, middle half of the blocks",
        in_range(0, 1) | synonym("attention_dropout"));
  f.add("proj_drop", o.proj_drop, "dropout after projections, middle half of the blocks",
        in_range(0, 1) | synonym("dropout"));
  f.add("num_classes", o.num_classes, "classes; one more row is the null class",
        at_least(1) | synonym("n_classes") | synonym("classes"));
  f.add("bottleneck_dim", o.bottleneck_dim, "channels between the two patch convolutions",
        at_least(1));
  f.add("use_bottleneck", o.use_bottleneck, "two patch convolutions instead of one");
  f.add("in_context_len", o.in_context_len, "class tokens put in front of the image tokens",
        at_least(0));
  f.add("in_context_start", o.in_context_start, "block before which they are inserted",
        at_least(0));
  f.nest("attention", o.attention, "attention method of the blocks");
  f.add_changes<AttentionRange>(
      "attention_layers", o.attention_layers,
      [&o] {
        return AttentionRange{0, -1, o.attention};
      },
      "other attention for some blocks: `first`, `last` and the keys of `attention` that differ");
  f.check([&o]() -> std::optional<Complaint> {
    if (o.input_size % o.patch_size != 0)
      return Complaint{
          "patch_size",
          fmt::format("patch_size {} does not divide input_size {}", o.patch_size, o.input_size),
          "the image must be a whole number of patches"};
    if (o.hidden_size % o.num_heads != 0)
      return Complaint{
          "num_heads",
          fmt::format("{} heads do not divide hidden_size {}", o.num_heads, o.hidden_size),
          "hidden_size must be a multiple of num_heads"};
    if (o.head_dim() % 4 != 0)
      return Complaint{"num_heads",
                       fmt::format("the head size {} is not a multiple of 4", o.head_dim()),
                       "rotary position embedding needs hidden_size / num_heads divisible by 4"};
    for (const AttentionRange& range : o.attention_layers) {
      if (range.options.tile != o.attention.tile)
        return Complaint{"attention_layers", "the token order is the same in all blocks",
                         "set attention.tile instead"};
      if (range.options.start_layer != o.attention.start_layer)
        return Complaint{"attention_layers", "start_layer has no meaning in a range of blocks",
                         "`first` is where the range starts; attention.start_layer is for all"};
      if (range.first >= o.depth || range.last >= o.depth ||
          (range.last >= 0 && range.last < range.first))
        return Complaint{"attention_layers",
                         fmt::format("blocks {} to {} are not among the {} of the network",
                                     range.first, range.last, o.depth),
                         "the first block is 0, the last one depth - 1"};
    }
    if (o.in_context_len > 0 && o.in_context_start >= o.depth)
      return Complaint{
          "in_context_start",
          fmt::format("in_context_start {} is not below depth {}", o.in_context_start, o.depth),
          "the class tokens would never be inserted"};
    return std::nullopt;
  });
}

void describe_path(Fields& f, FlowTrainerOptions& o) {
  f.add("scheduler", o.scheduler, "noise schedule", object_of(ClassKind::scheduler));
  f.add("loss_weight_fn", o.loss_weight_fn, "weight of the loss over t",
        object_of(ClassKind::loss_weight_fn));
  f.add("lognorm_t", o.lognorm_t, "draw t from a logit-normal distribution instead of uniformly");
  f.add("timeshift", o.timeshift, "t becomes t / (t + (1 - t) * timeshift)", positive());
  f.add("null_condition_p", o.null_condition_p, "share of labels replaced by the null class",
        in_range(0, 1) | synonym("label_drop") | synonym("class_dropout_prob"));
}

void describe_lognorm(Fields& f, FlowTrainerOptions& o) {
  f.add("P_mean", o.P_mean, "mean of the normal behind lognorm_t");
  f.add("P_std", o.P_std, "standard deviation of the normal behind lognorm_t", positive());
}

void describe_image_prediction(Fields& f, FlowTrainerOptions& o) {
  f.add("t_eps", o.t_eps, "lower bound of 1 - t in the velocity", positive());
  f.add("noise_scale", o.noise_scale, "standard deviation of the noise (size / 256 in the paper)",
        positive());
}

void describe_sampler(Fields& f, SamplerOptions& o) {
  f.add("scheduler", o.scheduler, "noise schedule", object_of(ClassKind::scheduler));
  f.add("w_scheduler", o.w_scheduler, "diffusion of stochastic steps; the ode step has none",
        object_of(ClassKind::scheduler) | nullable());
  f.add("num_steps", o.num_steps, "integration steps", at_least(1) | synonym("steps"));
  f.add("guidance", o.guidance, "classifier-free guidance scale; 1 is none",
        at_least(0) | synonym("cfg") | synonym("cfg_scale") | synonym("guidance_scale"));
  f.add("guidance_interval_min", o.guidance_interval_min, "guidance acts for t above this",
        in_range(0, 1));
  f.add("guidance_interval_max", o.guidance_interval_max, "and up to this", in_range(0, 1));
  f.add("timeshift", o.timeshift, "time grid s / (s + (1 - s) * timeshift)", positive());
  f.add("guidance_fn", o.guidance_fn, "how the two predictions are combined",
        object_of(ClassKind::guidance_fn));
  f.add("step_fn", o.step_fn, "one integration step", object_of(ClassKind::step_fn));
  f.add("last_step_fn", o.last_step_fn, "the last integration step", object_of(ClassKind::step_fn));
  f.add("last_step", o.last_step, "length of the last interval; null: 1 / num_steps", positive());
  f.check([&o]() -> std::optional<Complaint> {
    if (o.guidance_interval_min > o.guidance_interval_max)
      return Complaint{"guidance_interval_min",
                       fmt::format("the guidance interval is empty: {} > {}",
                                   o.guidance_interval_min, o.guidance_interval_max),
                       "swap the two bounds, or set guidance to 1"};
    return std::nullopt;
  });
}

}  // namespace

void describe(Fields&, NoOptions&) {}
void describe(Fields& f, OpenOptions& o) { f.keep_unknown(o.arguments); }

void describe(Fields& f, LowBitOptions& o) {
  f.add("qk", o.qk, "queries times keys", kLowBits);
  f.add("pv", o.pv, "probabilities times values", kLowBitValues);
  f.add("smooth_k", o.smooth_k, "subtract the mean key before quantising");
  f.add("scales", o.scales,
        "units of the integers of qk: the largest value of a block (amax), or learned (sla2)",
        {{"amax", QuantScales::amax}, {"learned", QuantScales::learned}});
}

void describe(Fields& f, AttentionOptions& o) {
  std::vector<std::string> methods;
  for (const AttentionMethod m : available_attention_methods()) methods.emplace_back(name(m));
  f.add("method", o.method,
        "attention method; auto: sla2 where the sequence is long enough for it to pay, else dense",
        choices(std::move(methods)));
  f.add("start_layer", o.start_layer, "blocks before this one stay dense", at_least(0));
  f.add("block_q", o.block_q, "tokens per query block", at_least(1) | synonym("block_size"));
  f.add("block_k", o.block_k, "tokens per key block", at_least(1));
  f.add("topk_ratio", o.topk_ratio, "share of key blocks that stay exact, at least one block",
        in_range(0, 1) | synonym("sparsity"));
  f.add("mode", o.mode, "SoftTop-k (stage 1) or top-k", kRouterModes);
  f.add("tau", o.tau, "temperature of SoftTop-k", positive() | synonym("temperature"));
  f.add("soft_iters", o.soft_iters, "bisection steps of SoftTop-k", in_range(1, 200));
  f.add("router_score", o.router_score, "what SoftTop-k works on",
        {{"logit", RouterScore::logit}, {"softmax", RouterScore::softmax}});
  f.add("aux_weight", o.aux_weight, "weight of the error against dense attention in soft mode",
        at_least(0));
  f.add("feature_map", o.feature_map, "feature map of the linear branch (elu: elu + 1)",
        kFeatureMaps);
  f.add("linear_range", o.linear_range, "keys of the linear branch: unselected blocks, or all",
        {{"complement", LinearRange::complement}, {"global", LinearRange::global}});
  f.add("projection", o.projection, "after the linear branch: none, d x d per head, or C x C",
        {{"none", LinearProjection::none},
         {"head", LinearProjection::head},
         {"full", LinearProjection::full}});
  f.add("eps", o.eps, "added to the denominator of the linear branch", at_least(0));
  f.add("alpha_per", o.alpha_per, "one mixing weight per head, or per head and query block",
        {{"head", AlphaPer::head}, {"head_block", AlphaPer::head_block}});
  f.add("alpha_init", o.alpha_init, "starting logit of the mixing weight");
  f.add("tile", o.tile, "token order: image rows, or 8x8 tiles",
        {{"row", TokenOrder::row},
         {"8x8", TokenOrder::tile_8x8},
         {"raster", TokenOrder::row},
         {"tile", TokenOrder::tile_8x8}},
        alias("token_order"));
  f.add("dense_prefix", o.dense_prefix,
        "class tokens are always selected as keys and dense as queries");
  f.add(
      "selector", o.selector,
      "sparse, sparge, vmoba: a number of blocks, the best by their mass, what either selects, or "
      "any; threshold is vmoba's mass",
      {{"topk", Selector::topk},
       {"top_p", Selector::top_p},
       {"cdf", Selector::cdf},
       {"threshold", Selector::threshold},
       {"random", Selector::random},
       {"topk_top_p", Selector::topk_top_p}});
  f.add("mass", o.mass, "share that top_p, topk_top_p, cdf and threshold collect", at_least(0));
  f.add("topk", o.topk, "vsa, vmoba, llsa: key blocks of a row; 0: from topk_ratio", at_least(0));
  f.add("variant", o.variant,
        "sla: linear branch over all keys (main), unselected blocks (complement), or those of them "
        "that are not negligible (paper)",
        {{"main", SlaVariant::main},
         {"complement", SlaVariant::complement},
         {"paper", SlaVariant::paper}});
  f.add("negligible_ratio", o.negligible_ratio, "sla paper: share of key blocks that are left out",
        in_range(0, 1));
  f.add("gate_scope", o.gate_scope, "vmoba: pairs compete for each query, or within a head",
        {{"query_head", GateScope::query_head}, {"head_global", GateScope::head_global}});
  f.add("theta", o.theta, "sparge: blocks whose mean cosine is at most this are kept whole");
  f.add("smooth_k", o.smooth_k, "sparge: subtract the mean key before the selection");
  f.add("levels", o.levels, "llsa: poolings by block_k", in_range(1, 30));
  f.add("enrichment", o.enrichment, "llsa: attend to the coarse keys, too");
  f.add("radius", o.radius, "window: tiles to each side", at_least(0));
  f.nest("quant", o.quant, "low-bit forward of the exact branch, straight-through backward");
  f.check([&o]() -> std::optional<Complaint> {
    const bool gates = o.method == "vmoba";
    if ((o.method == "sparse" || o.method == "sparge") && o.selector == Selector::threshold)
      return Complaint{"selector", "threshold is a selector of vmoba", "use top_p or cdf"};
    if (gates && o.selector != Selector::topk && o.selector != Selector::threshold)
      return Complaint{"selector", "vmoba selects by topk or threshold", "use threshold"};
    if (o.method == "sla2" && o.router_score == RouterScore::softmax)
      return Complaint{"router_score", "sla2 routes by logits", "pixelgen_sla2 softmaxes them"};
    if (o.method == "sla2" && o.projection != LinearProjection::none)
      return Complaint{"projection", "sla2 has no projection", "sla and pixelgen_sla2 have one"};
    const bool takes_steps = o.method == "sla2" || o.method == "dense" || o.method == "auto";
    if (o.quant.scales == QuantScales::learned && (o.quant.qk != LowBit::int8 || !takes_steps))
      return Complaint{"quant", "learned scales are those of sla2 with qk: int8",
                       "set scales: amax"};
    if (!o.quant.smooth_k && (o.quant.qk != LowBit::none || o.quant.pv != LowBit::none))
      return Complaint{"quant", "low-bit products always subtract the mean key",
                       "leave smooth_k at true"};
    return std::nullopt;
  });
}

void describe(Fields& f, AttentionRange& o) {
  f.add("first", o.first, "first block, from 0", at_least(0));
  f.add("last", o.last, "last block; -1: to the end", at_least(-1));
  describe(f, o.options);
}

void describe(Fields& f, JiTOptions& o) { describe_jit_base(f, o); }

void describe_jit_sla2(Fields& f, JiTOptions& o) {
  describe_jit_base(f, o);
  f.add("use_sla2", o.use_sla2, "SLA2 attention instead of dense");
  f.add("sla2_impl", o.sla2_impl,
        "pixelgen: the original's semantics and checkpoints; native: Tenun's sla2, with the "
        "settings of `attention`",
        {{"pixelgen", Sla2Impl::pixelgen}, {"native", Sla2Impl::native}});
  f.add("sla2_start_layer", o.sla2_start_layer, "first block with SLA2", at_least(0));
  f.add("sla2_topk_ratio", o.sla2_topk_ratio, "share of cells that stay exact", in_range(0, 1));
  f.add("sla2_compression_ratio", o.sla2_compression_ratio, "tokens per cell (integer part)",
        at_least(1));
  f.add("sla2_enable_qat", o.sla2_enable_qat, "INT8 forward; pixelgen only records the flag");
  f.add("sla2_router_mode", o.sla2_router_mode, "SoftTop-k or top-k", kRouterModes);
  f.add("sla2_soft_topk_tau", o.sla2_soft_topk_tau, "temperature of SoftTop-k", positive());
  f.add("sla2_soft_topk_iters", o.sla2_soft_topk_iters, "bisection steps", in_range(1, 200));
  f.add("sla2_router_aux_weight", o.sla2_router_aux_weight,
        "weight of the error against dense attention in soft mode", at_least(0));
  f.add("sla2_feature_map", o.sla2_feature_map, "feature map of the linear branch (Tenun's key)",
        kFeatureMaps);
}

void describe_flow_trainer(Fields& f, FlowTrainerOptions& o) { describe_path(f, o); }

void describe_pixel_trainer(Fields& f, FlowTrainerOptions& o) {
  describe_path(f, o);
  describe_image_prediction(f, o);
}

void describe(Fields& f, FlowTrainerOptions& o) {
  describe_path(f, o);
  describe_lognorm(f, o);
  describe_image_prediction(f, o);
}

void describe_repa(Fields& f, RepaTrainerOptions& o, RepaLosses losses) {
  if (losses == RepaLosses::features) {
    describe_path(f, o.flow);
  } else {
    describe(f, o.flow);
    f.ignored({"num_classes"}, "int", "unused by the original too");
  }
  f.add("encoder", o.encoder, "frozen image encoder whose features are matched",
        object_of(ClassKind::encoder) | required());
  f.add("feat_loss_weight", o.feat_loss_weight, "weight of the feature alignment", at_least(0));
  f.add("align_layer", o.align_layer, "block whose output is aligned, from 1", at_least(1));
  f.add("proj_denoiser_dim", o.proj_denoiser_dim, "projector input: hidden_size", at_least(1));
  f.add("proj_hidden_dim", o.proj_hidden_dim, "projector hidden width", at_least(1));
  f.add("proj_encoder_dim", o.proj_encoder_dim, "projector output: encoder width", at_least(1));
  if (losses == RepaLosses::features || losses == RepaLosses::jit) return;
  f.add("lpips_weight", o.lpips_weight, "weight of LPIPS", at_least(0));
  f.add("patch_size", o.patch_size, "images are resized to size * 16 / patch_size for LPIPS",
        at_least(1));
  if (losses == RepaLosses::lpips) return;
  f.add("dino_weight", o.dino_weight, "weight of the DINO feature loss", at_least(0));
  if (losses == RepaLosses::dino) return;
  f.add("percept_t_threshold", o.percept_t_threshold, "perceptual losses act for t from here",
        in_range(0, 1));
  f.add("percept_ratio", o.percept_ratio, "factor of both perceptual losses", at_least(0));
}

void describe(Fields& f, EulerSamplerOptions& o) { describe_sampler(f, o); }
void describe(Fields& f, HeunSamplerOptions& o) {
  describe_sampler(f, o);
  f.add("exact_henu", o.exact_henu, "evaluate anew at the start of each step (spelled so)",
        alias("exact_heun"));
}
void describe(Fields& f, AdamLMSamplerOptions& o) {
  describe_sampler(f, o);
  f.add("order", o.order, "past velocities in use", in_range(1, 4));
  f.add("lms_transform_fn", o.lms_transform_fn, "time transform before the integration; null: none",
        object_of(ClassKind::lms_transform_fn) | nullable());
}

void describe(Fields& f, PixelAEOptions& o) {
  f.add("scale", o.scale, "pixels are divided by it", positive());
  f.add("shift", o.shift, "then this is added");
}
void describe(Fields& f, LatentAEOptions& o) {
  f.add("precompute", o.precompute, "the data set holds latents");
  f.add("weight_path", o.weight_path, "weights of the autoencoder", is_path() | required());
}
void describe(Fields& f, LabelConditionerOptions& o) {
  f.add("num_classes", o.num_classes, "classes; the null class is this number",
        at_least(1) | required());
}
void describe(Fields& f, PlaceHolderConditionerOptions& o) {
  f.add("null_class", o.null_class, "label of the null class", at_least(0));
}
void describe(Fields& f, DinoEncoderOptions& o) {
  f.add("weight_path", o.weight_path, "weights file", is_path());
  f.add("base_patch_size", o.base_patch_size, "pixels per token of the network", at_least(1));
}

}  // namespace tenun
