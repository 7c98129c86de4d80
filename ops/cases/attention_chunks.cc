// Methods whose tokens attend in chunks and pooled levels: VSA, VMoBA, LLSA.
#include <algorithm>
#include <cmath>
#include <map>

#include "tenun/ops/attention/methods.h"
#include "tenun/ops/cases/attention_reference.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

using Matrix = NaiveAttention::Matrix;

// Means over `block` rows of (heads, n, d), each of those that are there.
Matrix means(const Matrix& x, int64_t heads, int64_t n, int64_t d, int64_t block) {
  const int64_t count = up(n, block);
  Matrix y(at(heads * count * d));
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < n; ++i) {
      const int64_t b = i / block, size = std::min(block, n - b * block);
      for (int64_t c = 0; c < d; ++c)
        y[at((h * count + b) * d + c)] += x[at((h * n + i) * d + c)] / static_cast<double>(size);
    }
  return y;
}

double dot(const Matrix& x, int64_t i, const Matrix& y, int64_t j, int64_t d) {
  double sum = 0;
  for (int64_t c = 0; c < d; ++c) sum += x[at(i * d + c)] * y[at(j * d + c)];
  return sum;
}

// ---- VSA

AttentionSpec vsa_spec(const OpArgs& a) {
  AttentionSpec s;
  s.method = AttentionMethod::vsa;
  s.block_q = s.block_k = a.attrs.integer("block", 64);
  s.topk = a.attrs.integer("topk");
  s.prefix = a.attrs.integer("prefix", 0);
  return s;
}

std::vector<Tensor> vsa_reference(const OpArgs& args) {
  const NaiveAttention n(args);
  const AttentionSpec s = vsa_spec(args);
  const Tensor scores = n.scores(s.block_k, s.block_k, {}, {});
  const int64_t t = scores.dim(3), head = up(s.prefix, s.block_k);
  const Tensor mask = NaiveAttention::topk(scores, std::clamp<int64_t>(s.topk, 1, t), head, head);
  const auto w = n.token_weights(mask, s.block_k, s.block_k);
  auto o = doubles(n.sparse(&w, {}).o);
  const auto a = doubles(scores);
  const auto v = means(n.v, n.heads, n.nk, n.d, s.block_k);
  const auto gate = doubles(args.tensor("gate_c"));
  for (int64_t h = 0; h < n.heads; ++h)
    for (int64_t i = 0; i < n.nq; ++i) {
      const int64_t row = (h * t + i / s.block_k) * t;
      double sum = 0;
      for (int64_t j = 0; j < t; ++j) sum += std::exp(a[at(row + j)]);
      for (int64_t j = 0; j < t; ++j)
        for (int64_t c = 0; c < n.d; ++c) {
          const int64_t e = (h * n.nq + i) * n.d + c;
          o[at(e)] += (gate.empty() ? 1 : gate[at(e)]) * std::exp(a[at(row + j)]) / sum *
                      v[at((h * t + j) * n.d + c)];
        }
    }
  return {f64_tensor(o, n.q_shape)};
}

std::vector<CaseInput> vsa_inputs(int64_t b, int64_t h, int64_t n, int64_t d) {
  auto in = qkv(b, h, n, n, d);
  in.push_back({b, h, n, d});
  return in;
}

// ---- VMoBA

AttentionSpec vmoba_spec(const OpArgs& a) {
  AttentionSpec s;
  s.method = AttentionMethod::vmoba;
  s.block_q = s.block_k = a.attrs.integer("chunk", 64);
  s.selector = from_name<Selector>(a.attrs.text("mode", "threshold"));
  s.scope = from_name<GateScope>(a.attrs.text("scope", "query_head"));
  s.mass = a.attrs.real("tau", 0.25), s.topk = a.attrs.integer("topk", 1);
  s.prefix = a.attrs.integer("prefix", 0);
  return s;
}

