// What single queries attend to, for any method: o_i = sum_j p_ij v_j, so p_ij is the derivative of
// o_i with respect to v_j, and one backward pass gives the rows of as many queries as a head has
// channels (query number c gets its upstream gradient in channel c). Memory is O(N D): the N x N
// probabilities are never there.
//
//   Tensor p = attention_rows(layer, {0, 17});      // (H, 2, Nk): heads, queries, keys
//
// Of methods with two branches only the exact one is shown: the learned mix is moved to it, and
// projections and gates of the other are set to 0. For `linear` the rows are those of linear
// attention; for llsa what coarse keys get is spread over their tokens.
#pragma once
#include <vector>

#include "tenun/tools/attention_inputs.h"

namespace tenun::tools {

/// Rows of the first sample, f32; ShapeError for a query that is not there.
[[nodiscard]] Tensor attention_rows(const AttentionLayer& l, const std::vector<int64_t>& queries);

}  // namespace tenun::tools
