// Naive attention in f64 for the references of the attention ops: every weight of N x N, plain
// loops, nothing skipped.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tenun/ops/cases/registry.h"

namespace tenun {

[[nodiscard]] inline size_t at(int64_t i) { return static_cast<size_t>(i); }
/// ceil(a / b)
[[nodiscard]] inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }
/// q, k, v of a case.
[[nodiscard]] std::vector<CaseInput> qkv(int64_t b, int64_t h, int64_t nq, int64_t nk, int64_t d);
/// The best entries of a row of logits by their share of its softmax, as flags: the shortest prefix
/// with sum >= p, or, not inclusive, those with a prefix sum <= p and at least one.
[[nodiscard]] std::vector<int> by_mass(const std::vector<double>& row, double p, bool inclusive);

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

  /// Scores of pooled blocks (B, H, T_m, T_n): means, router matrices (may be undefined),
  /// 1/sqrt(D). `divide_by_block`: zero-padded means.
  [[nodiscard]] Tensor scores(int64_t block_q, int64_t block_k, const Tensor& router_q,
                              const Tensor& router_k, bool divide_by_block = false) const;
  /// 1 for the k best free blocks of each row (lowest index first), NaN last, and for forced ones.
  [[nodiscard]] static Tensor topk(const Tensor& scores, int64_t k, int64_t forced_rows,
                                   int64_t forced_cols);
  /// SoftTop-k of the free blocks by plain bisection.
  [[nodiscard]] static Tensor soft_topk(const Tensor& x, double target, double tau,
                                        int64_t forced_rows, int64_t forced_cols);
  /// The low-bit forward, key block by key block; `weights` selects blocks.
  [[nodiscard]] Tensor int8(const Matrix* weights, int64_t block_q, int64_t block_k, bool qk,
                            bool pv) const;

  int64_t heads, nq, nk, d;
  Shape q_shape;
  Matrix q, k, v;
};

}  // namespace tenun
