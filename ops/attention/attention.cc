#include "tenun/ops/attention/attention.h"

#include <array>
#include <string>

#include "tenun/core/check.h"
#include "tenun/core/profile.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/router.h"

namespace tenun {
namespace {

template <class E>
struct Named {
  E value;
  std::string_view text;
};
template <class E>
struct Names;
template <>
struct Names<AttentionMethod> {
  static constexpr const char* kind = "attention method";
  static constexpr std::array<Named<AttentionMethod>, 13> list{{
      {AttentionMethod::automatic, "auto"},
      {AttentionMethod::dense, "dense"},
      {AttentionMethod::sage, "sage"},
      {AttentionMethod::sla2, "sla2"},
      {AttentionMethod::sla, "sla"},
      {AttentionMethod::pixelgen_sla2, "pixelgen_sla2"},
      {AttentionMethod::vsa, "vsa"},
      {AttentionMethod::vmoba, "vmoba"},
      {AttentionMethod::sparge, "sparge"},
      {AttentionMethod::llsa, "llsa"},
      {AttentionMethod::window, "window"},
      {AttentionMethod::linear, "linear"},
      {AttentionMethod::sparse, "sparse"},
  }};
};
template <>
struct Names<RouterMode> {
  static constexpr const char* kind = "router mode";
  static constexpr std::array<Named<RouterMode>, 2> list{
      {{RouterMode::hard, "hard"}, {RouterMode::soft, "soft"}}};
};
template <>
struct Names<LinearRange> {
  static constexpr const char* kind = "linear range";
  static constexpr std::array<Named<LinearRange>, 2> list{
      {{LinearRange::complement, "complement"}, {LinearRange::global, "global"}}};
};
template <>
struct Names<FeatureMap> {
  static constexpr const char* kind = "feature map";
  static constexpr std::array<Named<FeatureMap>, 3> list{
      {{FeatureMap::softmax, "softmax"}, {FeatureMap::elu, "elu"}, {FeatureMap::relu, "relu"}}};
};
template <>
struct Names<LowBit> {
  static constexpr const char* kind = "low-bit type";
  static constexpr std::array<Named<LowBit>, 2> list{
      {{LowBit::none, "none"}, {LowBit::int8, "int8"}}};
};

template <class E>
std::string_view text_of(E v) {
  for (const auto& n : Names<E>::list)
    if (n.value == v) return n.text;
  return "?";
}

std::string joined(const std::vector<AttentionMethod>& methods) {
  std::string all;
  for (const AttentionMethod m : methods) {
    if (!all.empty()) all += ", ";
    all += name(m);
  }
  return all;
}

AttentionOutput dense(const Var& q, const Var& k, const Var& v, const AttentionSpec& s) {
  AttentionOutput out;
  out.o = sdpa(q, k, v, {.scale = s.scale, .dropout = s.dropout, .key = s.key});
  return out;
}

AttentionOutput sparse(const Var& q, const Var& k, const Var& v, const AttentionSpec& s,
                       const AttentionParams& p) {
  AttentionOutput out;
  const SparseResult r = block_sparse_attention(q, k, v, p.mask, s.block_q, s.block_k, s.scale);
  out.o = r.o, out.lse = r.lse.value(), out.mask = attn::flags(p.mask);
  out.stats = {attn::density(out.mask), 1, out.mask.dim(2), out.mask.dim(3)};
  return out;
}

}  // namespace

std::vector<AttentionMethod> available_attention_methods() {
  return {AttentionMethod::dense,         AttentionMethod::sage,   AttentionMethod::sla2,
          AttentionMethod::pixelgen_sla2, AttentionMethod::linear, AttentionMethod::sparse};
}

AttentionOutput attention(const Var& q, const Var& k, const Var& v, const AttentionSpec& spec,
                          const AttentionParams& params) {
  const Section section("attention");
  check(spec.dropout == 0 || spec.method == AttentionMethod::dense, "attention",
        "only method dense has dropout of the probabilities, not {}", name(spec.method));
  check(!spec.scale || spec.method == AttentionMethod::dense ||
            spec.method == AttentionMethod::sparse,
        "attention", "method {} has no scale of its own; leave it at 1/sqrt(D)", name(spec.method));
  switch (spec.method) {
    case AttentionMethod::dense: return dense(q, k, v, spec);
    case AttentionMethod::sparse: return sparse(q, k, v, spec, params);
    case AttentionMethod::sla2: return sla2_attention(q, k, v, spec, params);
    case AttentionMethod::pixelgen_sla2: return pixelgen_sla2(q, k, v, spec, params);
    case AttentionMethod::sage: {
      AttentionOutput out;
      const Quant quant = spec.quant.any() ? spec.quant : Quant{LowBit::int8, LowBit::none};
      out.o = int8_attention(q, k, v, {}, spec.block_q, spec.block_k, quant);
      return out;
    }
    case AttentionMethod::linear: {
      AttentionOutput out;
      out.o = linear_attention(q, k, v, {}, spec.feature_map, spec.eps, spec.block_q, spec.block_k);
      out.stats.density = 0;
      return out;
    }
    default:
      fail("attention", "method '{}' is not available yet; available: {}", name(spec.method),
           joined(available_attention_methods()));
  }
}

std::string_view name(AttentionMethod v) { return text_of(v); }
std::string_view name(RouterMode v) { return text_of(v); }
std::string_view name(LinearRange v) { return text_of(v); }
std::string_view name(FeatureMap v) { return text_of(v); }
std::string_view name(LowBit v) { return text_of(v); }

template <class E>
E from_name(std::string_view text) {
  std::string all;
  for (const auto& n : Names<E>::list) {
    if (n.text == text) return n.value;
    if (!all.empty()) all += ", ";
    all += n.text;
  }
  fail(Names<E>::kind, "'{}' is none of {}", text, all);
}
template AttentionMethod from_name<AttentionMethod>(std::string_view);
template RouterMode from_name<RouterMode>(std::string_view);
template LinearRange from_name<LinearRange>(std::string_view);
template FeatureMap from_name<FeatureMap>(std::string_view);
template LowBit from_name<LowBit>(std::string_view);

}  // namespace tenun