std::vector<Tensor> vmoba_reference(const OpArgs& args) {
  const NaiveAttention n(args);
  const AttentionSpec s = vmoba_spec(args);
  const int64_t chunks = up(n.nk, s.block_k), rows = s.scope == GateScope::query_head ? 1 : n.nq;
  const auto kappa = means(n.k, n.heads, n.nk, n.d, s.block_k);
  Matrix sel(at(n.heads * n.nq * chunks)), g(sel.size());
  for (int64_t r = 0; r < n.heads * n.nq; ++r)
    for (int64_t c = 0; c < chunks; ++c)
      g[at(r * chunks + c)] = dot(n.q, r, kappa, r / n.nq * chunks + c, n.d);
  const auto own = [&](int64_t p) { return p / chunks % n.nq / s.block_k == p % chunks; };
  for (int64_t first = 0; first < n.heads * n.nq * chunks; first += rows * chunks) {
    const int64_t last = first + rows * chunks;
    const auto [low, high] = std::minmax_element(g.begin() + first, g.begin() + last);
    const double base = *low, range = *high - *low > 1e-6 ? *high - *low : 1;
    std::multimap<double, int64_t> others;  // best first
    double total = 0, mine = 0;
    for (int64_t p = first; p < last; ++p) {
      const double x = (g[at(p)] - base) / range;
      total += x;
      if (own(p)) sel[at(p)] = 1, mine += x;
      if (!own(p)) others.emplace(-x, p);
    }
    const double need = std::max(0.0, s.mass - mine / (total + 1e-6));
    double sum = 0;
    int64_t left = (s.topk - 1) * rows;
    for (const auto& [x, p] : others) {
      if (s.selector == Selector::topk && left-- <= 0) break;
      sel[at(p)] = 1;
      sum -= x;
      if (s.selector == Selector::threshold && sum / (total + 1e-6) >= need) break;
    }
  }
  Matrix w(at(n.heads * n.nq * n.nk));
  for (int64_t r = 0; r < n.heads * n.nq; ++r) {
    for (int64_t c = 0; c < chunks; ++c)
      if (r % n.nq < s.prefix || c * s.block_k < s.prefix) sel[at(r * chunks + c)] = 1;
    for (int64_t j = 0; j < n.nk; ++j) w[at(r * n.nk + j)] = sel[at(r * chunks + j / s.block_k)];
  }
  return {n.sparse(&w, {}).o, f64_tensor(sel, {n.q_shape[0], n.q_shape[1], n.nq, chunks})};
}

// ---- LLSA

AttentionSpec llsa_spec(const OpArgs& a) {
  AttentionSpec s;
  s.method = AttentionMethod::llsa;
  s.block_q = s.block_k = a.attrs.integer("block", 16);
  s.levels = a.attrs.integer("levels", 1), s.topk = a.attrs.integer("topk", 8);
  s.enrichment = a.attrs.flag("enrichment", true);
  s.prefix = a.attrs.integer("prefix", 0);
  return s;
}

struct PooledLevel {
  Matrix q, k, v;
  int64_t n, width;
};

