// Rung 4: rungs 2 and 3 together (FlashAttention, Dao et al. 2022): a tile of queries walks over
// tiles of keys; the scores of one tile fit into the first-level cache, are used and forgotten.
//   S = Q_I K_J^T / sqrt(d);   m' = max(m, rowmax S);   P = exp(S - m')
//   l <- l exp(m - m') + rowsum P;   O <- O exp(m - m') + P V_J;   m <- m'
#include "tenun/examples/attention_ladder/tile.h"

namespace ladder {

Floats flash(const Inputs& in) {
  const int n = in.n, d = in.d;
  Floats o(in.q.size()), kt(in.k.size()), s(kBlockQ * kBlockK);
  for (int j = 0; j < n; j += kBlockK)  // each key block transposed: d x kBlockK
    transpose(kt.data() + j * d, in.k.data() + j * d, kBlockK, d);
  for (int i = 0; i < n; i += kBlockQ) {
    OnlineTile tile(d);
    Floats q(in.q.begin() + i * d, in.q.begin() + (i + kBlockQ) * d);
    for (float& x : q) x *= in.scale();
    for (int j = 0; j < n; j += kBlockK) {
      std::fill(s.begin(), s.end(), 0.0F);
      multiply_add(s.data(), kBlockK, q.data(), d, kt.data() + j * d, kBlockK, kBlockQ, d, kBlockK);
      tile.take(s.data(), in.v.data() + j * d);
    }
    tile.add_to(o.data() + i * d);
  }
  return o;
}

}  // namespace ladder
