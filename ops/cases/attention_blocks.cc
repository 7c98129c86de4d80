// Methods that choose blocks and attend to them exactly: SpargeAttention, any selector alone,
// windows.
#include <algorithm>
#include <cmath>

#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/cases/attention_reference.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

using Matrix = NaiveAttention::Matrix;

AttentionSpec sparge_spec(const OpArgs& a) {
  AttentionSpec s;
  s.method = AttentionMethod::sparge;
  s.selector = from_name<Selector>(a.attrs.text("mode", "topk"));
  s.block_q = a.attrs.integer("block_q", 128), s.block_k = a.attrs.integer("block_k", 64);
  s.mass = a.attrs.real("tau_cdf", 0.98), s.topk_ratio = a.attrs.real("ratio", 0.5);
  s.theta = a.attrs.real("theta", -0.1);
  s.smooth_k = a.attrs.flag("smooth_k", true);
  s.prefix = a.attrs.integer("prefix", 0);
  return s;
}

// Mean of the Gram matrix of the unit tokens of every block.
Matrix similarities(const Matrix& x, int64_t heads, int64_t n, int64_t d, int64_t block) {
  const int64_t count = up(n, block);
  Matrix sim(at(heads * count));
  for (int64_t i = 0; i < heads * count; ++i) {
    const int64_t first = i / count * n + i % count * block,
                  last = i / count * n + std::min(i % count * block + block, n);
    for (int64_t a = first; a < last; ++a)
      for (int64_t b = first; b < last; ++b) {
        double ab = 0, aa = 0, bb = 0;
        for (int64_t c = 0; c < d; ++c) {
          const double u = x[at(a * d + c)], v = x[at(b * d + c)];
          ab += u * v, aa += u * u, bb += v * v;
        }
        if (aa > 0 && bb > 0)
          sim[at(i)] +=
              ab / std::sqrt(aa * bb) / static_cast<double>((last - first) * (last - first));
      }
  }
  return sim;
}

std::vector<Tensor> sparge_reference(const OpArgs& args) {
  NaiveAttention n(args);
  const AttentionSpec s = sparge_spec(args);
  const Matrix raw = n.k;
  for (int64_t h = 0; s.smooth_k && h < n.heads; ++h)
    for (int64_t c = 0; c < n.d; ++c) {
      double mean = 0;
      for (int64_t j = 0; j < n.nk; ++j)
        mean += raw[at((h * n.nk + j) * n.d + c)] / static_cast<double>(n.nk);
      for (int64_t j = 0; j < n.nk; ++j) n.k[at((h * n.nk + j) * n.d + c)] -= mean;
    }
  const Tensor scores = n.scores(s.block_q, s.block_k, {}, {});
  const auto rows = similarities(n.q, n.heads, n.nq, n.d, s.block_q),
             cols = similarities(n.k, n.heads, n.nk, n.d, s.block_k);
  n.k = raw;
  const int64_t tm = scores.dim(2), tn = scores.dim(3);
  const int64_t head_rows = up(s.prefix, s.block_q), head_cols = up(s.prefix, s.block_k);
  auto x = doubles(scores);
  for (int64_t i = 0; i < scores.numel(); ++i)
    if (cols[at(i / tn / tm * tn + i % tn)] <= s.theta) x[at(i)] = -HUGE_VAL;
  const auto k = static_cast<int64_t>(std::floor(s.topk_ratio * static_cast<double>(tn) + 1e-6));
  Matrix m = doubles(NaiveAttention::topk(f64_tensor(x, scores.shape()), std::max<int64_t>(k, 1),
                                          head_rows, head_cols));
  for (int64_t r = 0; r < scores.numel() / tn; ++r) {
    if (s.selector == Selector::cdf) {
      const auto flags =
          by_mass(Matrix(x.begin() + r * tn, x.begin() + (r + 1) * tn), s.mass, false);
      for (int64_t j = 0; j < tn; ++j) m[at(r * tn + j)] = flags[at(j)];
    }
    for (int64_t j = 0; j < tn; ++j)
      if (rows[at(r)] <= s.theta || cols[at(r / tm * tn + j)] <= s.theta) m[at(r * tn + j)] = 1;
  }
  const Tensor mask = f64_tensor(m, scores.shape());
  const auto w = n.token_weights(mask, s.block_q, s.block_k);
  return {n.sparse(&w, {}).o, mask};
}