std::vector<Tensor> llsa_reference(const OpArgs& args) {
  const NaiveAttention naive(args);
  const AttentionSpec s = llsa_spec(args);
  const int64_t heads = naive.heads, d = naive.d, b = s.block_k, n = naive.nq;
  std::vector<PooledLevel> levels{{naive.q, naive.k, naive.v, n, 1}};
  for (int64_t l = 0; l < s.levels; ++l) {
    const PooledLevel& x = levels.back();
    levels.push_back({means(x.q, heads, x.n, d, b), means(x.k, heads, x.n, d, b),
                      means(x.v, heads, x.n, d, b), up(x.n, b), x.width * b});
  }
  Matrix o(at(heads * n * d));
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < n; ++i) {
      std::vector<int64_t> kept;
      double total = 0;
      const auto attend = [&](size_t l, int64_t j) {
        const PooledLevel& x = levels[l];
        const auto tokens = static_cast<double>(std::min(x.width, n - j * x.width));
        const double p = tokens * std::exp(dot(naive.q, h * n + i, x.k, h * x.n + j, d) /
                                           std::sqrt(static_cast<double>(d)));
        total += p;
        for (int64_t c = 0; c < d; ++c)
          o[at((h * n + i) * d + c)] += p * x.v[at((h * x.n + j) * d + c)];
      };
      for (size_t l = levels.size() - 1; l >= 1; --l) {
        const PooledLevel& x = levels[l];
        std::vector<int64_t> seen;
        if (l == levels.size() - 1)
          for (int64_t j = 0; j < x.n; ++j) seen.push_back(j);
        for (const int64_t p : kept)
          for (int64_t j = p * b; j < std::min((p + 1) * b, x.n); ++j) seen.push_back(j);
        for (const int64_t j : seen)
          if (s.enrichment) attend(l, j);
        std::stable_sort(seen.begin(), seen.end(), [&](int64_t u, int64_t w) {
          const int64_t mine = h * x.n + i / x.width;
          return dot(x.q, mine, x.k, h * x.n + u, d) > dot(x.q, mine, x.k, h * x.n + w, d);
        });
        seen.resize(std::min(seen.size(), at(std::min(s.topk, x.n))));
        std::sort(seen.begin(), seen.end());
        kept = seen;
      }
      const int64_t dense = up(s.prefix, b);
      for (int64_t j = 0; j < levels[1].n; ++j)
        if (i / b < dense || j < dense || std::binary_search(kept.begin(), kept.end(), j))
          for (int64_t t = j * b; t < std::min((j + 1) * b, n); ++t) attend(0, t);
      for (int64_t c = 0; c < d; ++c) o[at((h * n + i) * d + c)] /= total;
    }
  return {f64_tensor(o, naive.q_shape)};
}

}  // namespace

