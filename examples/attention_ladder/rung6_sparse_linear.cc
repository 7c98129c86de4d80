// Rung 6: the keys that were not selected are not forgotten, but seen through linear attention
// (SLA2, arXiv 2602.12675): O = alpha O_exact + (1 - alpha) O_linear.
//   O_linear,i = sum_j phi(q_i).phi(k_j) v_j / sum_j phi(q_i).phi(k_j)   over the others
//              = phi(q_i) H / (phi(q_i) . Z),   H = sum_J h_J = H_all - sum over selected h_J
// with h_J = phi(K_J)^T V_J and phi = softmax over the channels of a token.
#include "tenun/examples/attention_ladder/linear.h"
#include "tenun/examples/attention_ladder/tile.h"

namespace ladder {
namespace {

// y (rows x d) = phi(x)
void features(float* y, const float* x, int rows, int d) {
  for (int i = 0; i < rows; ++i) {
    float m = -INFINITY, sum = 0;
    for (int c = 0; c < d; ++c) m = std::max(m, x[i * d + c]);
    for (int c = 0; c < d; ++c) y[i * d + c] = exp_poly(x[i * d + c] - m);
    for (int c = 0; c < d; ++c) sum += y[i * d + c];
    for (int c = 0; c < d; ++c) y[i * d + c] /= sum;
  }
}

}  // namespace

LinearBranch::LinearBranch(const Inputs& in)
    : in_(in),
      state_(in.d * in.d + in.d),
      states_(static_cast<size_t>(in.n / kBlockK * state_)),
      total_(static_cast<size_t>(state_)) {
  const int d = in.d;
  Floats phi(static_cast<size_t>(kBlockK * d)), phi_t(phi.size());
  for (int block = 0; block < in.n / kBlockK; ++block) {
    float* const h = states_.data() + block * state_;
    features(phi.data(), in.k.data() + block * kBlockK * d, kBlockK, d);
    transpose(phi_t.data(), phi.data(), kBlockK, d);
    multiply_add(h, d, phi_t.data(), kBlockK, in.v.data() + block * kBlockK * d, d, d, kBlockK, d);
    for (int j = 0; j < kBlockK; ++j)
      for (int c = 0; c < d; ++c) h[d * d + c] += phi[static_cast<size_t>(j * d + c)];
    for (int c = 0; c < state_; ++c) total_[static_cast<size_t>(c)] += h[c];
  }
}

void LinearBranch::add_to(float* out, int query_block, const std::vector<int>& selected,
                          float weight) const {
  const int d = in_.d;
  Floats rest = total_;  // the complement as a difference of states
  for (const int block : selected) {
    const float* const h = states_.data() + block * state_;
    for (int c = 0; c < state_; ++c) rest[static_cast<size_t>(c)] -= h[c];
  }
  Floats phi(static_cast<size_t>(kBlockQ * d)), o(phi.size());
  features(phi.data(), in_.q.data() + query_block * kBlockQ * d, kBlockQ, d);
  multiply_add(o.data(), d, phi.data(), d, rest.data(), d, kBlockQ, d, d);
  const float* const z = rest.data() + d * d;
  for (int i = 0; i < kBlockQ; ++i) {
    float sum = 0;
    for (int c = 0; c < d; ++c) sum += phi[static_cast<size_t>(i * d + c)] * z[c];
    for (int c = 0; c < d; ++c) out[i * d + c] += weight * o[static_cast<size_t>(i * d + c)] / sum;
  }
}

Floats sparse_linear(const Inputs& in, const Selection& selected, float alpha) {
  const int n = in.n, d = in.d;
  Floats o(in.q.size()), kt(in.k.size()), s(kBlockQ * kBlockK);
  for (int j = 0; j < n; j += kBlockK)
    transpose(kt.data() + j * d, in.k.data() + j * d, kBlockK, d);
  const LinearBranch linear(in);
  for (int i = 0; i < n; i += kBlockQ) {
    const std::vector<int>& blocks = selected[static_cast<size_t>(i / kBlockQ)];
    OnlineTile tile(d);
    Floats q(in.q.begin() + i * d, in.q.begin() + (i + kBlockQ) * d);
    for (float& x : q) x *= in.scale();
    for (const int block : blocks) {
      const int j = block * kBlockK;
      std::fill(s.begin(), s.end(), 0.0F);
      multiply_add(s.data(), kBlockK, q.data(), d, kt.data() + j * d, kBlockK, kBlockQ, d, kBlockK);
      tile.take(s.data(), in.v.data() + j * d);
    }
    const bool all = static_cast<int>(blocks.size()) == n / kBlockK;
    const float a = all ? 1 : alpha;  // an empty complement has nothing to add
    tile.add_to(o.data() + i * d, a);
    if (!all) linear.add_to(o.data() + i * d, i / kBlockQ, blocks, 1 - a);
  }
  return o;
}

}  // namespace ladder
