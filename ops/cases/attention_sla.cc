#include <algorithm>
#include <cmath>

#include "tenun/ops/attention/methods.h"
#include "tenun/ops/cases/attention_reference.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

using Matrix = NaiveAttention::Matrix;

AttentionSpec sla_spec(const OpArgs& a) {
  AttentionSpec s;
  s.method = AttentionMethod::sla;
  s.variant = from_name<SlaVariant>(a.attrs.text("variant", "complement"));
  s.block_q = a.attrs.integer("block_q", 64), s.block_k = a.attrs.integer("block_k", 64);
  s.topk_ratio = a.attrs.real("topk_ratio");
  s.negligible_ratio = a.attrs.real("negligible_ratio", 0);
  s.feature_map = from_name<FeatureMap>(a.attrs.text("feature_map", "softmax"));
  s.eps = a.attrs.real("eps", 0);
  s.prefix = a.attrs.integer("prefix", 0);
  return s;
}

std::vector<Tensor> sla_reference(const OpArgs& args) {
  const NaiveAttention n(args);
  const AttentionSpec s = sla_spec(args);
  // Smoothing changes all scores of a row alike: their order is the same.
  const Tensor scores = n.scores(s.block_q, s.block_k, {}, {});
  const int64_t tn = scores.dim(3);
  const auto share = [&](double ratio) {
    return static_cast<int64_t>(std::floor(ratio * static_cast<double>(tn) + 1e-6));
  };
  const int64_t k = std::clamp<int64_t>(share(s.topk_ratio), 1, tn);
  const Tensor mask =
      NaiveAttention::topk(scores, k, up(s.prefix, s.block_q), up(s.prefix, s.block_k));
  const auto x = doubles(scores);
  Matrix m = doubles(mask), apart = m;
  if (s.variant == SlaVariant::paper)
    for (int64_t r = 0; r < scores.numel() / tn; ++r)
      for (int64_t j = 0; j < tn; ++j) {
        int64_t lower = 0;  // blocks that are left out before this one
        for (int64_t i = 0; i < tn; ++i)
          if (m[at(r * tn + i)] == 0)
            lower += x[at(r * tn + i)] < x[at(r * tn + j)] ||
                             (x[at(r * tn + i)] == x[at(r * tn + j)] && i > j)
                         ? 1
                         : 0;
        if (m[at(r * tn + j)] == 0 && lower < std::min(share(s.negligible_ratio), tn - k))
          apart[at(r * tn + j)] = 1;
      }
  const auto w = n.token_weights(mask, s.block_q, s.block_k);
  auto rest = n.token_weights(f64_tensor(apart, scores.shape()), s.block_q, s.block_k);
  for (double& y : rest) y = s.variant == SlaVariant::main ? 1 : 1 - y;
  auto o = doubles(n.sparse(&w, {}).o);
  const auto l = doubles(n.linear(&rest, std::string(name(s.feature_map)), s.eps));
  const auto p = doubles(args.tensor("proj_weight")), b = doubles(args.tensor("proj_bias"));
  for (int64_t r = 0; r < n.heads * n.nq; ++r)
    for (int64_t c = 0; c < n.d; ++c) {
      o[at(r * n.d + c)] += b[at(c)];
      for (int64_t i = 0; i < n.d; ++i)
        o[at(r * n.d + c)] += p[at(c * n.d + i)] * l[at(r * n.d + i)];
    }
  return {f64_tensor(o, n.q_shape)};
}

std::vector<CaseInput> sla_inputs(int64_t b, int64_t h, int64_t nq, int64_t nk, int64_t d) {
  auto in = qkv(b, h, nq, nk, d);
  in.push_back({d, d});
  in.push_back({d});
  return in;
}

}  // namespace

void add_attention_sla_ops(OpTable& table) {
  const AttrDef block_q{"block_q", "64", "queries of a block"},
      block_k{"block_k", "64", "keys of a block"},
      prefix{"prefix", "0", "leading tokens with dense attention"};
  table.add(
      {.name = "sla_attention",
       .summary = "sparse-linear attention with a projection of the linear branch (SLA)",
       .inputs = {{"q"}, {"k"}, {"v"}, {"proj_weight"}, {"proj_bias"}},
       .attrs = {block_q,
                 block_k,
                 {"topk_ratio", "", "share of key blocks with exact attention"},
                 {"negligible_ratio", "0", "variant paper: share of key blocks that are left out"},
                 {"variant", "complement", "keys of the linear branch: main, complement, paper"},
                 {"feature_map", "softmax", "softmax, elu or relu"},
                 {"eps", "0", "added to the linear branch's denominator"},
                 prefix},
       .outputs = {"o"},
       .call =
           [](const OpArgs& a) {
             AttentionParams p;
             p.proj_weight = a["proj_weight"], p.proj_bias = a["proj_bias"];
             return one(sla_attention(a["q"], a["k"], a["v"], sla_spec(a), p).o);
           },
       .reference = sla_reference,
       .cases = {
           {"one", sla_inputs(1, 1, 1, 1, 8), {{"topk_ratio", 0.1}}},
           {"one_block", sla_inputs(1, 2, 7, 7, 8), {{"topk_ratio", 0.5}, {"variant", "main"}}},
           {"main_d64",
            sla_inputs(1, 1, 65, 65, 64),
            {{"topk_ratio", 0.3}, {"variant", "main"}, {"block_q", 32}, {"block_k", 16}}},
           {"complement_cross_d72",
            sla_inputs(1, 1, 21, 65, 72),
            {{"topk_ratio", 0.4}, {"block_q", 8}, {"block_k", 16}, {"eps", 1e-5}}},
           {"all_blocks",
            sla_inputs(2, 1, 20, 20, 4),
            {{"topk_ratio", 1.0}, {"block_q", 8}, {"block_k", 8}}},
           {"paper",
            sla_inputs(1, 2, 65, 65, 8),
            {{"topk_ratio", 0.2},
             {"negligible_ratio", 0.4},
             {"variant", "paper"},
             {"block_q", 16},
             {"block_k", 8}}},
           {"paper_nothing_left",
            sla_inputs(1, 1, 24, 24, 8),
            {{"topk_ratio", 0.67},
             {"negligible_ratio", 0.9},
             {"variant", "paper"},
             {"block_q", 8},
             {"block_k", 8}}},
           {"prefix_elu",
            sla_inputs(1, 2, 33, 33, 8),
            {{"topk_ratio", 0.3},
             {"block_q", 8},
             {"block_k", 4},
             {"prefix", 5},
             {"feature_map", "elu"}}},
       }});
}

}  // namespace tenun