void add_attention_chunks_ops(OpTable& table) {
  const AttrDef prefix{"prefix", "0", "leading tokens with dense attention"};
  table.add(
      {.name = "vsa_attention",
       .summary = "gated attention between block means, and exact attention over the best (VSA)",
       .inputs = {{"q"}, {"k"}, {"v"}, {"gate_c", true}},
       .attrs = {{"block", "64", "tokens of a block"}, {"topk", "", "key blocks of a row"}, prefix},
       .outputs = {"o"},
       .call =
           [](const OpArgs& a) {
             AttentionParams p;
             p.gate_c = a["gate_c"];
             return one(vsa_attention(a["q"], a["k"], a["v"], vsa_spec(a), p).o);
           },
       .reference = vsa_reference,
       .cases = {
           {"one", vsa_inputs(1, 1, 1, 8), {{"topk", 1}}},
           {"one_block", vsa_inputs(1, 2, 7, 72), {{"topk", 1}}},
           {"tail", vsa_inputs(2, 1, 65, 8), {{"topk", 3}, {"block", 8}}},
           {"all", vsa_inputs(1, 1, 30, 8), {{"topk", 9}, {"block", 16}}},
           {"n200_d64", vsa_inputs(1, 1, 200, 64), {{"topk", 2}, {"block", 64}}},
           {"no_gate", qkv(1, 2, 20, 20, 8), {{"topk", 2}, {"block", 8}}},
           {"prefix", vsa_inputs(1, 1, 33, 8), {{"topk", 1}, {"block", 8}, {"prefix", 5}}},
       }});
  table.add(
      {.name = "vmoba_attention",
       .summary = "every token over its own chunk and those that its gates choose (VMoBA)",
       .inputs = {{"q"}, {"k"}, {"v"}},
       .attrs = {{"chunk", "64", "tokens of a chunk"},
                 {"mode", "threshold", "threshold or topk"},
                 {"tau", "0.25", "threshold: share of the gates' mass"},
                 {"topk", "1", "topk: chunks of a token, its own included"},
                 {"scope", "query_head", "query_head or head_global"},
                 prefix},
       .outputs = {"o", "selection"},
       .call =
           [](const OpArgs& a) {
             const AttentionOutput r = vmoba_attention(a["q"], a["k"], a["v"], vmoba_spec(a));
             return std::vector<Var>{r.o, Var(r.mask)};
           },
       .reference = vmoba_reference,
       .cases = {
           {"one", qkv(1, 1, 1, 1, 8), {}},
           {"one_chunk", qkv(1, 2, 7, 7, 80), {{"chunk", 16}}},
           {"threshold", qkv(1, 2, 65, 65, 8), {{"chunk", 8}, {"tau", 0.4}}},
           {"threshold_global",
            qkv(2, 1, 37, 37, 8),
            {{"chunk", 8}, {"tau", 0.5}, {"scope", "head_global"}}},
           {"topk_d64", qkv(1, 1, 200, 200, 64), {{"chunk", 24}, {"mode", "topk"}, {"topk", 3}}},
           {"topk_global",
            qkv(1, 2, 40, 40, 8),
            {{"chunk", 8}, {"mode", "topk"}, {"topk", 2}, {"scope", "head_global"}}},
           {"topk_all", qkv(1, 1, 20, 20, 8), {{"chunk", 8}, {"mode", "topk"}, {"topk", 9}}},
           // More panels than are gathered at a time.
           {"many_chunks", qkv(1, 1, 150, 150, 4), {{"chunk", 2}, {"mode", "topk"}, {"topk", 3}}},
           {"own_only", qkv(1, 9, 20, 20, 4), {{"chunk", 8}, {"mode", "topk"}}},
           {"prefix",
            qkv(1, 1, 33, 33, 8),
            {{"chunk", 4}, {"mode", "topk"}, {"topk", 2}, {"prefix", 5}}},
       }});
  table.add(
      {.name = "llsa_attention",
       .summary = "coarse-to-fine selection; coarse keys are attended as well (LLSA)",
       .inputs = {{"q"}, {"k"}, {"v"}},
       .attrs = {{"block", "16", "children of a pooled token"},
                 {"levels", "1", "poolings"},
                 {"topk", "8", "pooled keys that a pooled query keeps"},
                 {"enrichment", "true", "attend to the coarse keys, too"},
                 prefix},
       .outputs = {"o"},
       .call =
           [](const OpArgs& a) {
             return one(llsa_attention(a["q"], a["k"], a["v"], llsa_spec(a)).o);
           },
       .reference = llsa_reference,
       .cases = {
           {"one", qkv(1, 1, 1, 1, 8), {}},
           {"one_block", qkv(1, 2, 7, 7, 128), {{"block", 8}}},
           {"one_level", qkv(1, 2, 48, 48, 8), {{"block", 8}, {"topk", 2}}},
           {"tails", qkv(1, 1, 65, 65, 8), {{"block", 4}, {"topk", 2}, {"levels", 2}}},
           {"lone_tails", qkv(2, 1, 17, 17, 8), {{"block", 4}, {"topk", 2}, {"levels", 2}}},
           {"three_levels_d72", qkv(1, 1, 50, 50, 72), {{"block", 3}, {"topk", 2}, {"levels", 3}}},
           {"no_enrichment",
            qkv(1, 1, 200, 200, 8),
            {{"block", 8}, {"topk", 3}, {"levels", 2}, {"enrichment", false}}},
           {"too_many_levels", qkv(1, 1, 10, 10, 8), {{"block", 4}, {"topk", 1}, {"levels", 5}}},
           {"prefix",
            qkv(1, 1, 33, 33, 8),
            {{"block", 4}, {"topk", 2}, {"levels", 2}, {"prefix", 5}}},
       }});
}

}  // namespace tenun