// ---- any selector; windows

AttentionSpec sparse_spec(const OpArgs& a) {
  AttentionSpec s;
  s.method = AttentionMethod::sparse;
  s.selector = from_name<Selector>(a.attrs.text("selector", "topk"));
  s.block_q = a.attrs.integer("block_q", 128), s.block_k = a.attrs.integer("block_k", 64);
  s.topk_ratio = a.attrs.real("topk_ratio", 0.1), s.mass = a.attrs.real("mass", 0.9);
  s.prefix = a.attrs.integer("prefix", 0);
  s.key = RandomKey::derive(static_cast<uint64_t>(a.attrs.integer("seed", 0)), Purpose::user);
  return s;
}

std::vector<Tensor> sparse_reference(const OpArgs& args) {
  const NaiveAttention n(args);
  const AttentionSpec s = sparse_spec(args);
  const Tensor scores = n.scores(s.block_q, s.block_k, {}, {});
  const int64_t tn = scores.dim(3), rows = up(s.prefix, s.block_q), cols = up(s.prefix, s.block_k);
  const auto k = static_cast<int64_t>(std::floor(s.topk_ratio * static_cast<double>(tn) + 1e-6));
  auto x = doubles(scores);
  if (s.selector == Selector::random)
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(s.key.uniform(i));
  Matrix m = doubles(
      NaiveAttention::topk(f64_tensor(x, scores.shape()), std::max<int64_t>(k, 1), rows, cols));
  const bool both = s.selector == Selector::topk_top_p;
  if (both || s.selector == Selector::top_p || s.selector == Selector::cdf)
    for (int64_t r = 0; r < scores.numel() / tn; ++r) {
      if (r % scores.dim(2) < rows) continue;
      const auto flags = by_mass(Matrix(x.begin() + r * tn + cols, x.begin() + (r + 1) * tn),
                                 s.mass, s.selector != Selector::cdf);
      for (int64_t j = cols; j < tn; ++j)
        m[at(r * tn + j)] = both && m[at(r * tn + j)] != 0 ? 1 : flags[at(j - cols)];
    }
  const Tensor mask = f64_tensor(m, scores.shape());
  const auto w = n.token_weights(mask, s.block_q, s.block_k);
  return {n.sparse(&w, {}).o, mask};
}

AttentionSpec window_spec(const OpArgs& a) {
  AttentionSpec s;
  s.method = AttentionMethod::window;
  s.block_q = a.attrs.integer("block_q", 64), s.block_k = a.attrs.integer("block_k", 64);
  s.radius = a.attrs.integer("radius", 1), s.prefix = a.attrs.integer("prefix", 0);
  s.grid = {a.attrs.integer("tile_tokens", 0), a.attrs.integer("tile_columns", 0)};
  return s;
}

// Token by token: two blocks see each other if any of their tokens do.
std::vector<Tensor> window_reference(const OpArgs& args) {
  const NaiveAttention n(args);
  const AttentionSpec s = window_spec(args);
  const int64_t size = s.grid.tokens > 0 ? s.grid.tokens : s.block_k;
  const int64_t columns = s.grid.tokens > 0 ? s.grid.columns : n.nk;
  const int64_t tm = up(n.nq, s.block_q), tn = up(n.nk, s.block_k);
  Matrix m(at(n.heads * tm * tn));
  for (int64_t i = 0; i < n.nq; ++i)
    for (int64_t j = 0; j < n.nk; ++j) {
      const int64_t a = (i - s.prefix) / size, b = (j - s.prefix) / size;
      const bool prefix =
          i / s.block_q < up(s.prefix, s.block_q) || j / s.block_k < up(s.prefix, s.block_k);
      const bool near = i >= s.prefix && j >= s.prefix &&
                        std::abs(a / columns - b / columns) <= s.radius &&
                        std::abs(a % columns - b % columns) <= s.radius;
      for (int64_t h = 0; h < n.heads && (prefix || near); ++h)
        m[at((h * tm + i / s.block_q) * tn + j / s.block_k)] = 1;
    }
  const Tensor mask = f64_tensor(m, {n.q_shape[0], n.q_shape[1], tm, tn});
  const auto w = n.token_weights(mask, s.block_q, s.block_k);
  return {n.sparse(&w, {}).o, mask};
}

