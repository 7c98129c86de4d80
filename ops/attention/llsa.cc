// LLSA (arXiv 2512.16615): tokens are pooled `levels` times by `block`. At the coarsest level every
// query looks at all keys and keeps its best; at each finer level a query looks at the children of
// what its parent kept. What the finest pooled queries keep are blocks of tokens, which their
// tokens attend to. With enrichment the tokens attend, in the same softmax, also to every coarse
// key that was looked at on the way, weighted by the number of tokens below it.
#include <algorithm>
#include <cmath>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/select_rows.h"

namespace tenun {
namespace {

constexpr const char* kOp = "llsa_attention";

/// For every (head, pooled query) the pooled keys that it keeps, ascending.
using Kept = std::vector<std::vector<int32_t>>;

// On the host: pooled tokens are few. The best `topk` of the keys that each query looks at.
// `above`: what the level above kept; nullptr: all keys are looked at.
Kept keep_best(const Tensor& q, const Tensor& k, const Kept* above, int64_t block, int64_t topk) {
  const int64_t heads = q.dim(0) * q.dim(1), n = q.dim(2), d = q.dim(3);
  const int64_t parents = attn::blocks(n, block);
  Kept kept(static_cast<size_t>(heads * n));
  visit<DType::f32, DType::f64>(q.dtype(), kOp, [&]<class T>() {
    const attn::Heads<T> hq(q), hk(k);
    const int64_t looked_at = above == nullptr ? n : topk * block;
    parallel_for(0, heads * n, attn::grain(3 * looked_at * d), [&](int64_t b, int64_t e) {
      std::vector<int32_t> candidates;
      std::vector<double> scores;
      for (int64_t r = b; r < e; ++r) {
        const int64_t h = r / n, i = r % n;
        candidates.clear();
        const auto add = [&](int64_t from, int64_t to) {
          for (int64_t j = from; j < std::min(to, n); ++j)
            candidates.push_back(static_cast<int32_t>(j));
        };
        if (above == nullptr)
          add(0, n);
        else
          for (const int32_t p : (*above)[static_cast<size_t>(h * parents + i / block)])
            add(p * block, (p + 1) * block);
        scores.resize(candidates.size());
        const T* const x = hq[h].row(i);
        for (size_t c = 0; c < candidates.size(); ++c)
          scores[c] = static_cast<double>(attn::dot(x, hk[h].row(candidates[c]), d));
        auto& out = kept[static_cast<size_t>(r)];
        for (const int64_t c : attn::best_first(scores.data(), 0, std::ssize(scores), topk))
          out.push_back(candidates[static_cast<size_t>(c)]);
        std::sort(out.begin(), out.end());
      }
    });
  });
  return kept;
}

void force(Kept& kept, int64_t n, attn::Forced forced) {
  for (size_t r = 0; r < kept.size(); ++r) {
    std::vector<int32_t> all;
    const int64_t first = static_cast<int64_t>(r) % n < forced.rows ? n : forced.cols;
    for (int64_t j = 0; j < first; ++j) all.push_back(static_cast<int32_t>(j));
    for (const int32_t j : kept[r])
      if (j >= first) all.push_back(j);
    kept[r] = std::move(all);
  }
}

// Lists over `cols` key blocks: entry j of a row becomes block j - first where that is one.
attn::BlockLists lists_of(const Kept& kept, int64_t heads, int64_t first, int64_t cols,
                          int64_t block_q, int64_t block_k) {
  const int64_t rows = std::ssize(kept) / std::max<int64_t>(heads, 1);
  const auto inside = [&](int32_t j) { return j >= first && j < first + cols; };
  int64_t total = 0;
  for (const auto& row : kept) total += std::count_if(row.begin(), row.end(), inside);
  attn::BlockLists l{block_q,
                     block_k,
                     Tensor({heads * rows + 1}, DType::i64),
                     Tensor({total}, DType::i32),
                     Tensor::zeros({heads * cols + 1}, DType::i64),
                     Tensor({total}, DType::i32)};
  int64_t* const row_start = l.row_start.mutable_data<int64_t>();
  int64_t* const col_start = l.col_start.mutable_data<int64_t>();
  int32_t* const row_index = l.row_index.mutable_data<int32_t>();
  int32_t* const col_index = l.col_index.mutable_data<int32_t>();
  int64_t at = 0;
  for (int64_t r = 0; r < heads * rows; ++r) {
    row_start[r] = at;
    for (const int32_t j : kept[static_cast<size_t>(r)])
      if (inside(j)) {
        row_index[at++] = static_cast<int32_t>(j - first);
        ++col_start[r / rows * cols + j - first + 1];
      }
  }
  row_start[heads * rows] = at;
  for (int64_t c = 0; c < heads * cols; ++c) col_start[c + 1] += col_start[c];
  std::vector<int64_t> next(col_start, col_start + heads * cols);
  for (int64_t r = 0; r < heads * rows; ++r)
    for (int64_t i = row_start[r]; i < row_start[r + 1]; ++i)
      col_index[next[static_cast<size_t>(r / rows * cols + row_index[i])]++] =
          static_cast<int32_t>(r % rows);
  return l;
}

struct Level {
  Var q, k, v;
  int64_t n,
      width;  ///< tokens, and how many original ones each stands for (the last may have less)
  Kept kept{};
};

std::vector<Level> pyramid(const Var& q, const Var& k, const Var& v, const AttentionSpec& s) {
  std::vector<Level> all{{q, k, v, q.dim(2), 1}};
  for (int64_t l = 0; l < s.levels; ++l) {
    const Level& below = all.back();
    const auto up = [&](const Var& x) {
      return attn::block_mean(x, s.block_k, attn::PoolDivisor::count);
    };
    const int64_t width = std::min(below.width * s.block_k, std::max<int64_t>(q.dim(2), 1));
    Level next{up(below.q.detach()), up(below.k), up(below.v), attn::blocks(below.n, s.block_k),
               width};
    all.push_back(std::move(next));
  }
  const auto coarsest = all.size() - 1;
  const int64_t topk = attn::count_of(s, all[1].n);  // the same at all levels
  for (size_t l = coarsest; l >= 1; --l)
    all[l].kept = keep_best(all[l].q.value().to(cpu()), all[l].k.value().to(cpu()),
                            l == coarsest ? nullptr : &all[l + 1].kept, s.block_k, topk);
  return all;
}

// The keys of level l that tokens look at; a last key that stands for fewer tokens is a part of its
// own.
void add_parts(std::vector<attn::KeyPart>& parts, const std::vector<Level>& levels, size_t l,
               int64_t heads, int64_t block) {
  const Device device = levels[l].k.device();
  const Level& at = levels[l];
  const int64_t last = levels[0].n - (at.n - 1) * at.width;
  const int64_t whole = last == at.width ? at.n : at.n - 1;
  const Kept* const kept = l + 1 < levels.size() ? &levels[l + 1].kept : nullptr;
  const int64_t width = kept != nullptr ? levels[l + 1].width : 0;
  const auto lists = [&](int64_t first, int64_t cols, int64_t block_k) {
    return kept == nullptr
               ? std::nullopt
               : std::optional(lists_of(*kept, heads, first, cols, width, block_k).to(device));
  };
  if (whole > 0)
    parts.push_back({l, 0, whole, lists(0, attn::blocks(whole, block), block),
                     std::log(static_cast<double>(at.width))});
  if (whole < at.n)
    parts.push_back({l, whole, 1, lists(whole / block, 1, 1), std::log(static_cast<double>(last))});
}

}  // namespace

AttentionOutput llsa_attention(const Var& q_, const Var& k_, const Var& v_,
                               const AttentionSpec& spec) {
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  attn::check_self(kOp, q.value(), k.value(), v.value(), spec.block_k);
  attn::check_ratio(kOp, "topk_ratio", spec.topk_ratio);
  check(spec.levels >= 1 && spec.levels <= 30, kOp, "levels must be in [1, 30], got {}",
        spec.levels);
  check(spec.topk >= 0 && spec.prefix >= 0, kOp,
        "topk and prefix must not be negative, got {} and {}", spec.topk, spec.prefix);
  check(!spec.quant.any(), kOp, "has no low-bit forward; set quant to none");
  const int64_t heads = q.dim(0) * q.dim(1);
  std::vector<Level> levels = pyramid(q, k, v, spec);
  force(levels[1].kept, std::max<int64_t>(levels[1].n, 1),
        attn::forced_by(spec.prefix, q.value(), k.value(), spec.block_k, spec.block_k));

  std::vector<attn::KeySource> sources;
  std::vector<attn::KeyPart> parts;
  for (size_t l = 0; l < (spec.enrichment ? levels.size() : 1); ++l) {
    sources.push_back({levels[l].k, levels[l].v});
    add_parts(parts, levels, l, heads, spec.block_k);
  }
  AttentionOutput out;
  int64_t chosen = 0;
  for (const auto& row : levels[1].kept) chosen += std::ssize(row);
  const attn::FlashVars r =
      attn::merged_flash(q, sources, std::move(parts), attn::default_scale(q));
  out.o = r.o, out.lse = r.lse.value();
  const int64_t count = levels[1].n, all = heads * count * count;
  out.stats = {all > 0 ? static_cast<double>(chosen) / static_cast<double>(all) : 0, 1, count,
               count};
  return out;
}

}  // namespace tenun
