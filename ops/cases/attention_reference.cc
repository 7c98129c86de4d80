#include "tenun/ops/cases/attention_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tenun {
namespace {

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

std::vector<CaseInput> qkv(int64_t b, int64_t h, int64_t nq, int64_t nk, int64_t d) {
  return {{b, h, nq, d}, {b, h, nk, d}, {b, h, nk, d}};
}

std::vector<int> by_mass(const std::vector<double>& row, double p, bool inclusive) {
  double total = 0, sum = 0;
  for (const double x : row) total += std::exp(x);
  std::vector<size_t> order(row.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row[a] > row[b]; });
  std::vector<int> flags(row.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const double next = sum + (total > 0 ? std::exp(row[order[i]]) / total : 1.0);
    if (inclusive ? sum >= p : i > 0 && next > p) break;
    flags[order[i]] = 1;
    sum = next;
  }
  return flags;
}

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

Tensor NaiveAttention::scores(int64_t block_q, int64_t block_k, const Tensor& router_q,
                              const Tensor& router_k, bool divide_by_block) const {
  const auto pooled = [&](const Matrix& x, int64_t n, int64_t block, const Tensor& router) {
    const int64_t count = (n + block - 1) / block;
    const auto w = doubles(router);
    Matrix y(at(heads * count * d));
    for (int64_t r = 0; r < heads * count; ++r) {
      const int64_t first = r % count * block, last = std::min(first + block, n);
      std::vector<double> mean(at(d));
      for (int64_t i = first; i < last; ++i)
        for (int64_t c = 0; c < d; ++c)
          mean[at(c)] += x[at((r / count * n + i) * d + c)] /
                         static_cast<double>(divide_by_block ? block : last - first);
      for (int64_t o = 0; o < d; ++o)
        for (int64_t c = 0; c < d; ++c)
          y[at(r * d + o)] += mean[at(c)] * (w.empty() ? (o == c ? 1 : 0) : w[at(o * d + c)]);
    }
    return y;
  };
  const Matrix a = pooled(q, nq, block_q, router_q), b = pooled(k, nk, block_k, router_k);
  const int64_t rows = (nq + block_q - 1) / block_q, cols = (nk + block_k - 1) / block_k;
  Matrix s(at(heads * rows * cols));
  for (int64_t i = 0; i < heads * rows * cols; ++i)
    for (int64_t c = 0; c < d; ++c)
      s[at(i)] += a[at(i / cols * d + c)] * b[at((i / cols / rows * cols + i % cols) * d + c)] /
                  std::sqrt(static_cast<double>(d));
  return f64_tensor(s, {q_shape[0], q_shape[1], rows, cols});
}

Tensor NaiveAttention::topk(const Tensor& scores, int64_t k, int64_t forced_rows,
                            int64_t forced_cols) {
  const auto s = doubles(scores);
  const int64_t rows = scores.dim(-2), cols = scores.dim(-1);
  Matrix m(s.size());
  for (int64_t r = 0; r < scores.numel() / cols; ++r)
    for (int64_t j = 0; j < cols; ++j) {
      int64_t better = 0;
      for (int64_t i = forced_cols; i < cols; ++i) {
        const double a = s[at(r * cols + i)], b = s[at(r * cols + j)];
        const double x = std::isnan(a) ? -1e300 : a, y = std::isnan(b) ? -1e300 : b;
        better += x > y || (x == y && i < j) ? 1 : 0;
      }
      m[at(r * cols + j)] = r % rows < forced_rows || j < forced_cols || better < k ? 1 : 0;
    }
  return f64_tensor(m, scores.shape());
}

Tensor NaiveAttention::soft_topk(const Tensor& x, double target, double tau, int64_t forced_rows,
                                 int64_t forced_cols) {
  const auto v = doubles(x);
  const int64_t rows = x.rank() > 1 ? x.dim(-2) : 1, cols = x.dim(-1);
  Matrix m(v.size(), 1.0);
  for (int64_t r = 0; r < x.numel() / cols; ++r) {
    if (r % rows < forced_rows || target >= static_cast<double>(cols - forced_cols)) continue;
    double lo = -1e6, hi = 1e6;
    for (int step = 0; step < 200; ++step) {
      const double mid = (lo + hi) / 2;
      double sum = 0;
      for (int64_t j = forced_cols; j < cols; ++j)
        sum += m[at(r * cols + j)] = 1 / (1 + std::exp(-(v[at(r * cols + j)] / tau + mid)));
      (sum < target ? lo : hi) = mid;
    }
  }
  return f64_tensor(m, x.shape());
}

Tensor NaiveAttention::int8(const Matrix* weights, int64_t block_q, int64_t block_k, bool qk,
                            bool pv) const {
  Matrix o(at(heads * nq * d)), kp = k, vq = v;
  const auto round_group = [&](double* x, int64_t n, int64_t stride) {
    double most = 0;
    for (int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(x[i * stride]));
    for (int64_t i = 0; i < n && most > 0; ++i)
      x[i * stride] = std::nearbyint(x[i * stride] / (most / 127)) * (most / 127);
  };
  Matrix qq = q;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t c = 0; c < d; ++c) {
      double mean = 0;
      for (int64_t j = 0; j < nk; ++j)
        mean += k[at((h * nk + j) * d + c)] / static_cast<double>(nk);
      for (int64_t j = 0; j < nk; ++j) kp[at((h * nk + j) * d + c)] -= mean;
      if (pv) round_group(&vq[at(h * nk * d + c)], nk, d);
    }
    for (int64_t i = 0; i < nq && qk; i += block_q)
      round_group(&qq[at((h * nq + i) * d)], std::min(block_q, nq - i) * d, 1);
    for (int64_t j = 0; j < nk && qk; j += block_k)
      round_group(&kp[at((h * nk + j) * d)], std::min(block_k, nk - j) * d, 1);
  }
  for (int64_t r = 0; r < heads * nq; ++r) {
    const int64_t h = r / nq;
    double m = -std::numeric_limits<double>::infinity(), l = 0;
    for (int64_t first = 0; first < nk; first += block_k) {
      if (weights != nullptr && (*weights)[at(r * nk + first)] == 0) continue;
      const int64_t last = std::min(first + block_k, nk);
      std::vector<double> s(at(last - first));
      double next = m;
      for (int64_t j = first; j < last; ++j) {
        for (int64_t c = 0; c < d; ++c)
          s[at(j - first)] +=
              qq[at(r * d + c)] * kp[at((h * nk + j) * d + c)] / std::sqrt(static_cast<double>(d));
        next = std::max(next, s[at(j - first)]);
      }
      const double fade = std::exp(m - next);
      l *= fade;
      for (int64_t c = 0; c < d; ++c) o[at(r * d + c)] *= fade;
      for (int64_t j = first; j < last; ++j) {
        const double p = std::exp(s[at(j - first)] - next);
        l += p;
        const double used = pv ? std::nearbyint(127 * p) / 127 : p;
        for (int64_t c = 0; c < d; ++c) o[at(r * d + c)] += used * vq[at((h * nk + j) * d + c)];
      }
      m = next;
    }
    for (int64_t c = 0; c < d && l > 0; ++c) o[at(r * d + c)] /= l;
  }
  return f64_tensor(o, q_shape);
}

}  // namespace tenun