std::vector<Var> with_mask(const AttentionOutput& r) { return {r.o, Var(r.mask)}; }

}  // namespace

void add_attention_blocks_ops(OpTable& table) {
  const AttrDef block_q{"block_q", "64", "queries of a block"},
      block_k{"block_k", "64", "keys of a block"},
      prefix{"prefix", "0", "leading tokens with dense attention"};
  table.add({.name = "sparge_attention",
             .summary = "block selection by pooled scores and self-similarity (SpargeAttention)",
             .inputs = {{"q"}, {"k"}, {"v"}},
             .attrs = {block_q,
                       block_k,
                       {"mode", "topk", "topk or cdf"},
                       {"ratio", "0.5", "topk: share of key blocks"},
                       {"tau_cdf", "0.98", "cdf: share of the row's softmax"},
                       {"theta", "-0.1", "blocks less similar to themselves are kept whole"},
                       {"smooth_k", "true", "subtract the token mean from k for the selection"},
                       prefix},
             .outputs = {"o", "mask"},
             .call =
                 [](const OpArgs& a) {
                   return with_mask(sparge_attention(a["q"], a["k"], a["v"], sparge_spec(a)));
                 },
             .reference = sparge_reference,
             .cases = {
                 {"one", qkv(1, 1, 1, 1, 128), {{"mode", "cdf"}}},
                 {"topk_d80",
                  qkv(1, 1, 65, 65, 80),
                  {{"ratio", 0.3}, {"block_q", 16}, {"block_k", 8}, {"smooth_k", false}}},
                 {"cdf",
                  qkv(1, 2, 33, 50, 8),
                  {{"mode", "cdf"}, {"tau_cdf", 0.6}, {"block_q", 8}, {"block_k", 8}}},
                 {"theta",
                  qkv(2, 1, 40, 40, 8),
                  {{"mode", "cdf"},
                   {"tau_cdf", 0.4},
                   {"theta", 0.2},
                   {"block_q", 4},
                   {"block_k", 4},
                   {"smooth_k", false}}},
                 {"nothing_similar",
                  qkv(1, 1, 20, 20, 4),
                  {{"theta", 1.5}, {"block_q", 8}, {"block_k", 8}}},
                 {"prefix",
                  qkv(1, 1, 30, 30, 8),
                  {{"ratio", 0.2}, {"block_q", 8}, {"block_k", 4}, {"prefix", 3}}},
             }});
  table.add({.name = "top_p_block_map",
             .summary = "mask of the best blocks of each row by their share of its softmax",
             .inputs = {{"scores"}},
             .attrs = {{"p", "", "the share"},
                       {"convention", "inclusive", "inclusive: sum >= p; count: prefix sums <= p"}},
             .outputs = {"mask"},
             .call =
                 [](const OpArgs& a) {
                   const std::string c = a.attrs.text("convention", "inclusive");
                   check(c == "inclusive" || c == "count", "top_p_block_map",
                         "convention must be inclusive or count, got '{}'", c);
                   return one(top_p_block_map(a.tensor("scores"), a.attrs.real("p"),
                                              c == "count" ? Selector::cdf : Selector::top_p));
                 },
             .reference =
                 [](const OpArgs& a) {
                   const auto x = doubles(a.tensor("scores"));
                   const int64_t t = a.tensor("scores").dim(-1);
                   Matrix m;
                   for (auto row = x.begin(); row != x.end(); row += t)
                     for (const int f :
                          by_mass(Matrix(row, row + t), a.attrs.real("p"),
                                  a.attrs.text("convention", "inclusive") == "inclusive"))
                       m.push_back(f);
                   return std::vector<Tensor>{f64_tensor(m, a.tensor("scores").shape())};
                 },
             .cases = {{"inclusive", {{1, 2, 5, 9}}, {{"p", 0.7}}},
                       {"count", {{1, 2, 5, 9}}, {{"p", 0.7}, {"convention", "count"}}},
                       {"little", {{3, 7}}, {{"p", 0.01}, {"convention", "count"}}},
                       {"none", {{3, 7}}, {{"p", 0.0}}},
                       {"all", {{3, 7}}, {{"p", 2.0}}}},
             .differentiable = false});
  table.add(
      {.name = "sparse_attention",
       .summary = "exact attention over the blocks that a selector finds in pooled scores",
       .inputs = {{"q"}, {"k"}, {"v"}},
       .attrs = {block_q,
                 block_k,
                 {"selector", "topk", "topk, top_p, topk_top_p, cdf or random"},
                 {"topk_ratio", "0.1", "topk, topk_top_p and random: share of key blocks"},
                 {"mass", "0.9", "top_p, topk_top_p and cdf: share of the row's softmax"},
                 {"seed", "0", "of random"},
                 prefix},
       .outputs = {"o", "mask"},
       .call =
           [](const OpArgs& a) {
             return with_mask(sparse_attention(a["q"], a["k"], a["v"], sparse_spec(a), {}));
           },
       .reference = sparse_reference,
       .cases = {
           {"topk_d128",
            qkv(1, 1, 65, 40, 128),
            {{"topk_ratio", 0.4}, {"block_q", 16}, {"block_k", 8}}},
           {"top_p",
            qkv(1, 2, 33, 33, 8),
            {{"selector", "top_p"}, {"mass", 0.5}, {"block_q", 8}, {"block_k", 4}}},
           {"topk_top_p",
            qkv(1, 2, 33, 33, 8),
            {{"selector", "topk_top_p"},
             {"topk_ratio", 0.3},
             {"mass", 0.4},
             {"block_q", 8},
             {"block_k", 4}}},
           {"topk_top_p_prefix",
            qkv(1, 1, 40, 52, 16),
            {{"selector", "topk_top_p"},
             {"topk_ratio", 0.1},
             {"mass", 0.3},
             {"block_q", 8},
             {"block_k", 4},
             {"prefix", 6}}},
           {"cdf_prefix",
            qkv(1, 1, 40, 40, 8),
            {{"selector", "cdf"}, {"mass", 0.5}, {"block_q", 8}, {"block_k", 4}, {"prefix", 6}}},
           {"random",
            qkv(1, 2, 29, 29, 8),
            {{"selector", "random"},
             {"topk_ratio", 0.3},
             {"seed", 5},
             {"block_q", 4},
             {"block_k", 4}}},
       }});
  table.add({.name = "window_attention",
             .summary = "exact attention to the tiles at most `radius` away",
             .inputs = {{"q"}, {"k"}, {"v"}},
             .attrs = {block_q,
                       block_k,
                       {"radius", "1", "tiles to each side"},
                       {"tile_tokens", "0", "tokens of an image tile; 0: along the sequence"},
                       {"tile_columns", "0", "tiles in a row of the image"},
                       prefix},
             .outputs = {"o", "mask"},
             .call =
                 [](const OpArgs& a) {
                   return with_mask(window_attention(a["q"], a["k"], a["v"], window_spec(a)));
                 },
             .reference = window_reference,
             .cases = {
                 {"one", qkv(1, 1, 1, 1, 64), {}},
                 {"line", qkv(1, 2, 65, 65, 8), {{"block_q", 16}, {"block_k", 8}}},
                 {"own", qkv(1, 1, 40, 40, 8), {{"block_q", 8}, {"block_k", 8}, {"radius", 0}}},
                 {"tiles",
                  qkv(1, 1, 64, 64, 8),
                  {{"block_q", 8},
                   {"block_k", 4},
                   {"radius", 1},
                   {"tile_tokens", 4},
                   {"tile_columns", 4}}},
                 {"tiles_prefix",
                  qkv(1, 2, 67, 67, 8),
                  {{"block_q", 8},
                   {"block_k", 8},
                   {"tile_tokens", 4},
                   {"tile_columns", 4},
                   {"prefix", 3}}},
             }});
}

}  // namespace tenun
