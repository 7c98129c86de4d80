// Seven ways to compute attention, from the formula to sparse-linear attention in INT8, as a ladder
// for learners. Each rung is one function in one file that states its formula and changes one idea;
// docs/attention/ explains them. All work on one head, one thread, plain arrays.
//   q, k, v, o   n x d, row by row; n a multiple of both block sizes, d a multiple of 8
// `attention_ladder [N]` runs them all, checks each against rung 1, and prints times and memory.
#pragma once
#include <cstdint>
#include <vector>

namespace ladder {

using Floats = std::vector<float>;

struct Inputs {
  int n = 0, d = 0;
  Floats q, k, v;
  [[nodiscard]] float scale() const;  ///< 1 / sqrt(d)
};

constexpr int kBlockQ = 64;  // queries of a block
constexpr int kBlockK = 64;  // keys of a block

/// For every query block the key blocks that get exact attention, in ascending order.
using Selection = std::vector<std::vector<int>>;
/// The key blocks with the best mean scores (docs/attention/5_block_sparse.md).
[[nodiscard]] Selection select_blocks(const Inputs& in, double keep);

// The rungs.
[[nodiscard]] Floats naive(const Inputs& in);
[[nodiscard]] Floats tiled(const Inputs& in);
[[nodiscard]] Floats online(const Inputs& in);
[[nodiscard]] Floats flash(const Inputs& in);
[[nodiscard]] Floats block_sparse(const Inputs& in, const Selection& selected);
/// `alpha` is the share of the exact branch.
[[nodiscard]] Floats sparse_linear(const Inputs& in, const Selection& selected, float alpha);
[[nodiscard]] Floats sparse_linear_int8(const Inputs& in, const Selection& selected, float alpha);

/// Rung 1 for rungs 5 to 7: exact attention over the selected keys, linear attention over the
/// others, both straight from their formulas, in double.
[[nodiscard]] Floats naive_sparse_linear(const Inputs& in, const Selection& selected, float alpha);

}  // namespace ladder
