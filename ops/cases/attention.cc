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
}

}  // namespace tenun
