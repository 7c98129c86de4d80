// Rung 7: the scores of the exact branch from 8-bit integers (SageAttention, arXiv 2410.02367).
//   K' = K - mean over all tokens       (changes every score of a row by the same amount: exact)
//   q8 = round(q / u),  u = max |Q_I| / 127 for each block;   k8 likewise from K'_J
//   s_ij = u_I u_J (q8_i . k8_j) / sqrt(d),   the dot product exact in 32-bit integers
// The rest is rung 6.
#include <immintrin.h>

#include <cstring>

#include "tenun/examples/attention_ladder/linear.h"
#include "tenun/examples/attention_ladder/tile.h"

namespace ladder {
namespace {

// A block of 64 tokens in 8-bit integers: quads[c / 4][token][c % 4], one unit for all of them.
struct Rounded {
  std::vector<int8_t> quads;
  std::vector<int32_t> sums;  // of each token's integers
  float unit = 0;
};

Rounded round_block(const float* x, int d) {
  constexpr int kTokens = 64;
  Rounded r{std::vector<int8_t>(static_cast<size_t>(kTokens * d)), std::vector<int32_t>(kTokens)};
  float top = 0;
  for (int i = 0; i < kTokens * d; ++i) top = std::max(top, std::abs(x[i]));
  r.unit = top / 127;
  const float inverse = top > 0 ? 127 / top : 0;
  std::vector<int8_t> rows(r.quads.size());
  for (int i = 0; i < kTokens * d; ++i) rows[i] = static_cast<int8_t>(std::rint(x[i] * inverse));
  for (int i = 0; i < kTokens; ++i) {
    for (int c = 0; c < d; ++c) r.sums[i] += rows[i * d + c];
    for (int c = 0; c < d; c += 4)
      std::memcpy(&r.quads[(c / 4 * kTokens + i) * 4], &rows[i * d + c], 4);
  }
  return r;
}

// s (64 x 64) = unit * q8 k8^T. The instruction vpdpbusd multiplies 32 pairs of bytes and adds
// groups of four to eight 32-bit sums: four times the products of a float instruction. Its first
// operand is unsigned, so q + 128 goes in, and 128 * sum(k) comes off again.
__attribute__((target("avx512vnni,avx512vl"))) void multiply_fast(float* s, const Rounded& q,
                                                                  const Rounded& k, int d,
                                                                  float unit) {
  for (int i = 0; i < kBlockQ; i += 4)
    for (int j = 0; j < kBlockK; j += 16) {
      __m256i sum[4][2];
      for (auto& row : sum)
        for (int half = 0; half < 2; ++half) {
          const void* const of_keys = &k.sums[j + 8 * half];
          const __m256i extra =
              _mm256_slli_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(of_keys)), 7);
          row[half] = _mm256_sub_epi32(_mm256_setzero_si256(), extra);
        }
      for (int c = 0; c < d / 4; ++c) {
        const void* const keys = &k.quads[(c * kBlockK + j) * 4];
        const __m256i k0 = _mm256_loadu_si256(static_cast<const __m256i*>(keys)),
                      k1 = _mm256_loadu_si256(static_cast<const __m256i*>(keys) + 1);
        for (int r = 0; r < 4; ++r) {
          uint32_t quad = 0;  // four channels of one query, for all lanes
          std::memcpy(&quad, &q.quads[(c * kBlockQ + i + r) * 4], 4);
          const __m256i all = _mm256_set1_epi32(static_cast<int>(quad ^ 0x80808080U));  // + 128
          sum[r][0] = _mm256_dpbusd_epi32(sum[r][0], all, k0);
          sum[r][1] = _mm256_dpbusd_epi32(sum[r][1], all, k1);
        }
      }
      for (int r = 0; r < 4; ++r)
        for (int half = 0; half < 2; ++half)
          _mm256_storeu_ps(s + (i + r) * kBlockK + j + 8 * half,
                           _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][half]), _mm256_set1_ps(unit)));
    }
}

// The same for processors without that instruction.
void multiply_plain(float* s, const Rounded& q, const Rounded& k, int d, float unit) {
  for (int i = 0; i < kBlockQ; ++i)
    for (int j = 0; j < kBlockK; ++j) {
      int32_t sum = 0;
      for (int c = 0; c < d; ++c)
        sum +=
            q.quads[(c / 4 * kBlockQ + i) * 4 + c % 4] * k.quads[(c / 4 * kBlockK + j) * 4 + c % 4];
      s[i * kBlockK + j] = static_cast<float>(sum) * unit;
    }
}

// K minus its mean over the tokens.
Floats smoothed(const Inputs& in) {
  const int n = in.n, d = in.d;
  std::vector<double> sum(static_cast<size_t>(d));
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < d; ++c) sum[c] += static_cast<double>(in.k[i * d + c]);
  Floats mean(sum.begin(), sum.end()), k = in.k;
  for (float& m : mean) m /= static_cast<float>(n);
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < d; ++c) k[i * d + c] -= mean[c];
  return k;
}

}  // namespace

Floats sparse_linear_int8(const Inputs& in, const Selection& selected, float alpha) {
  const int n = in.n, d = in.d;
  Floats o(in.q.size()), s(kBlockQ * kBlockK);
  const auto multiply =
      __builtin_cpu_supports("avx512vnni") != 0 && __builtin_cpu_supports("avx512vl") != 0
          ? multiply_fast
          : multiply_plain;
  const Floats k = smoothed(in);
  std::vector<Rounded> keys;
  for (int j = 0; j < n; j += kBlockK) keys.push_back(round_block(k.data() + j * d, d));
  const LinearBranch linear(in);
  for (int i = 0; i < n; i += kBlockQ) {
    const std::vector<int>& blocks = selected[static_cast<size_t>(i / kBlockQ)];
    OnlineTile tile(d);
    const Rounded queries = round_block(in.q.data() + i * d, d);
    for (const int block : blocks) {
      const Rounded& these = keys[static_cast<size_t>(block)];
      multiply(s.data(), queries, these, d, queries.unit * these.unit * in.scale());
      tile.take(s.data(), in.v.data() + block * kBlockK * d);
    }
    const bool all = static_cast<int>(blocks.size()) == n / kBlockK;
    const float a = all ? 1 : alpha;
    tile.add_to(o.data() + i * d, a);
    if (!all) linear.add_to(o.data() + i * d, i / kBlockQ, blocks, 1 - a);
  }
  return o;
}

}  // namespace ladder
