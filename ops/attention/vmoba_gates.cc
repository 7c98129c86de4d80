// VMoBA (arXiv 2506.23858): which chunks of keys each token attends to. Gates are products of the
// token with the mean of the chunk; a token's own chunk is always taken. The (token, chunk) pairs
// compete for each token or within a head, by number or by their share of the gates' mass.
#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/select_rows.h"
#include "tenun/ops/matmul.h"

namespace tenun {
namespace {

constexpr const char* kOp = "vmoba_attention";

/// Pairs that compete with each other: pair p belongs to token first + p / chunks and chunk
/// p % chunks.
template <class T>
struct Scope {
  const T* gate;
  uint8_t* chosen;
  int64_t first, tokens, chunks, chunk;

  [[nodiscard]] int64_t pairs() const { return tokens * chunks; }

  // The others among the `most` best, best first.
  [[nodiscard]] std::vector<int64_t> others(int64_t most) const {
    std::vector<int64_t> order = attn::best_first(gate, 0, pairs(), most);
    std::erase_if(order, [&](int64_t p) { return p == own_pair(p / chunks); });
    return order;
  }
  // The pair of token i (from 0) and its own chunk.
  [[nodiscard]] int64_t own_pair(int64_t i) const { return i * chunks + (first + i) / chunk; }
  void take_own() const {
    std::fill_n(chosen, pairs(), uint8_t{0});
    for (int64_t i = 0; i < tokens; ++i) chosen[own_pair(i)] = 1;
  }

  // `count` pairs, the own ones included.
  void by_number(int64_t count) const {
    take_own();
    if (count <= tokens) return;
    const auto order = others(count);  // at most `tokens` of them are own ones
    const int64_t more = std::clamp<int64_t>(count - tokens, 0, std::ssize(order));
    for (int64_t i = 0; i < more; ++i) chosen[order[static_cast<size_t>(i)]] = 1;
  }

  // Own pairs, and others up to the one with which the gates, scaled to [0, 1], reach the share
  // `mass` of their sum.
  void by_mass(double mass) const {
    take_own();
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (int64_t p = 0; p < pairs(); ++p) {
      const auto g = static_cast<double>(gate[p]);
      low = std::min(low, g), high = std::max(high, g);
    }
    const double range = high - low > 1e-6 ? high - low : 1;
    const auto scaled = [&](int64_t p) { return (static_cast<double>(gate[p]) - low) / range; };
    double total = 0, mine = 0;
    for (int64_t p = 0; p < pairs(); ++p) total += scaled(p);
    for (int64_t i = 0; i < tokens; ++i) mine += scaled(own_pair(i));
    const double need = std::max(0.0, mass - mine / (total + 1e-6));
    double sum = 0;
    for (const int64_t p : others(pairs())) {
      chosen[p] = 1;
      sum += scaled(p);
      if (sum / (total + 1e-6) >= need) return;
    }
  }
};

// One head: chosen u8 (N, chunks) from gates (N, chunks).
template <class T>
void choose_head(const T* gates, uint8_t* chosen, int64_t n, int64_t chunks,
                 const AttentionSpec& spec, attn::Forced forced) {
  const int64_t tokens = spec.scope == GateScope::query_head ? 1 : n;
  const int64_t count = attn::count_of(spec, chunks) * tokens;
  parallel_for(0, n / tokens, attn::grain(100 * tokens * chunks), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t at = i * tokens * chunks;
      const Scope<T> scope{gates + at, chosen + at, i * tokens, tokens, chunks, spec.block_k};
      if (spec.selector == Selector::threshold)
        scope.by_mass(spec.mass);
      else
        scope.by_number(count);
    }
  });
  for (int64_t i = 0; i < n; ++i)
    std::fill_n(chosen + i * chunks, i < forced.rows ? chunks : forced.cols, uint8_t{1});
}

// u8 (B, H, N, chunks); the gates of one head at a time. Pairs compete on the host.
Tensor choose(const Tensor& q_, const Tensor& k, const AttentionSpec& spec) {
  const Tensor q = attn::compute_rows(q_), means = attn::block_mean(k, spec.block_k);
  const int64_t n = q.dim(2), chunks = means.dim(2), h = q.dim(1);
  Tensor selection({q.dim(0), h, n, chunks}, DType::u8);
  if (selection.numel() == 0) return selection;
  const attn::Forced forced = attn::forced_by(spec.prefix, q, k, 1, spec.block_k);
  uint8_t* const out = selection.mutable_data<uint8_t>();
  for (int64_t i = 0; i < q.dim(0) * h; ++i) {
    const auto head = [&](const Tensor& x) { return x.select(0, i / h).select(0, i % h); };
    const Tensor gates = matmul(head(q), head(means).transpose(0, 1)).to(cpu()).contiguous();
    visit<DType::f32, DType::f64>(gates.dtype(), kOp, [&]<class T>() {
      choose_head(gates.data<T>(), out + i * n * chunks, n, chunks, spec, forced);
    });
  }
  return selection.to(q.device());
}

}  // namespace

AttentionOutput vmoba_attention(const Var& q_, const Var& k_, const Var& v_,
                                const AttentionSpec& spec) {
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  attn::check_self(kOp, q.value(), k.value(), v.value(), spec.block_k);
  attn::check_ratio(kOp, "topk_ratio", spec.topk_ratio);
  check(spec.selector == Selector::topk || spec.selector == Selector::threshold, kOp,
        "takes the selectors topk and threshold, not {}", name(spec.selector));
  check(spec.topk >= 0 && spec.prefix >= 0, kOp,
        "topk and prefix must not be negative, got {} and {}", spec.topk, spec.prefix);
  check(!spec.quant.any(), kOp, "has no low-bit forward; set quant to none");
  AttentionOutput out;
  out.mask = choose(q.value(), k.value(), spec);
  const attn::FlashVars r =
      attn::chunk_attention(q, k, v, out.mask, spec.block_k, attn::default_scale(q));
  out.o = r.o, out.lse = r.lse.value();
  out.stats = {{attn::density, out.mask}, 1, out.mask.dim(2), out.mask.dim(3)};
  return out;
}

}  // namespace tenun
