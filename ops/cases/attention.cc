#include <algorithm>
#include <cmath>

#include "tenun/ops/attention/methods.h"
#include "tenun/ops/cases/attention_reference.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

std::optional<double> scale_attr(const OpArgs& a) {
  return a.attrs.has("scale") ? std::optional(a.attrs.real("scale")) : std::nullopt;
}

}  // namespace

void add_attention_ops(OpTable& table) {
  table.add({.name = "sdpa",
             .summary = "softmax(scale q k^T) v, without holding N x N",
             .inputs = {{"q"}, {"k"}, {"v"}},
             .attrs = {{"scale", "1/sqrt(D)", "factor of the scores"}},
             .outputs = {"o"},
             .call =
                 [](const OpArgs& a) {
                   return one(sdpa(a["q"], a["k"], a["v"], {.scale = scale_attr(a)}));
                 },
             .reference =
                 [](const OpArgs& a) {
                   const NaiveAttention n(a);
                   return std::vector<Tensor>{n.sparse(nullptr, scale_attr(a)).o};
                 },
             .cases = {{"one", {{1, 1, 1, 8}, {1, 1, 1, 8}, {1, 1, 1, 8}}},
                       {"n7_d64", {{1, 2, 7, 64}, {1, 2, 7, 64}, {1, 2, 7, 64}}},
                       {"n33_d72", {{2, 1, 33, 72}, {2, 1, 33, 72}, {2, 1, 33, 72}}},
                       {"n65_d80", {{1, 1, 65, 80}, {1, 1, 65, 80}, {1, 1, 65, 80}}},
                       {"two_tiles", {{1, 1, 70, 8}, {1, 1, 130, 8}, {1, 1, 130, 8}}},
                       {"cross", {{1, 2, 5, 9}, {1, 2, 19, 9}, {1, 2, 19, 9}}},
                       {"scale", {{1, 1, 9, 3}, {1, 1, 9, 3}, {1, 1, 9, 3}}, {{"scale", 0.05}}},
                       {"peaky", {{1, 1, 20, 8}, {1, 1, 20, 8}, {1, 1, 20, 8}}, {}, 5.0},
                       {"no_queries", {{1, 2, 0, 8}, {1, 2, 3, 8}, {1, 2, 3, 8}}},
                       {"no_keys", {{1, 2, 3, 8}, {1, 2, 0, 8}, {1, 2, 0, 8}}}}});
  table.add(
      {.name = "block_sparse_attention",
       .summary = "attention over the selected blocks; also the log-sum-exp of each row",
       .inputs = {{"q"}, {"k"}, {"v"}, {.name = "mask", .integer = true}},
       .attrs = {{"block_q", "", "queries of a block"},
                 {"block_k", "", "keys of a block"},
                 {"scale", "1/sqrt(D)", "factor of the scores"}},
       .outputs = {"o", "lse"},
       .call =
           [](const OpArgs& a) {
             SparseResult r = block_sparse_attention(a["q"], a["k"], a["v"], a.tensor("mask"),
                                                     a.attrs.integer("block_q"),
                                                     a.attrs.integer("block_k"), scale_attr(a));
             return std::vector<Var>{r.o, r.lse};
           },
       .reference =
           [](const OpArgs& a) {
             const NaiveAttention n(a);
             const auto w = n.token_weights(a.tensor("mask"), a.attrs.integer("block_q"),
                                            a.attrs.integer("block_k"));
             const auto r = n.sparse(&w, scale_attr(a));
             return std::vector<Tensor>{r.o, r.lse};
           },
       .cases = {{"plain",
                  {{1, 2, 24, 8}, {1, 2, 24, 8}, {1, 2, 24, 8}, {{1, 2, 3, 6}, Fill::flags}},
                  {{"block_q", 8}, {"block_k", 4}}},
                 {"tails",
                  {{2, 1, 33, 64}, {2, 1, 21, 64}, {2, 1, 21, 64}, {{2, 1, 3, 5}, Fill::flags}},
                  {{"block_q", 16}, {"block_k", 5}, {"scale", 0.2}}},
                 {"big_blocks",
                  {{1, 1, 90, 8}, {1, 1, 150, 8}, {1, 1, 150, 8}, {{1, 1, 1, 2}, Fill::flags}},
                  {{"block_q", 100}, {"block_k", 80}}},
                 {"one_token",
                  {{1, 1, 1, 72}, {1, 1, 1, 72}, {1, 1, 1, 72}, {{1, 1, 1, 1}, Fill::flags}},
                  {{"block_q", 64}, {"block_k", 64}},
                  1,
                  false}}});
  table.add({.name = "linear_attention",
             .summary = "linear attention over the blocks that are not selected, or over all keys",
             .inputs = {{"q"}, {"k"}, {"v"}, {.name = "mask", .optional = true, .integer = true}},
             .attrs = {{"feature_map", "softmax", "softmax, elu or relu"},
                       {"eps", "0", "added to the denominator"},
                       {"block_q", "64", "queries of a block"},
                       {"block_k", "64", "keys of a block"}},
             .outputs = {"o"},
             .call =
                 [](const OpArgs& a) {
                   return one(linear_attention(
                       a["q"], a["k"], a["v"], a.tensor("mask"),
                       from_name<FeatureMap>(a.attrs.text("feature_map", "softmax")),
                       a.attrs.real("eps", 0), a.attrs.integer("block_q", 64),
                       a.attrs.integer("block_k", 64)));
                 },
             .reference =
                 [](const OpArgs& a) {
                   const NaiveAttention n(a);
                   std::vector<double> w(static_cast<size_t>(n.heads * n.nq * n.nk), 1.0);
                   if (a.tensor("mask").defined())
                     w = n.token_weights(a.tensor("mask"), a.attrs.integer("block_q", 64),
                                         a.attrs.integer("block_k", 64));
                   if (a.tensor("mask").defined())
                     for (double& x : w) x = 1 - x;
                   return std::vector<Tensor>{n.linear(&w, a.attrs.text("feature_map", "softmax"),
                                                       a.attrs.real("eps", 0))};
                 },
             .cases = {{"all", {{1, 2, 33, 8}, {1, 2, 33, 8}, {1, 2, 33, 8}}},
                       {"one", {{1, 1, 1, 64}, {1, 1, 1, 64}, {1, 1, 1, 64}}},
                       {"d72_elu",
                        {{1, 1, 7, 72}, {1, 1, 70, 72}, {1, 1, 70, 72}},
                        {{"feature_map", "elu"}, {"eps", 1e-5}}},
                       {"mask",
                        {{2, 1, 21, 8}, {2, 1, 33, 8}, {2, 1, 33, 8}, {{2, 1, 3, 5}, Fill::flags}},
                        {{"block_q", 8}, {"block_k", 7}}},
                       {"relu",
                        {{{1, 2, 13, 8}, Fill::off_zero},
                         {{1, 2, 9, 8}, Fill::off_zero},
                         {1, 2, 9, 8},
                         {{1, 2, 2, 3}, Fill::flags}},
                        {{"block_q", 8}, {"block_k", 4}, {"feature_map", "relu"}, {"eps", 0.1}}},
                       {"large_blocks",
                        {{1, 1, 150, 5}, {1, 1, 80, 5}, {1, 1, 80, 5}, {{1, 1, 2, 2}, Fill::flags}},
                        {{"block_q", 100}, {"block_k", 70}, {"eps", 1e-5}}},
                       {"no_keys", {{1, 1, 3, 4}, {1, 1, 0, 4}, {1, 1, 0, 4}}}}});
  table.add({.name = "soft_topk",
             .summary = "sigmoid(x / tau + lambda) with row sum target; exact gradient",
             .inputs = {{"x"}},
             .attrs = {{"target", "", "sum of each row"}, {"tau", "0.1", "temperature"}},
             .outputs = {"m"},
             .call =
                 [](const OpArgs& a) {
                   return one(soft_topk(a["x"], a.attrs.real("target"), a.attrs.real("tau", 0.1)));
                 },
             .reference =
                 [](const OpArgs& a) {
                   return std::vector<Tensor>{NaiveAttention::soft_topk(
                       a.tensor("x"), a.attrs.real("target"), a.attrs.real("tau", 0.1), 0, 0)};
                 },
             .cases = {{"row", {{7}}, {{"target", 2.5}, {"tau", 0.5}}},
                       {"rows", {{2, 3, 9}}, {{"target", 1.0}, {"tau", 0.3}}, 1, true, 1e-4},
                       {"wide", {{3, 33}}, {{"target", 20.0}, {"tau", 2.0}}},
                       {"below_one", {{2, 12}}, {{"target", 0.4}, {"tau", 0.7}}, 1, true, 1e-4},
                       {"all", {{3, 5}}, {{"target", 5.0}}},
                       {"one", {{2, 1}}, {{"target", 0.25}}}}});
  table.add(
      {.name = "topk_block_map",
       .summary = "mask of the key blocks with the k largest pooled scores of each query block",
       .inputs = {{"q"}, {"k"}, {"v", true}, {"router_q", true}, {"router_k", true}},
       .attrs = {{"block_q", "", "queries of a block"},
                 {"block_k", "", "keys of a block"},
                 {"topk_ratio", "", "share of key blocks that are selected"},
                 {"smooth_k", "false", "subtract the token mean from k"}},
       .outputs = {"mask"},
       .call =
           [](const OpArgs& a) {
             return one(topk_block_map(
                 a.tensor("q"), a.tensor("k"), a.tensor("router_q"), a.tensor("router_k"),
                 a.attrs.integer("block_q"), a.attrs.integer("block_k"), a.attrs.real("topk_ratio"),
                 a.attrs.flag("smooth_k", false) ? SmoothK::yes : SmoothK::no));
           },
       .reference =
           [](const OpArgs& a) {
             // Smoothing changes all scores of a row alike: the mask is the same.
             const Tensor s =
                 NaiveAttention(a).scores(a.attrs.integer("block_q"), a.attrs.integer("block_k"),
                                          a.tensor("router_q"), a.tensor("router_k"));
             const auto count = static_cast<double>(s.dim(3));
             const double k = std::floor(a.attrs.real("topk_ratio") * count + 1e-6);
             return std::vector<Tensor>{
                 NaiveAttention::topk(s, static_cast<int64_t>(std::clamp(k, 1.0, count)), 0, 0)};
           },
       .cases = {{"plain",
                  {{1, 2, 33, 8}, {1, 2, 21, 8}},
                  {{"block_q", 8}, {"block_k", 4}, {"topk_ratio", 0.34}}},
                 {"router",
                  {{2, 1, 17, 5}, {2, 1, 40, 5}, CaseInput::none(), {5, 5}, {5, 5}},
                  {{"block_q", 5}, {"block_k", 3}, {"topk_ratio", 0.5}}},
                 {"at_least_one",
                  {{1, 1, 9, 4}, {1, 1, 9, 4}},
                  {{"block_q", 4}, {"block_k", 4}, {"topk_ratio", 0.01}}},
                 {"smooth",
                  {{1, 1, 9, 4}, {1, 1, 30, 4}},
                  {{"block_q", 4}, {"block_k", 4}, {"topk_ratio", 0.5}, {"smooth_k", true}}}},
       .differentiable = false});
  table.add(
      {.name = "int8_attention",
       .summary = "attention with an emulated INT8 forward and straight-through backward",
       .inputs = {{"q"}, {"k"}, {"v"}, {.name = "mask", .optional = true, .integer = true}},
       .attrs = {{"block_q", "", "queries of a scale"},
                 {"block_k", "", "keys of a scale, and of a step"},
                 {"qk", "int8", "product q k^T: int8 or none"},
                 {"pv", "none", "product p v: int8 or none"},
                 {"max_rel_l1", "0", "of golden files: bound of the relative L1 error"}},
       .outputs = {"o"},
       .call =
           [](const OpArgs& a) {
             const Quant quant{from_name<LowBit>(a.attrs.text("qk", "int8")),
                               from_name<LowBit>(a.attrs.text("pv", "none"))};
             return one(int8_attention(a["q"], a["k"], a["v"], a.tensor("mask"),
                                       a.attrs.integer("block_q"), a.attrs.integer("block_k"),
                                       quant));
           },
       .reference =
           [](const OpArgs& a) {
             const NaiveAttention n(a);
             const int64_t bq = a.attrs.integer("block_q"), bk = a.attrs.integer("block_k");
             std::vector<double> w;
             if (a.tensor("mask").defined()) w = n.token_weights(a.tensor("mask"), bq, bk);
             return std::vector<Tensor>{n.int8(w.empty() ? nullptr : &w, bq, bk,
                                               a.attrs.text("qk", "int8") == "int8",
                                               a.attrs.text("pv", "none") == "int8")};
           },
       .cases = {{"qk",
                  {{1, 2, 21, 8}, {1, 2, 21, 8}, {1, 2, 21, 8}},
                  {{"block_q", 8}, {"block_k", 5}},
                  1,
                  false,
                  2e-2},
                 {"qk_pv_mask",
                  {{1, 1, 33, 16}, {1, 1, 20, 16}, {1, 1, 20, 16}, {{1, 1, 3, 3}, Fill::flags}},
                  {{"block_q", 16}, {"block_k", 8}, {"pv", "int8"}},
                  1,
                  false,
                  2e-2},
                 {"big_blocks",
                  {{1, 1, 100, 8}, {1, 1, 140, 8}, {1, 1, 140, 8}},
                  {{"block_q", 128}, {"block_k", 100}, {"pv", "int8"}},
                  1,
                  false,
                  2e-2},
                 {"unrounded",
                  {{1, 1, 9, 8}, {1, 1, 13, 8}, {1, 1, 13, 8}},
                  {{"block_q", 4}, {"block_k", 4}, {"qk", "none"}}}}});
}

}  // namespace tenun
