// The public names of methods and modes.
#include <array>
#include <string>

#include "tenun/core/check.h"
#include "tenun/ops/attention/attention.h"

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
struct Names<Selector> {
  static constexpr const char* kind = "selector";
  static constexpr std::array<Named<Selector>, 6> list{{{Selector::topk, "topk"},
                                                        {Selector::top_p, "top_p"},
                                                        {Selector::cdf, "cdf"},
                                                        {Selector::threshold, "threshold"},
                                                        {Selector::random, "random"},
                                                        {Selector::topk_top_p, "topk_top_p"}}};
};
template <>
struct Names<SlaVariant> {
  static constexpr const char* kind = "SLA variant";
  static constexpr std::array<Named<SlaVariant>, 3> list{{{SlaVariant::main, "main"},
                                                          {SlaVariant::complement, "complement"},
                                                          {SlaVariant::paper, "paper"}}};
};
template <>
struct Names<GateScope> {
  static constexpr const char* kind = "gate scope";
  static constexpr std::array<Named<GateScope>, 2> list{
      {{GateScope::query_head, "query_head"}, {GateScope::head_global, "head_global"}}};
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
  static constexpr std::array<Named<LowBit>, 3> list{
      {{LowBit::none, "none"}, {LowBit::int8, "int8"}, {LowBit::fp8, "fp8"}}};
};

template <class E>
std::string_view text_of(E v) {
  for (const auto& n : Names<E>::list)
    if (n.value == v) return n.text;
  return "?";
}

}  // namespace

std::vector<AttentionMethod> available_attention_methods() {
  std::vector<AttentionMethod> all;
  for (const auto& n : Names<AttentionMethod>::list) all.push_back(n.value);
  return all;
}

std::string_view name(AttentionMethod v) { return text_of(v); }
std::string_view name(RouterMode v) { return text_of(v); }
std::string_view name(LinearRange v) { return text_of(v); }
std::string_view name(Selector v) { return text_of(v); }
std::string_view name(SlaVariant v) { return text_of(v); }
std::string_view name(GateScope v) { return text_of(v); }
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
template Selector from_name<Selector>(std::string_view);
template SlaVariant from_name<SlaVariant>(std::string_view);
template GateScope from_name<GateScope>(std::string_view);
template FeatureMap from_name<FeatureMap>(std::string_view);
template LowBit from_name<LowBit>(std::string_view);

}  // namespace tenun
