// The op `attention`: every method by its name, as YAML and C++ choose it.
#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/cases/attention_reference.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

AttentionMethod method_of(const OpArgs& a) {
  return from_name<AttentionMethod>(a.attrs.text("method"));
}

AttentionSpec spec_of(const OpArgs& args) {
  const Attrs& a = args.attrs;
  AttentionSpec s;
  s.method = method_of(args);
  s.block_q = a.integer("block_q", s.block_q), s.block_k = a.integer("block_k", s.block_k);
  s.topk_ratio = a.real("topk_ratio", s.topk_ratio), s.topk = a.integer("topk", s.topk);
  s.mode = from_name<RouterMode>(a.text("mode", "hard"));
  s.tau = a.real("tau", s.tau);
  s.feature_map = from_name<FeatureMap>(a.text("feature_map", "softmax"));
  s.eps = a.real("eps", s.eps);
  s.linear_range = from_name<LinearRange>(a.text("linear_range", "complement"));
  s.phi_on_smoothed_k = a.flag("phi_on_smoothed_k", s.phi_on_smoothed_k);
  s.prefix = a.integer("prefix", s.prefix);
  s.quant = {from_name<LowBit>(a.text("quant.qk", "none")),
             from_name<LowBit>(a.text("quant.pv", "none"))};
  if (a.has("scale")) s.scale = a.real("scale");
  s.selector = from_name<Selector>(a.text("selector", "topk"));
  s.mass = a.real("mass", s.mass);
  s.variant = from_name<SlaVariant>(a.text("variant", "complement"));
  s.negligible_ratio = a.real("negligible_ratio", s.negligible_ratio);
  s.scope = from_name<GateScope>(a.text("scope", "query_head"));
  s.theta = a.real("theta", s.theta), s.smooth_k = a.flag("smooth_k", s.smooth_k);
  s.levels = a.integer("levels", s.levels), s.enrichment = a.flag("enrichment", s.enrichment);
  s.radius = a.integer("radius", s.radius);
  s.grid = {a.integer("tile_tokens", 0), a.integer("tile_columns", 0)};
  s.compression = a.integer("compression", s.compression), s.iters = a.integer("iters", s.iters);
  s.key = RandomKey::derive(static_cast<uint64_t>(a.integer("seed", 0)), Purpose::user);
  return s;
}

AttentionParams params_of(const OpArgs& a) {
  AttentionParams p;
  p.router_q = a["router_q"], p.router_k = a["router_k"], p.alpha = a["alpha"];
  p.proj_l = a["proj_l"], p.proj_weight = a["proj_weight"], p.proj_bias = a["proj_bias"];
  p.gate_c = a["gate_c"], p.mask = a.tensor("mask");
  p.q_step = a["q_step"], p.k_step = a["k_step"];
  return p;
}

// The op whose reference a method shares, and what that op calls these attributes.
struct Namesake {
  const char* op;
  std::vector<std::pair<const char*, const char*>> attrs;
};
Namesake namesake(AttentionMethod method) {
  switch (method) {
    case AttentionMethod::automatic:  // the cases are short
    case AttentionMethod::dense: return {"sdpa", {{"scale", "scale"}}};
    case AttentionMethod::sage: return {"int8_attention", {{"quant.qk", "qk"}, {"quant.pv", "pv"}}};
    case AttentionMethod::vsa: return {"vsa_attention", {{"block_k", "block"}}};
    case AttentionMethod::vmoba:
      return {"vmoba_attention", {{"block_k", "chunk"}, {"selector", "mode"}, {"mass", "tau"}}};
    case AttentionMethod::sparge:
      return {"sparge_attention",
              {{"selector", "mode"}, {"mass", "tau_cdf"}, {"topk_ratio", "ratio"}}};
    case AttentionMethod::llsa: return {"llsa_attention", {{"block_k", "block"}}};
    case AttentionMethod::sla2: return {"sla2_attention", {}};
    case AttentionMethod::sla: return {"sla_attention", {}};
    case AttentionMethod::pixelgen_sla2: return {"pixelgen_sla2", {}};
    case AttentionMethod::window: return {"window_attention", {}};
    case AttentionMethod::linear: return {"linear_attention", {}};
    case AttentionMethod::sparse: return {"sparse_attention", {}};
  }
  fail("attention", "no method has this number");
}

std::vector<Tensor> reference(const OpArgs& a) {
  const Namesake like = namesake(method_of(a));
  OpArgs renamed = a;
  for (const auto& [mine, theirs] : like.attrs)
    if (const auto it = a.attrs.all().find(mine); it != a.attrs.all().end())
      renamed.attrs.set(theirs, it->second);
  return {op_table().find(like.op)->reference(renamed)[0]};
}

