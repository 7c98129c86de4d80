// Rung 5: flash attention that visits only the key blocks which matter to a query block.
//   selection:  P_IJ = mean(Q_I) . mean(K_J),  the k largest of every row
//   O_i = sum over the selected j of softmax_j(s_ij) v_j
// The sum in the softmax runs over the selected keys alone: their weights add up to 1 again.
#include <numeric>

#include "tenun/examples/attention_ladder/tile.h"

namespace ladder {
namespace {

Floats block_means(const Floats& x, int n, int d, int block) {
  Floats mean(static_cast<size_t>(n / block * d));
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < d; ++c)
      mean[static_cast<size_t>(i / block * d + c)] +=
          x[static_cast<size_t>(i * d + c)] / static_cast<float>(block);
  return mean;
}

}  // namespace

Selection select_blocks(const Inputs& in, double keep) {
  const int rows = in.n / kBlockQ, cols = in.n / kBlockK, d = in.d;
  const Floats q = block_means(in.q, in.n, d, kBlockQ), k = block_means(in.k, in.n, d, kBlockK);
  const int count = std::clamp(static_cast<int>(keep * cols + 1e-6), 1, cols);
  Selection selected(static_cast<size_t>(rows));
  for (int i = 0; i < rows; ++i) {
    Floats score(static_cast<size_t>(cols));
    for (int j = 0; j < cols; ++j)
      for (int c = 0; c < d; ++c)
        score[static_cast<size_t>(j)] +=
            q[static_cast<size_t>(i * d + c)] * k[static_cast<size_t>(j * d + c)];
    std::vector<int>& row = selected[static_cast<size_t>(i)];
    row.resize(static_cast<size_t>(cols));
    std::iota(row.begin(), row.end(), 0);
    std::stable_sort(row.begin(), row.end(), [&](int a, int b) {
      return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)];
    });
    row.resize(static_cast<size_t>(count));
    std::sort(row.begin(), row.end());  // in the order of memory
  }
  return selected;
}

Floats block_sparse(const Inputs& in, const Selection& selected) {
  const int n = in.n, d = in.d;
  Floats o(in.q.size()), kt(in.k.size()), s(kBlockQ * kBlockK);
  for (int j = 0; j < n; j += kBlockK)
    transpose(kt.data() + j * d, in.k.data() + j * d, kBlockK, d);
  for (int i = 0; i < n; i += kBlockQ) {
    OnlineTile tile(d);
    Floats q(in.q.begin() + i * d, in.q.begin() + (i + kBlockQ) * d);
    for (float& x : q) x *= in.scale();
    for (const int block : selected[static_cast<size_t>(i / kBlockQ)]) {
      const int j = block * kBlockK;
      std::fill(s.begin(), s.end(), 0.0F);
      multiply_add(s.data(), kBlockK, q.data(), d, kt.data() + j * d, kBlockK, kBlockQ, d, kBlockK);
      tile.take(s.data(), in.v.data() + j * d);
    }
    tile.add_to(o.data() + i * d);
  }
  return o;
}

}  // namespace ladder
