#include <algorithm>
#include <cmath>

#include "tenun/ops/attention/methods.h"
#include "tenun/ops/cases/attention_reference.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {
namespace {

const std::vector<AttrDef> kAttrs = {
    {"block_q", "128", "queries of a block"},
    {"block_k", "64", "keys of a block"},
    {"topk_ratio", "", "share of key blocks with exact attention"},
    {"mode", "hard", "hard or soft (training of the router)"},
    {"tau", "0.1", "temperature of SoftTop-k"},
    {"feature_map", "softmax", "softmax, elu or relu"},
    {"eps", "0", "added to the linear branch's denominator"},
    {"linear_range", "complement", "complement or global"},
    {"phi_on_smoothed_k", "false", "the feature map acts on k minus its token mean"},
    {"prefix", "0", "leading tokens with dense attention"},
    {"quant.qk", "none", "int8: low-bit q k^T in the forward pass"},
    {"quant.pv", "none", "int8: low-bit p v in the forward pass"},
    {"max_rel_l1", "0", "of golden files: bound of the relative L1 error"},
};

AttentionSpec spec_of(const OpArgs& a, bool soft_only = false) {
  AttentionSpec s;
  s.method = AttentionMethod::sla2;
  s.block_q = a.attrs.integer("block_q", 128), s.block_k = a.attrs.integer("block_k", 64);
  s.topk_ratio = a.attrs.real("topk_ratio");
  s.mode = from_name<RouterMode>(a.attrs.text("mode", soft_only ? "soft" : "hard"));
  s.tau = a.attrs.real("tau", 0.1);
  s.feature_map = from_name<FeatureMap>(a.attrs.text("feature_map", "softmax"));
  s.eps = a.attrs.real("eps", 0);
  s.linear_range = from_name<LinearRange>(a.attrs.text("linear_range", "complement"));
  s.phi_on_smoothed_k = a.attrs.flag("phi_on_smoothed_k", false);
  s.prefix = a.attrs.integer("prefix", 0);
  s.quant = {from_name<LowBit>(a.attrs.text("quant.qk", "none")),
             from_name<LowBit>(a.attrs.text("quant.pv", "none"))};
  return s;
}

AttentionParams params_of(const OpArgs& a) {
  AttentionParams p;
  p.router_q = a["router_q"], p.router_k = a["router_k"], p.alpha = a["alpha"];
  p.proj_l = a["proj_l"];
  return p;
}

// a o_s + (1 - a) o_l, where a = 1 for rows without a complement.
Tensor mixed(const NaiveAttention& n, const Tensor& o_s, const Tensor& o_l, const Tensor& alpha,
             const Tensor& mask, int64_t block_q) {
  const auto s = doubles(o_s), l = doubles(o_l), logit = doubles(alpha), m = doubles(mask);
  const int64_t h = n.q_shape[1], tm = (n.nq + block_q - 1) / block_q;
  const int64_t tn = mask.defined() ? mask.dim(3) : 0;
  std::vector<double> o(s.size());
  for (size_t i = 0; i < o.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / n.d, head = row / n.nq % h;
    const int64_t block = row % n.nq / block_q;
    bool full = tn > 0;
    for (int64_t j = 0; j < tn; ++j)
      full = full && m[static_cast<size_t>((row / n.nq * tm + block) * tn + j)] == 1;
    const auto at = static_cast<size_t>(alpha.rank() == 1 ? head : head * tm + block);
    const double a = full ? 1 : 1 / (1 + std::exp(-logit[at]));
    o[i] = a * s[i] + (1 - a) * l[i];
  }
  return f64_tensor(o, n.q_shape);
}

std::vector<Tensor> sla2_reference(const OpArgs& args, const AttentionSpec& s) {
  const NaiveAttention n(args);
  const Tensor scores =
      n.scores(s.block_q, s.block_k, args.tensor("router_q"), args.tensor("router_k"));
  const auto count = static_cast<double>(scores.dim(3));
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t rows = up(s.prefix, s.block_q), cols = up(s.prefix, s.block_k);
  Tensor m;
  if (s.mode == RouterMode::hard) {
    const double k = std::clamp(std::floor(s.topk_ratio * count + 1e-6), 1.0, count);
    m = NaiveAttention::topk(scores, static_cast<int64_t>(k), rows, cols);
  } else {
    m = NaiveAttention::soft_topk(scores, std::clamp(s.topk_ratio * count, 1.0, count), s.tau, rows,
                                  cols);
  }
  auto w = n.token_weights(m, s.block_q, s.block_k);
  const Tensor o_s = s.quant.any() ? n.int8(&w, s.block_q, s.block_k, s.quant.qk == LowBit::int8,
                                            s.quant.pv == LowBit::int8)
                                   : n.sparse(&w, {}).o;
  for (double& x : w) x = s.linear_range == LinearRange::global ? 1 : 1 - x;
  const Tensor o_l = n.linear(&w, std::string(name(s.feature_map)), s.eps, s.phi_on_smoothed_k);
  const Tensor o = mixed(n, o_s, o_l, args.tensor("alpha"), m, s.block_q);
  return {o, s.mode == RouterMode::hard ? m : Tensor()};
}

std::vector<Tensor> router_loss_reference(const OpArgs& args) {
  const auto o = doubles(sla2_reference(args, spec_of(args, true))[0]);
  const auto full = doubles(NaiveAttention(args).sparse(nullptr, {}).o);
  double sum = 0;
  for (size_t i = 0; i < o.size(); ++i) sum += (o[i] - full[i]) * (o[i] - full[i]);
  return {f64_tensor({sum / static_cast<double>(o.size())}, {})};
}

std::vector<Tensor> pixelgen_reference(const OpArgs& args) {
  const NaiveAttention n(args);
  const int64_t cell = args.attrs.integer("compression", 8);
  const Tensor scores =
      n.scores(cell, cell, args.tensor("router_q"), args.tensor("router_k"), true);
  const int64_t cells = scores.dim(3);
  const double target = args.attrs.real("topk_ratio") * static_cast<double>(cells);
  const bool soft = args.attrs.text("mode", "hard") == "soft";
  Tensor m;
  if (!soft) {
    m = NaiveAttention::topk(scores, std::max<int64_t>(1, static_cast<int64_t>(target)), 0, 0);
  } else {
    auto r = doubles(scores);
    const double tau = args.attrs.real("tau", 1);
    for (size_t row = 0; row < r.size(); row += static_cast<size_t>(cells)) {
      const auto begin = r.begin() + static_cast<std::ptrdiff_t>(row), end = begin + cells;
      double sum = 0, lo = -20, hi = 20;
      for (auto x = begin; x != end; ++x) sum += * x = std::exp(*x);
      for (auto x = begin; x != end; ++x) *x /= sum;
      for (int64_t step = 0; step < args.attrs.integer("iters", 8); ++step) {
        const double mid = (lo + hi) / 2;
        double total = 0;
        for (auto x = begin; x != end; ++x) total += 1 / (1 + std::exp(-(*x / tau + mid)));
        if (total < target) lo = mid;
        if (total > target) hi = mid;
      }
      for (auto x = begin; x != end; ++x) *x = 1 / (1 + std::exp(-(*x / tau + hi)));
    }
    m = f64_tensor(r, scores.shape());
  }
  // Softmax over all keys, times the mask, divided by (row sum + 1e-8).
  const auto w = n.token_weights(m, cell, cell);
  const auto all = n.sparse(nullptr, {}), chosen = n.sparse(&w, {});
  auto o_s = doubles(chosen.o);
  const auto l = doubles(chosen.lse), full = doubles(all.lse);
  for (size_t i = 0; i < o_s.size(); ++i) {
    const size_t row = i / static_cast<size_t>(n.d);
    const double share = std::exp(l[row] - full[row]);
    o_s[i] *= share / (share + 1e-8);
  }
  const auto o_l = doubles(
      n.linear(nullptr, args.attrs.text("feature_map", "softmax"), args.attrs.real("eps", 1e-8)));
  const auto p = doubles(args.tensor("proj_l"));
  const int64_t h = n.q_shape[1], width = h * n.d;
  std::vector<double> projected(o_l.size());
  for (int64_t b = 0; b < n.q_shape[0]; ++b)
    for (int64_t i = 0; i < n.nq; ++i)
      for (int64_t x = 0; x < width; ++x)
        for (int64_t y = 0; y < width; ++y)
          projected[static_cast<size_t>(((b * h + x / n.d) * n.nq + i) * n.d + x % n.d)] +=
              p[static_cast<size_t>(x * width + y)] *
              o_l[static_cast<size_t>(((b * h + y / n.d) * n.nq + i) * n.d + y % n.d)];
  const Tensor o = mixed(n, f64_tensor(o_s, n.q_shape), f64_tensor(projected, n.q_shape),
                         args.tensor("alpha"), {}, n.nq);
  if (!soft) return {o, Tensor()};
  const auto ov = doubles(o), dense = doubles(all.o);
  double aux = 0;
  for (size_t i = 0; i < ov.size(); ++i) aux += (ov[i] - dense[i]) * (ov[i] - dense[i]);
  return {o, f64_tensor({aux / static_cast<double>(ov.size())}, {})};
}

std::vector<CaseInput> qkv_inputs(int64_t b, int64_t h, int64_t nq, int64_t nk, int64_t d,
                                  const CaseInput& alpha) {
  return {{b, h, nq, d}, {b, h, nk, d}, {b, h, nk, d}, {d, d}, {d, d}, alpha};
}

std::vector<OpCase> sla2_cases() {
  return {
      {"hard",
       qkv_inputs(1, 2, 33, 33, 8, {2}),
       {{"block_q", 8}, {"block_k", 4}, {"topk_ratio", 0.34}}},
      {"one", qkv_inputs(1, 1, 1, 1, 64, {1}), {{"topk_ratio", 0.1}}},
      {"one_block", qkv_inputs(2, 1, 7, 7, 8, {1, 1}), {{"topk_ratio", 0.5}}},
      {"all_blocks",
       qkv_inputs(1, 2, 20, 20, 4, {2}),
       {{"block_q", 8}, {"block_k", 8}, {"topk_ratio", 1.0}}},
      {"cross_d72",
       qkv_inputs(1, 1, 21, 65, 72, {1, 3}),
       {{"block_q", 8}, {"block_k", 16}, {"topk_ratio", 0.4}}},
      {"prefix",
       qkv_inputs(1, 2, 33, 33, 8, {2, 5}),
       {{"block_q", 8}, {"block_k", 4}, {"topk_ratio", 0.3}, {"prefix", 5}}},
      {"global_elu",
       qkv_inputs(1, 1, 30, 30, 8, {1}),
       {{"block_q", 8},
        {"block_k", 8},
        {"topk_ratio", 0.5},
        {"prefix", 9},
        {"linear_range", "global"},
        {"feature_map", "elu"},
        {"eps", 1e-5}}},
      {"smoothed_phi",
       qkv_inputs(1, 1, 24, 24, 8, {1}),
       {{"block_q", 8}, {"block_k", 8}, {"topk_ratio", 0.4}, {"phi_on_smoothed_k", true}}},
      // The router sees q and k as constants, which differences cannot: tests/test_ops_attention.cc
      // checks these gradients with the scores held.
      {"soft",
       qkv_inputs(1, 2, 21, 21, 8, {2}),
       {{"block_q", 8}, {"block_k", 4}, {"topk_ratio", 0.34}, {"mode", "soft"}, {"tau", 0.5}},
       0.5,
       false,
       1e-4},
      {"soft_prefix",
       qkv_inputs(1, 1, 21, 33, 8, {1, 3}),
       {{"block_q", 8},
        {"block_k", 8},
        {"topk_ratio", 0.3},
        {"mode", "soft"},
        {"tau", 0.7},
        {"prefix", 3}},
       0.5,
       false,
       1e-4},
      {"quant",
       qkv_inputs(1, 1, 33, 33, 16, {1}),
       {{"block_q", 16},
        {"block_k", 8},
        {"topk_ratio", 0.4},
        {"quant.qk", "int8"},
        {"quant.pv", "int8"}},
       1,
       false,
       2e-2},
  };
}

}  // namespace