OpCase method_case(const char* method, Attrs attrs) {
  constexpr int64_t n = 33, d = 8;
  auto in = qkv(1, 2, n, n, d);
  for (const Shape& shape : {Shape{d, d}, Shape{d, d}, Shape{2}, Shape{2 * d, 2 * d}, Shape{d, d},
                             Shape{d}, Shape{1, 2, n, d}}) {
    in.push_back(CaseInput({}));
    in.back().shape = shape;
  }
  attrs.set("method", std::string(method));
  for (const char* block : {"block_q", "block_k"})
    if (!attrs.has(block)) attrs.set(block, int64_t{8});
  return {method, std::move(in), std::move(attrs)};
}

}  // namespace

void add_attention_any_ops(OpTable& table) {
  std::vector<OpCase> cases{
      method_case("auto", {}),
      method_case("dense", {}),
      method_case("sla2", {{"topk_ratio", 0.3}, {"eps", 0.0}}),
      method_case("sla", {{"topk_ratio", 0.3}, {"eps", 0.0}, {"variant", "main"}}),
      method_case("pixelgen_sla2", {{"topk_ratio", 0.3}, {"eps", 1e-8}, {"compression", 4}}),
      method_case("vsa", {{"topk", 2}}),
      method_case("vmoba", {{"selector", "threshold"}, {"mass", 0.3}}),
      method_case("sparge", {{"selector", "cdf"}, {"mass", 0.6}}),
      method_case("llsa", {{"topk", 2}}),
      method_case("window", {{"radius", 1}}),
      method_case("linear", {{"eps", 1e-5}}),
      method_case("sage", {{"quant.qk", "int8"}}),
  };
  cases.back().smooth = false, cases.back().rtol32 = 2e-2;
  table.add(
      {.name = "attention",
       .summary = "attention by any method; each has an op of its own name as well",
       .inputs = {{"q"},
                  {"k"},
                  {"v"},
                  {"router_q", true},
                  {"router_k", true},
                  {"alpha", true},
                  {"proj_l", true},
                  {"proj_weight", true},
                  {"proj_bias", true},
                  {"gate_c", true},
                  {.name = "mask", .optional = true, .integer = true},
                  {"q_step", true},
                  {"k_step", true}},
       .attrs = {{"method", "", "auto, dense, sage, sla2, sla, ..."},
                 {"block_q", "128", "queries of a block"},
                 {"block_k", "64", "keys of a block"},
                 {"topk_ratio", "0.1", "share of key blocks with exact attention"},
                 {"topk", "0", "vsa, vmoba, llsa: their number; 0: from topk_ratio"},
                 {"mode", "hard", "sla2, pixelgen_sla2: hard or soft"},
                 {"tau", "0.1", "of soft mode"},
                 {"feature_map", "softmax", "softmax, elu or relu"},
                 {"eps", "1e-8", "added to the linear branch's denominator"},
                 {"linear_range", "complement", "sla2: complement or global"},
                 {"phi_on_smoothed_k", "false", "sla2: the feature map sees k minus its mean"},
                 {"prefix", "0", "leading tokens with dense attention"},
                 {"quant.qk", "none", "int8: low-bit q k^T in the forward pass"},
                 {"quant.pv", "none", "int8 or fp8 (E4M3): low-bit p v in the forward pass"},
                 {"scale", "1/sqrt(D)", "dense, sparse: factor of the scores"},
                 {"selector", "topk",
                  "sparse, sparge, vmoba: topk, top_p, topk_top_p, cdf, threshold, random"},
                 {"mass", "0.9", "share that top_p, cdf and threshold collect"},
                 {"variant", "complement", "sla: main, complement or paper"},
                 {"negligible_ratio", "0", "sla paper: share of key blocks left out"},
                 {"scope", "query_head", "vmoba: query_head or head_global"},
                 {"theta", "-0.1", "sparge: less similar blocks are kept whole"},
                 {"smooth_k", "true", "sparge: select by k minus its mean"},
                 {"levels", "1", "llsa: poolings"},
                 {"enrichment", "true", "llsa: attend to the coarse keys, too"},
                 {"radius", "1", "window: tiles to each side"},
                 {"tile_tokens", "0", "window: tokens of an image tile"},
                 {"tile_columns", "0", "window: tiles in a row of the image"},
                 {"compression", "8", "pixelgen_sla2: tokens of a cell"},
                 {"iters", "8", "pixelgen_sla2: bisections"},
                 {"seed", "0", "of the random selector"}},
       .outputs = {"o"},
       .call =
           [](const OpArgs& a) {
             return one(attention(a["q"], a["k"], a["v"], spec_of(a), params_of(a)).o);
           },
       .reference = reference,
       .cases = std::move(cases)});
}

}  // namespace tenun
