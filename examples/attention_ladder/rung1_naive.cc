// Rung 1: the formula.
//   s_ij = q_i . k_j / sqrt(d)      p_ij = exp(s_ij - m_i) / sum_j exp(s_ij - m_i)      o_i = sum_j
//   p_ij v_j
// with m_i = max_j s_ij. The whole n x n matrix exists in memory.
#include <algorithm>
#include <cmath>

#include "tenun/examples/attention_ladder/ladder.h"

namespace ladder {

float Inputs::scale() const { return 1 / std::sqrt(static_cast<float>(d)); }

Floats naive(const Inputs& in) {
  const auto n = static_cast<size_t>(in.n), d = static_cast<size_t>(in.d);
  Floats p(n * n), o(n * d);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) {
      float dot = 0;
      for (size_t c = 0; c < d; ++c) dot += in.q[i * d + c] * in.k[j * d + c];
      p[i * n + j] = dot * in.scale();
    }
  for (size_t i = 0; i < n; ++i) {
    float m = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; ++j) m = std::max(m, p[i * n + j]);
    for (size_t j = 0; j < n; ++j) sum += p[i * n + j] = std::exp(p[i * n + j] - m);
    for (size_t j = 0; j < n; ++j) p[i * n + j] /= sum;
  }
  for (size_t i = 0; i < n; ++i)
    for (size_t c = 0; c < d; ++c) {
      float sum = 0;
      for (size_t j = 0; j < n; ++j) sum += p[i * n + j] * in.v[j * d + c];
      o[i * d + c] = sum;
    }
  return o;
}

namespace {

// phi(x) = softmax over the d channels of one token.
std::vector<double> feature(const float* x, size_t d) {
  std::vector<double> f(d);
  double m = -INFINITY, sum = 0;
  for (size_t c = 0; c < d; ++c) m = std::max(m, static_cast<double>(x[c]));
  for (size_t c = 0; c < d; ++c) sum += f[c] = std::exp(static_cast<double>(x[c]) - m);
  for (double& y : f) y /= sum;
  return f;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t c = 0; c < a.size(); ++c) sum += a[c] * b[c];
  return sum;
}

}  // namespace

Floats naive_sparse_linear(const Inputs& in, const Selection& selected, float alpha) {
  const auto n = static_cast<size_t>(in.n), d = static_cast<size_t>(in.d);
  Floats o(n * d);
  std::vector<std::vector<double>> phi_k;
  for (size_t j = 0; j < n; ++j) phi_k.push_back(feature(&in.k[j * d], d));
  for (size_t i = 0; i < n; ++i) {
    std::vector<bool> exact(n / kBlockK);
    for (const int b : selected[i / kBlockQ]) exact[static_cast<size_t>(b)] = true;
    const std::vector<double> phi_q = feature(&in.q[i * d], d);
    std::vector<double> w(n);
    double top = -INFINITY, sum_exact = 0, sum_linear = 0;
    for (size_t j = 0; j < n; ++j) {
      for (size_t c = 0; c < d; ++c)
        w[j] += static_cast<double>(in.q[i * d + c]) * static_cast<double>(in.k[j * d + c]);
      w[j] /= std::sqrt(static_cast<double>(d));
      if (exact[j / kBlockK]) top = std::max(top, w[j]);
    }
    for (size_t j = 0; j < n; ++j) {
      w[j] = exact[j / kBlockK] ? std::exp(w[j] - top) : dot(phi_q, phi_k[j]);
      (exact[j / kBlockK] ? sum_exact : sum_linear) += w[j];
    }
    // With an empty complement there is nothing to mix in: alpha acts as 1.
    const double a = sum_linear > 0 ? static_cast<double>(alpha) : 1;
    for (size_t c = 0; c < d; ++c) {
      double sum = 0;
      for (size_t j = 0; j < n; ++j)
        sum += static_cast<double>(in.v[j * d + c]) *
               (exact[j / kBlockK] ? a * w[j] / sum_exact : (1 - a) * w[j] / sum_linear);
      o[i * d + c] = static_cast<float>(sum);
    }
  }
  return o;
}

}  // namespace ladder