void add_attention_sla2_ops(OpTable& table) {
  const std::vector<InputDef> inputs = {{"q"}, {"k"}, {"v"}, {"router_q"}, {"router_k"}, {"alpha"}};
  table.add({.name = "sla2_attention",
             .summary = "sparse-linear attention with a learned router (SLA2)",
             .inputs = inputs,
             .attrs = kAttrs,
             .outputs = {"o", "mask"},
             .call =
                 [](const OpArgs& a) {
                   const AttentionSpec s = spec_of(a);
                   AttentionOutput r = sla2_attention(a["q"], a["k"], a["v"], s, params_of(a));
                   return std::vector<Var>{r.o, s.mode == RouterMode::hard ? Var(r.mask) : Var()};
                 },
             .reference = [](const OpArgs& a) { return sla2_reference(a, spec_of(a)); },
             .cases = sla2_cases()});
  table.add(
      {.name = "sla2_router_loss",
       .summary = "mean squared distance of soft SLA2 to full attention; trains router and alpha",
       .inputs = inputs,
       .attrs = kAttrs,
       .outputs = {"loss"},
       .call =
           [](const OpArgs& a) {
             return one(sla2_router_loss(a["q"], a["k"], a["v"], spec_of(a, true), params_of(a)));
           },
       .reference = router_loss_reference,
       .cases = {
           {"plain",
            qkv_inputs(1, 2, 21, 21, 8, {2}),
            {{"block_q", 8}, {"block_k", 4}, {"topk_ratio", 0.34}, {"mode", "soft"}, {"tau", 0.5}},
            0.5,
            false,
            2e-4}}});
  const auto pixelgen_inputs = [](int64_t b, int64_t h, int64_t n, int64_t d) {
    std::vector<CaseInput> in = qkv_inputs(b, h, n, n, d, {h});
    in.push_back({h * d, h * d});
    return in;
  };
  table.add(
      {.name = "pixelgen_sla2",
       .summary = "the sparse-linear attention of PixelGen's sla branch, exactly",
       .inputs = {{"q"}, {"k"}, {"v"}, {"router_q"}, {"router_k"}, {"alpha"}, {"proj_l"}},
       .attrs = {{"topk_ratio", "", "share of cells that are selected"},
                 {"compression", "8", "tokens of a cell"},
                 {"mode", "hard", "hard or soft"},
                 {"tau", "1", "temperature of the soft mask"},
                 {"iters", "8", "bisections of the soft mask"},
                 {"feature_map", "softmax", "softmax, elu or relu"},
                 {"eps", "1e-8", "added to the linear branch's denominator"}},
       .outputs = {"o", "aux"},
       .call =
           [](const OpArgs& a) {
             AttentionSpec s;
             s.topk_ratio = a.attrs.real("topk_ratio");
             s.compression = a.attrs.integer("compression", 8);
             s.mode = from_name<RouterMode>(a.attrs.text("mode", "hard"));
             s.tau = a.attrs.real("tau", 1), s.iters = a.attrs.integer("iters", 8);
             s.feature_map = from_name<FeatureMap>(a.attrs.text("feature_map", "softmax"));
             s.eps = a.attrs.real("eps", 1e-8);
             s.aux = true;
             AttentionOutput r = pixelgen_sla2(a["q"], a["k"], a["v"], s, params_of(a));
             return std::vector<Var>{r.o, r.aux_loss};
           },
       .reference = pixelgen_reference,
       .cases = {
           {"hard", pixelgen_inputs(1, 2, 20, 8), {{"topk_ratio", 0.34}, {"compression", 4}}},
           {"hard_padded", pixelgen_inputs(2, 3, 13, 4), {{"topk_ratio", 0.1}, {"compression", 4}}},
           {"hard_elu", pixelgen_inputs(1, 1, 9, 8), {{"topk_ratio", 0.6}, {"feature_map", "elu"}}},
           // The reference of aux is a constant, which differences cannot know.
           {"soft",
            pixelgen_inputs(1, 2, 21, 8),
            {{"topk_ratio", 0.3}, {"compression", 4}, {"mode", "soft"}},
            0.5,
            false,
            1e-4},
           {"soft_tau",
            pixelgen_inputs(1, 1, 16, 8),
            {{"topk_ratio", 0.3}, {"mode", "soft"}, {"tau", 0.2}, {"iters", 12}},
            0.5,
            false,
            1e-4}}});
}

}  // namespace tenun
