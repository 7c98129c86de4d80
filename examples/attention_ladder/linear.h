// The linear branch of rungs 6 and 7: states of the key blocks, and what a query block reads.
#pragma once
#include "tenun/examples/attention_ladder/ladder.h"

namespace ladder {

class LinearBranch {
 public:
  /// h_J = phi(K_J)^T V_J (d x d) and z_J = phi(K_J)^T 1 (d) for every key block, and their totals.
  explicit LinearBranch(const Inputs& in);
  /// out (kBlockQ x d) += weight * linear attention of query block I over the blocks that are not
  /// in `selected`.
  void add_to(float* out, int query_block, const std::vector<int>& selected, float weight) const;

 private:
  const Inputs& in_;
  int state_;  // floats of one state: h_J, then z_J
  Floats states_, total_;
};

}  // namespace ladder
