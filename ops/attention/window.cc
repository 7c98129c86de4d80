// Sliding tile window: a mask that is known beforehand. A pair of blocks is selected if some tile
// of the one is at most `radius` away (in both directions of the image) from some tile of the
// other.
#include <algorithm>
#include <vector>

#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/select.h"

namespace tenun {
namespace {

constexpr const char* kOp = "window_attention";

struct Tile {
  int64_t row, column;
  auto operator<=>(const Tile&) const = default;
};

// The tiles that the tokens of each block lie in, those of the prefix apart.
std::vector<std::vector<Tile>> tiles_of_blocks(int64_t n, int64_t block, const AttentionSpec& s) {
  const bool image = s.grid.tokens > 0;
  const int64_t size = image ? s.grid.tokens : s.block_k;
  std::vector<std::vector<Tile>> all(static_cast<size_t>(attn::blocks(n, block)));
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i) * block;
    const int64_t first = std::max<int64_t>(at - s.prefix, 0),
                  last = std::min(at + block, n) - s.prefix;
    for (int64_t t = first / size; t * size < last; ++t)
      all[i].push_back(image ? Tile{t / s.grid.columns, t % s.grid.columns} : Tile{0, t});
  }
  return all;
}

bool near(const std::vector<Tile>& a, const std::vector<Tile>& b, int64_t radius) {
  for (const Tile& x : a)
    for (const Tile& y : b)
      if (std::abs(x.row - y.row) <= radius && std::abs(x.column - y.column) <= radius) return true;
  return false;
}

}  // namespace

AttentionOutput window_attention(const Var& q, const Var& k, const Var& v,
                                 const AttentionSpec& spec) {
  attn::check_self(kOp, q.value(), k.value(), v.value(), spec.block_k);
  attn::check_blocks(kOp, q.value(), k.value(), nullptr, spec.block_q, spec.block_k);
  check(spec.radius >= 0, kOp, "radius must not be negative, got {}", spec.radius);
  check(spec.grid.tokens >= 0 && (spec.grid.tokens == 0 || spec.grid.columns > 0), kOp,
        "grid needs positive numbers of tokens and columns, or no tokens; got {} and {}",
        spec.grid.tokens, spec.grid.columns);
  const int64_t n = q.dim(2);
  const auto rows = tiles_of_blocks(n, spec.block_q, spec),
             cols = tiles_of_blocks(n, spec.block_k, spec);
  const attn::Forced forced =
      attn::forced_by(spec.prefix, q.value(), k.value(), spec.block_q, spec.block_k);
  Tensor one({1, 1, std::ssize(rows), std::ssize(cols)}, DType::u8);
  uint8_t* const m = one.mutable_data<uint8_t>();
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = 0; j < cols.size(); ++j)
      m[i * cols.size() + j] = static_cast<int64_t>(i) < forced.rows ||
                               static_cast<int64_t>(j) < forced.cols ||
                               near(rows[i], cols[j], spec.radius);
  AttentionParams params;
  params.mask = one.expand({q.dim(0), q.dim(1), std::ssize(rows), std::ssize(cols)})
                    .contiguous()
                    .to(q.device());
  AttentionSpec masked = spec;
  masked.prefix = 0;  // in the mask already
  return sparse_attention(q, k, v, masked, params);
}

}  // namespace tenun
