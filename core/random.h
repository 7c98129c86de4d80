// Random tensors as a pure function of a key and the element's index: independent of threads, of
// how a batch is split, and of recomputation. A key is derived from (seed, purpose, a, b), where a
// and b are usually the step and the global index of the sample.
//
//   Tensor noise({3, 64, 64}, DType::f32);
//   fill_normal(noise, RandomKey::derive(seed, Purpose::noise, step, sample));
//
// Element i takes lane i % 4 of philox(key, block i / 4). Bits and uniforms are equal on every
// device; normals (Box-Muller on lane pairs, through the polynomials of core/math.h) within 4 ulp.
#pragma once
#include "tenun/core/philox.h"
#include "tenun/core/tensor.h"

namespace tenun {

/// What a random number is for: keeps streams apart. Values are part of the checkpoint contract.
enum class Purpose : uint32_t {
  init = 1,
  dropout,
  noise,
  time,
  class_drop,
  shuffle,
  augment,
  sample,
  data,
  test,
  user
};

struct RandomKey {
  uint64_t key = 0;
  [[nodiscard]] static constexpr RandomKey derive(uint64_t seed, Purpose purpose, uint64_t a = 0,
                                                  uint64_t b = 0) {
    const Philox p = Philox::bits(
        static_cast<uint32_t>(a), static_cast<uint32_t>(a >> 32), static_cast<uint32_t>(b),
        static_cast<uint32_t>(b >> 32) ^ (static_cast<uint32_t>(purpose) << 16),
        static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    return {uint64_t{p.x[1]} << 32 | p.x[0]};
  }
  [[nodiscard]] constexpr uint32_t bits(uint64_t i) const {
    return Philox::at(key, 0, i / 4).x[i % 4];
  }
  [[nodiscard]] constexpr float uniform(uint64_t i) const {
    return uniform_from_bits(bits(i));
  }  ///< [0, 1)
  /// An integer in [0, n), n >= 1, without bias worth naming (64-bit multiply-high of 32 bits).
  [[nodiscard]] constexpr uint64_t below(uint64_t i, uint64_t n) const {
    return (uint64_t{bits(i)} * n) >> 32;
  }
  [[nodiscard]] float normal(uint64_t i) const;
};

/// x_i = low + (high - low) * u_i, computed in f32 for every floating dtype (f64 holds the same
/// numbers).
void fill_uniform(Tensor& x, RandomKey key, double low = 0, double high = 1);
/// x_i = mean + deviation * z_i, likewise.
void fill_normal(Tensor& x, RandomKey key, double mean = 0, double deviation = 1);
/// A permutation of 0..n-1 (Fisher-Yates).
[[nodiscard]] std::vector<int64_t> permutation(int64_t n, RandomKey key);

}  // namespace tenun
