// Rung 2: the same formula as matrix products in tiles.
//   S = Q K^T / sqrt(d)       P = softmax of the rows       O = P V
// K is transposed once, so that neighbouring keys lie side by side and one instruction works on
// eight of them; sixteen columns of four rows stay in registers. S is still n x n.
#include "tenun/examples/attention_ladder/tile.h"

namespace ladder {

Floats tiled(const Inputs& in) {
  const int n = in.n, d = in.d;
  const auto size = [](int a, int b) { return static_cast<size_t>(a) * static_cast<size_t>(b); };
  Floats kt(size(n, d)), s(size(n, n)), o(size(n, d));
  transpose(kt.data(), in.k.data(), n, d);
  constexpr int kRows = 64;
  for (int i = 0; i < n; i += kRows) {
    float* const rows = s.data() + size(i, n);
    multiply_add(rows, n, in.q.data() + size(i, d), d, kt.data(), n, kRows, d, n);
    for (int r = 0; r < kRows; ++r) {
      float* const row = rows + size(r, n);
      float m = -INFINITY, sum = 0;
      for (int j = 0; j < n; ++j) m = std::max(m, row[j] *= in.scale());
      for (int j = 0; j < n; ++j) row[j] = exp_poly(row[j] - m);
      for (int j = 0; j < n; ++j) sum += row[j];
      for (int j = 0; j < n; ++j) row[j] /= sum;
    }
    multiply_add(o.data() + size(i, d), d, rows, n, in.v.data(), d, kRows, n, d);
  }
  return o;
}

}  // namespace ladder
