#include "tenun/ops/cases/attention_reference.h"

#include <cmath>
#include <limits>

namespace tenun {
namespace {

size_t at(int64_t i) { return static_cast<size_t>(i); }

std::vector<double> features(std::vector<double> x, int64_t d, const std::string& map) {
  for (size_t r = 0; r < x.size(); r += at(d)) {
    double most = -std::numeric_limits<double>::infinity(), sum = 0;
    for (size_t c = r; c < r + at(d); ++c) most = std::max(most, x[c]);
    for (size_t c = r; c < r + at(d); ++c) {
      if (map == "softmax")
        sum += x[c] = std::exp(x[c] - most);
      else if (map == "elu")
        x[c] = x[c] > 0 ? x[c] + 1 : std::exp(x[c]);
      else
        x[c] = std::max(x[c], 0.0);
    }
    for (size_t c = r; c < r + at(d) && map == "softmax"; ++c) x[c] /= sum;
  }
  return x;
}

}  // namespace

NaiveAttention::NaiveAttention(const OpArgs& args)
    : heads(args.tensor("q").dim(0) * args.tensor("q").dim(1)),
      nq(args.tensor("q").dim(2)),
      nk(args.tensor("k").dim(2)),
      d(args.tensor("q").dim(3)),
      q_shape(args.tensor("q").shape()),
      q(doubles(args.tensor("q"))),
      k(doubles(args.tensor("k"))),
      v(doubles(args.tensor("v"))) {}

NaiveAttention::Matrix NaiveAttention::token_weights(const Tensor& blocks, int64_t block_q,
                                                     int64_t block_k) const {
  const auto m = doubles(blocks);
  const int64_t rows = blocks.dim(2), cols = blocks.dim(3);
  Matrix w(at(heads * nq * nk));
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < nq; ++i)
      for (int64_t j = 0; j < nk; ++j)
        w[at((h * nq + i) * nk + j)] = m[at((h * rows + i / block_q) * cols + j / block_k)];
  return w;
}

NaiveAttention::Output NaiveAttention::sparse(const Matrix* weights,
                                              std::optional<double> scale) const {
  const double c = scale.value_or(1 / std::sqrt(static_cast<double>(d)));
  Matrix o(at(heads * nq * d)), lse(at(heads * nq)), s(at(nk));
  for (int64_t r = 0; r < heads * nq; ++r) {
    const int64_t h = r / nq;
    double most = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < nk; ++j) {
      double dot = 0;
      for (int64_t i = 0; i < d; ++i) dot += q[at(r * d + i)] * k[at((h * nk + j) * d + i)];
      s[at(j)] = c * dot;
      if (weights == nullptr || (*weights)[at(r * nk + j)] > 0) most = std::max(most, s[at(j)]);
    }
    for (int64_t j = 0; j < nk; ++j) {
      const double w = weights == nullptr ? 1 : (*weights)[at(r * nk + j)];
      s[at(j)] = w > 0 ? w * std::exp(s[at(j)] - most) : 0;
      sum += s[at(j)];
    }
    lse[at(r)] = most + std::log(sum);
    if (sum == 0) continue;
    for (int64_t j = 0; j < nk; ++j)
      for (int64_t i = 0; i < d; ++i)
        o[at(r * d + i)] += s[at(j)] / sum * v[at((h * nk + j) * d + i)];
  }
  const Shape rows{q_shape[0], q_shape[1], nq};
  for (double& x : lse)
    if (std::isnan(x)) x = -std::numeric_limits<double>::infinity();
  return {f64_tensor(o, q_shape), f64_tensor(lse, rows)};
}

Tensor NaiveAttention::linear(const Matrix* weights, const std::string& feature_map, double eps,
                              bool smooth) const {
  Matrix keys = k;
  for (int64_t h = 0; smooth && h < heads; ++h)
    for (int64_t c = 0; c < d; ++c) {
      double mean = 0;
      for (int64_t j = 0; j < nk; ++j)
        mean += k[at((h * nk + j) * d + c)] / static_cast<double>(nk);
      for (int64_t j = 0; j < nk; ++j) keys[at((h * nk + j) * d + c)] -= mean;
    }
  const Matrix fq = features(q, d, feature_map), fk = features(keys, d, feature_map);
  Matrix o(at(heads * nq * d));
  for (int64_t r = 0; r < heads * nq; ++r) {
    const int64_t h = r / nq;
    double den = eps;
    std::vector<double> num(at(d));
    for (int64_t j = 0; j < nk; ++j) {
      double a = 0;
      for (int64_t i = 0; i < d; ++i) a += fq[at(r * d + i)] * fk[at((h * nk + j) * d + i)];
      a *= weights == nullptr ? 1 : (*weights)[at(r * nk + j)];
      den += a;
      for (int64_t i = 0; i < d; ++i) num[at(i)] += a * v[at((h * nk + j) * d + i)];
    }
    for (int64_t i = 0; i < d; ++i) o[at(r * d + i)] = den == 0 ? 0 : num[at(i)] / den;
  }
  return f64_tensor(o, q_shape);
}

}  // namespace tenun
