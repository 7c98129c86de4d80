// The attention of a JiT block, by method; and the utilities over all of them.
#include <cmath>

#include "tenun/core/check.h"
#include "tenun/models/jit.h"
#include "tenun/ops/dropout.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/norm.h"
#include "tenun/ops/qk_norm_rope.h"
#include "tenun/ops/shape.h"

namespace tenun {
namespace {

constexpr double kTheta = 10000;
// Of learned units: q and k have a root mean square of 1, and 127 units hold four of those.
constexpr double kFirstStep = 4.0 / 127;

Tensor identity(int64_t n) {
  Tensor t = Tensor::zeros({n, n});
  t.with_layout([&] {
     Layout l(Shape{n});
     l.strides[0] = n + 1;
     return l;
   }())
      .fill_(1);
  return t;
}

// Dropout of the probabilities counts their elements over the batch: so that a sample's mask is its
// own, every sample is a call of its own.
AttentionOutput dropped_attention(const Var& q, const Var& k, const Var& v, AttentionSpec s,
                                  const AttentionParams& params, const SampleKeys& keys) {
  check<ShapeError>(q.dim(0) == std::ssize(keys), "attention",
                    "dropout needs a key for each sample of q {}, got {}", q.value(), keys.size());
  std::vector<Var> parts;
  AttentionOutput a;
  for (int64_t i = 0; i < q.dim(0); ++i) {
    s.key = keys[static_cast<size_t>(i)];
    a = attention(slice(q, 0, i, i + 1), slice(k, 0, i, i + 1), slice(v, 0, i, i + 1), s, params);
    parts.push_back(a.o);
  }
  a.o = concat(parts, 0);
  return a;
}

}  // namespace

JiTAttention::JiTAttention(const ParameterScope& p, const JiTOptions& o, int64_t layer)
    : options(o.attention_of(layer)),
      heads_(o.num_heads),
      grid_(o.input_size / o.patch_size),
      tile_(options.tile == TokenOrder::tile_8x8 ? 8 : 1),
      layer_(layer) {
  const bool middle = layer >= o.depth / 4 && layer < o.depth / 4 * 3;
  attn_drop_ = middle ? o.attn_drop : 0;
  proj_drop_ = middle ? o.proj_drop : 0;
  const int64_t c = o.hidden_size, d = o.head_dim();
  qat = options.quant.qk != LowBit::none || options.quant.pv != LowBit::none;
  const auto linears = [&](const ParameterScope& s) {
    qkv_ = {s / "qkv", c, 3 * c, Init::xavier(c, 3 * c), Init::zeros()};
    proj_ = {s / "proj", c, c, Init::xavier(c, c), Init::zeros()};
  };
  if (options.method == "pixelgen_sla2") {
    // PixelGen's order and names; its model-level initialisation gives every matrix Xavier's.
    const ParameterScope s = p / "sla2";
    alpha_ = s.add("alpha", {heads_}, Init::constant(Tensor::full({heads_}, options.alpha_init)));
    linears(s);
    q_norm_ = (s / "q_norm").add("weight", {d}, Init::ones());
    q_norm_bias_ = (s / "q_norm").add("bias", {d}, Init::zeros());
    k_norm_ = (s / "k_norm").add("weight", {d}, Init::ones());
    k_norm_bias_ = (s / "k_norm").add("bias", {d}, Init::zeros());
    router_q_ = (s / "router.q_proj").add("weight", {d, d}, Init::xavier(d, d));
    router_k_ = (s / "router.k_proj").add("weight", {d, d}, Init::xavier(d, d));
    proj_l_ = (s / "proj_l").add("weight", {c, c}, Init::xavier(c, c));
    qat = o.sla2_enable_qat;
    return;
  }
  q_norm_ = (p / "q_norm").add("weight", {d}, Init::ones());
  k_norm_ = (p / "k_norm").add("weight", {d}, Init::ones());
  linears(p);
  if (options.method == "sla2") {
    const ParameterScope s = p / "sla2";
    Shape per{heads_};
    if (options.alpha_per == AlphaPer::head_block)
      per.push_back((o.tokens() + o.prefix(layer) + options.block_q - 1) / options.block_q);
    alpha_ = s.add("alpha", per, Init::constant(Tensor::full(per, options.alpha_init)));
    router_q_ = (s / "router.q_proj").add("weight", {d, d}, Init::constant(identity(d)));
    router_k_ = (s / "router.k_proj").add("weight", {d, d}, Init::constant(identity(d)));
    if (options.quant.scales == QuantScales::learned) {
      const Init first = Init::constant(Tensor::full({heads_}, kFirstStep));
      q_step_ = s.add("q_step", {heads_}, first);
      k_step_ = s.add("k_step", {heads_}, first);
    }
  }
  // Both start as exact attention over the selected blocks alone.
  if (options.method == "sla") sla_proj_ = {p / "sla.proj", d, d, Init::zeros(), Init::zeros()};
  if (options.method == "vsa") gate_c_ = {p / "vsa.gate_c", c, c, Init::zeros(), Init::zeros()};
}

int64_t JiTAttention::router_parameters() const {
  return router_q_.defined() ? router_q_.value().numel() + router_k_.value().numel() : 0;
}

AttentionSpec JiTAttention::spec(int64_t prefix) const {
  AttentionSpec s;
  s.method = from_name<AttentionMethod>(options.method);
  s.block_q = options.block_q, s.block_k = options.block_k;
  s.topk_ratio = options.topk_ratio;
  s.mode = options.mode;
  s.tau = options.tau;
  s.feature_map = options.feature_map;
  s.eps = options.eps;
  s.linear_range = options.linear_range;
  s.prefix = options.dense_prefix ? prefix : 0;
  if (qat) s.quant = {options.quant.qk, options.quant.pv};
  s.compression = options.block_k;
  s.iters = options.soft_iters;
  s.selector = options.selector, s.mass = options.mass, s.topk = options.topk;
  s.variant = options.variant, s.negligible_ratio = options.negligible_ratio;
  s.scope = options.gate_scope;
  s.theta = options.theta, s.smooth_k = options.smooth_k;
  s.levels = options.levels, s.enrichment = options.enrichment;
  s.radius = options.radius;
  if (tile_ > 1) s.grid = {tile_ * tile_, grid_ / tile_};
  s.key = RandomKey::derive(0, Purpose::user, static_cast<uint64_t>(layer_));
  return s;
}

JiTAttention::Out JiTAttention::operator()(const Var& h, int64_t prefix,
                                           const SampleKeys* keys) const {
  const int64_t b = h.dim(0), n = h.dim(1), c = h.dim(2), d = c / heads_;
  const Var packed = qkv_(h);  // [B,N,3C]
  Var q, k, v;                 // [B,H,N,D]
  AttentionSpec s = spec(prefix);
  AttentionParams params{
      .router_q = router_q_, .router_k = router_k_, .alpha = alpha_, .proj_l = proj_l_};
  if (q_norm_bias_.defined()) {  // pixelgen_sla2: LayerNorm, no rotary embedding
    const auto parts = unbind(permute(reshape(packed, {b, n, 3, heads_, d}), {2, 0, 3, 1, 4}), 0);
    q = layer_norm(parts[0], q_norm_, q_norm_bias_, 1e-5);
    k = layer_norm(parts[1], k_norm_, k_norm_bias_, 1e-5);
    v = parts[2];
  } else {
    const Qkv parts =
        qk_norm_rope(packed, q_norm_, k_norm_,
                     {.heads = heads_, .rope = {grid_, prefix, kTheta, tile_}, .eps = 1e-6});
    q = parts.q, k = parts.k, v = parts.v;
  }
  s.aux =
      keys != nullptr && is_sla2() && options.mode == RouterMode::soft && options.aux_weight > 0;
  params.q_step = q_step_, params.k_step = k_step_;
  if (sla_proj_.weight.defined())
    params.proj_weight = sla_proj_.weight, params.proj_bias = sla_proj_.bias;
  if (gate_c_.weight.defined())
    params.gate_c = permute(reshape(gate_c_(h), {b, n, heads_, d}), {0, 2, 1, 3});
  if (measure_error) {
    error_.reset();
    if (s.quant.any()) error_ = attention_quant_error(q.value(), k.value(), v.value(), s, params);
  }
  const bool drops = keys != nullptr && attn_drop_ > 0;
  if (drops) s.dropout = attn_drop_;
  AttentionOutput a =
      drops ? dropped_attention(q, k, v, s, params, derive_keys(*keys, Purpose::dropout, 2))
            : attention(q, k, v, s, params);
  density_ = a.stats.density;
  if (observe) observe({q, k, v, s, params, a});
  Var y = proj_(reshape(permute(a.o, {0, 2, 1, 3}), {b, n, c}));
  if (keys != nullptr && proj_drop_ > 0)
    y = dropout(y, proj_drop_, derive_keys(*keys, Purpose::dropout, 3));
  Out out{y, {}};
  if (a.aux_loss.defined()) out.aux = a.aux_loss * options.aux_weight;
  return out;
}

void enable_sla2_qat(JiT& net) {
  for (int64_t i = 0; i < net.depth(); ++i)
    if (net.attention(i).is_sla2()) net.attention(i).qat = true;
}
void disable_sla2_qat(JiT& net) {
  for (int64_t i = 0; i < net.depth(); ++i) net.attention(i).qat = false;
}

std::map<std::string, double> get_sla2_statistics(const JiT& net) {
  std::map<std::string, double> out;
  for (int64_t i = 0; i < net.depth(); ++i) {
    const JiTAttention& a = net.attention(i);
    if (!a.is_sla2()) continue;
    const std::string key = fmt::format("sla2_blocks_{}_attn/", i);
    double mean = 0, square = 0;
    const auto values = a.alpha().value().values<double>();
    for (const double x : values)
      mean += 1 / (1 + std::exp(-x)) / static_cast<double>(values.size());
    for (const double x : values) square += std::pow(1 / (1 + std::exp(-x)) - mean, 2);
    out[key + "alpha_mean"] = mean;
    out[key + "alpha_std"] =
        values.size() > 1 ? std::sqrt(square / static_cast<double>(values.size() - 1)) : 0;
    out[key + "sparsity"] = 1 - a.options.topk_ratio;
    out[key + "measured_sparsity"] = a.measured_sparsity();
    out[key + "router_params"] = static_cast<double>(a.router_parameters());
    if (!a.quant_error()) continue;
    out[key + "quant_cosine"] = a.quant_error()->cosine;
    out[key + "quant_rel_l1"] = a.quant_error()->rel_l1;
    for (const auto& [what, range] :
         {std::pair{"q", a.quant_error()->q}, std::pair{"k", a.quant_error()->k},
          std::pair{"v", a.quant_error()->v}}) {
      out[key + "quant_scale_" + what + "_min"] = range.low;
      out[key + "quant_scale_" + what + "_max"] = range.high;
    }
  }
  return out;
}

void log_sla2_config(const JiT& net, const std::function<void(const std::string&)>& print) {
  int count = 0;
  for (int64_t i = 0; i < net.depth(); ++i) {
    const JiTAttention& a = net.attention(i);
    if (!a.is_sla2()) {
      if (a.options.method != "dense")
        print(fmt::format("blocks.{}.attn: {}, blocks {}x{}, QAT {}", i, a.options.method,
                          a.options.block_q, a.options.block_k, a.qat ? "on" : "off"));
      continue;
    }
    ++count;
    print(
        fmt::format("blocks.{}.attn: {}, sparsity {:.1f} %, top-k {:.3f}, blocks {}x{}, {} "
                    "routing, feature map {}, QAT {}, {} router parameters",
                    i, a.options.method, 100 * (1 - a.options.topk_ratio), a.options.topk_ratio,
                    a.options.block_q, a.options.block_k, name(a.options.mode),
                    name(a.options.feature_map), a.qat ? "on" : "off", a.router_parameters()));
  }
  print(fmt::format("{} of {} attention layers are SLA2", count, net.depth()));
}

}  // namespace tenun
