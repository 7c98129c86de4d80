// Philox and what is built on it: known answers, ranges, moments, tails, independence of threads
// and of how a tensor is cut.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/core/random.h"

using namespace tenun;

namespace {

struct Moments {
  double mean = 0, variance = 0, skew = 0, kurtosis = 0;
};
Moments moments(const std::vector<double>& v) {
  Moments m;
  const auto n = static_cast<double>(v.size());
  for (double x : v) m.mean += x / n;
  double s2 = 0, s3 = 0, s4 = 0;
  for (double x : v) {
    const double d = x - m.mean;
    s2 += d * d / n, s3 += d * d * d / n, s4 += d * d * d * d / n;
  }
  m.variance = s2, m.skew = s3 / std::pow(s2, 1.5), m.kurtosis = s4 / (s2 * s2);
  return m;
}

}  // namespace

TEST_SUITE("core_random") {
  TEST_CASE("Philox4x32-10: the vectors of Random123, at run time") {
    struct Vector {
      uint32_t c[4], k[2], want[4];
    };
    const std::vector<Vector> vectors = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
    for (const Vector& v : vectors) {
      const Philox p = Philox::bits(v.c[0], v.c[1], v.c[2], v.c[3], v.k[0], v.k[1]);
      for (int i = 0; i < 4; ++i) CHECK(p.x[i] == v.want[i]);
    }
  }

  TEST_CASE("keys: every argument matters") {
    const RandomKey base = RandomKey::derive(1, Purpose::noise, 2, 3);
    const std::vector<RandomKey> others = {
        RandomKey::derive(2, Purpose::noise, 2, 3),
        RandomKey::derive(uint64_t{1} + (uint64_t{1} << 32), Purpose::noise, 2, 3),
        RandomKey::derive(1, Purpose::time, 2, 3),
        RandomKey::derive(1, Purpose::noise, 3, 3),
        RandomKey::derive(1, Purpose::noise, 2 + (uint64_t{1} << 32), 3),
        RandomKey::derive(1, Purpose::noise, 2, 4)};
    for (const RandomKey k : others) CHECK(k.key != base.key);
    CHECK(RandomKey::derive(1, Purpose::noise, 2, 3).key == base.key);
  }

  TEST_CASE("uniform: range, moments, no step that is empty") {
    Tensor x({1 << 20}, DType::f32);
    fill_uniform(x, RandomKey::derive(3, Purpose::test));
    const auto v = x.values<double>();
    CHECK(*std::min_element(v.begin(), v.end()) >= 0);
    CHECK(*std::max_element(v.begin(), v.end()) < 1);
    const Moments m = moments(v);
    const double n = static_cast<double>(v.size());
    CHECK(std::abs(m.mean - 0.5) < 5 * std::sqrt(1 / 12.0 / n));
    CHECK(std::abs(m.variance - 1 / 12.0) < 5 * std::sqrt(1 / 180.0 / n));
    std::vector<double> bins(256);
    for (double u : v) bins[static_cast<size_t>(u * 256)] += 1;
    double chi2 = 0;
    for (double b : bins) chi2 += (b - n / 256) * (b - n / 256) / (n / 256);
    CHECK(chi2 > 255 - 6 * std::sqrt(510));
    CHECK(chi2 < 255 + 6 * std::sqrt(510));
    CHECK(uniform_from_bits(0) == 0.0f);
    CHECK(uniform_from_bits(~0u) == 1.0f - 0x1p-24f);
    fill_uniform(x, RandomKey{9}, -2, 3);
    const auto w = x.values<double>();
    CHECK(*std::min_element(w.begin(), w.end()) >= -2);
    CHECK(*std::max_element(w.begin(), w.end()) <= 3);
    CHECK(std::abs(moments(w).mean - 0.5) < 0.01);
  }

  TEST_CASE("normal: moments, tails and independence of neighbours") {
    Tensor x({1 << 20}, DType::f32);
    fill_normal(x, RandomKey::derive(4, Purpose::test));
    const auto v = x.values<double>();
    const double n = static_cast<double>(v.size()), root = std::sqrt(n);
    const Moments m = moments(v);
    CHECK(std::abs(m.mean) < 5 / root);
    CHECK(std::abs(m.variance - 1) < 5 * std::sqrt(2) / root);
    CHECK(std::abs(m.skew) < 5 * std::sqrt(6) / root);
    CHECK(std::abs(m.kurtosis - 3) < 5 * std::sqrt(24) / root);
    for (const double t : {1.0, 2.0, 3.0, 4.0}) {
      const double p = std::erfc(t / std::sqrt(2.0));
      const auto out = static_cast<double>(
          std::count_if(v.begin(), v.end(), [t](double z) { return std::abs(z) > t; }));
      CHECK(std::abs(out - n * p) < 5 * std::sqrt(n * p));
    }
    for (const size_t lag : {1, 2, 3, 4}) {
      double r = 0;
      for (size_t i = 0; i + lag < v.size(); ++i) r += v[i] * v[i + lag] / n;
      CHECK(std::abs(r) < 5 / root);
    }
    CHECK(std::all_of(v.begin(), v.end(), [](double z) { return std::isfinite(z); }));
    fill_normal(x, RandomKey{1}, 3, 0.5);
    CHECK(std::abs(moments(x.values<double>()).mean - 3) < 0.01);
    CHECK(std::abs(moments(x.values<double>()).variance - 0.25) < 0.01);
  }

  TEST_CASE("a tensor, its elements and its parts agree, for any number of threads") {
    const RandomKey key = RandomKey::derive(6, Purpose::noise, 1);
    constexpr int64_t kSize = 100003;
    Tensor one({kSize}, DType::f32), u({kSize}, DType::f32), wide({kSize}, DType::f64);
    set_num_threads(1);
    fill_normal(one, key), fill_uniform(u, key), fill_normal(wide, key);
    const auto want = one.values<float>(), want_u = u.values<float>();
    CHECK(wide.values<double>() == std::vector<double>(want.begin(), want.end()));
    for (int64_t i = 0; i < kSize; i += 997) {
      CHECK(key.normal(static_cast<uint64_t>(i)) == want[static_cast<size_t>(i)]);
      CHECK(key.uniform(static_cast<uint64_t>(i)) == want_u[static_cast<size_t>(i)]);
    }
    for (const int threads : {2, 3, 8}) {
      set_num_threads(threads);
      Tensor y({kSize}, DType::f32);
      fill_normal(y, key);
      CHECK(y.values<float>() == want);
      fill_uniform(y, key);
      CHECK(y.values<float>() == want_u);
    }
    set_num_threads(0);
    Tensor start({17}, DType::f32);
    fill_normal(start, key);
    CHECK(start.values<float>() == std::vector<float>(want.begin(), want.begin() + 17));
    // One key for each sample: the batch may be split anywhere.
    Tensor batch({4, 10}, DType::f32);
    for (int64_t s = 0; s < 4; ++s) {
      Tensor row = batch.select(0, s);
      fill_normal(row, RandomKey::derive(6, Purpose::noise, 1, static_cast<uint64_t>(s)));
    }
    Tensor third({10}, DType::f32);
    fill_normal(third, RandomKey::derive(6, Purpose::noise, 1, 2));
    CHECK(batch.select(0, 2).values<float>() == third.values<float>());
    Tensor strided = Tensor({4, 4}, DType::f32).transpose(0, 1);
    CHECK_THROWS_AS(fill_normal(strided, key), ShapeError);
    Tensor whole({3}, DType::i64);
    CHECK_THROWS_AS(fill_uniform(whole, key), DTypeError);
  }

  TEST_CASE("permutations are permutations, each place equally likely") {
    for (const int64_t n : {0, 1, 2, 5, 1000}) {
      auto p = permutation(n, RandomKey::derive(1, Purpose::shuffle, static_cast<uint64_t>(n)));
      std::sort(p.begin(), p.end());
      for (int64_t i = 0; i < n; ++i) CHECK(p[static_cast<size_t>(i)] == i);
    }
    CHECK(permutation(50, RandomKey{1}) != permutation(50, RandomKey{2}));
    CHECK(permutation(50, RandomKey{1}) == permutation(50, RandomKey{1}));
    double counts[4][4] = {};
    constexpr int kTrials = 12000;
    for (uint64_t t = 0; t < kTrials; ++t) {
      const auto p = permutation(4, RandomKey::derive(2, Purpose::shuffle, t));
      for (size_t i = 0; i < 4; ++i) counts[i][p[i]] += 1;
    }
    for (const auto& row : counts)
      for (const double c : row) CHECK(std::abs(c - kTrials / 4.0) < 5 * std::sqrt(kTrials / 4.0));
  }

  TEST_CASE("below: in range and even") {
    const RandomKey key{77};
    std::vector<double> counts(7);
    constexpr int kDraws = 70000;
    for (uint64_t i = 0; i < kDraws; ++i) {
      const uint64_t k = key.below(i, 7);
      REQUIRE(k < 7);
      counts[k] += 1;
    }
    for (const double c : counts) CHECK(std::abs(c - kDraws / 7.0) < 5 * std::sqrt(kDraws / 7.0));
    for (uint64_t i = 0; i < 100; ++i) CHECK(key.below(i, 1) == 0);
  }
}
