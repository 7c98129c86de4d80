// Naive attention in f64 for the references of the attention ops: every weight of N x N, plain
// loops, nothing skipped.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tenun/ops/cases/registry.h"

namespace tenun {

class NaiveAttention {
 public:
  using Matrix = std::vector<double>;  ///< (B H) x rows x columns, row-major

  explicit NaiveAttention(const OpArgs& args);

  /// Weights of tokens (B H, Nq, Nk) from those of blocks (B, H, T_m, T_n).
  [[nodiscard]] Matrix token_weights(const Tensor& blocks, int64_t block_q, int64_t block_k) const;
  struct Output {
    Tensor o, lse;
  };
  /// Rows of w exp(s), normalised; w = 1 without weights.
  [[nodiscard]] Output sparse(const Matrix* weights, std::optional<double> scale) const;
  /// Rows of w phi(q) phi(k), normalised by eps + their sum.
  [[nodiscard]] Tensor linear(const Matrix* weights, const std::string& feature_map, double eps,
                              bool smooth = false) const;

  int64_t heads, nq, nk, d;
  Shape q_shape;
  Matrix q, k, v;
};

}  // namespace tenun
