// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a pure
// function from a 128-bit counter and a 64-bit key to 128 random bits. Everything random in Tenun
// is such a function of (seed, purpose, step, sample, element), so it does not depend on the number
// of threads, the split of a batch, or recomputation. Host and device share this text.
#pragma once
#include <array>
#include <cstdint>

#if defined(__CUDACC__)
#define TENUN_HD __host__ __device__
#else
#define TENUN_HD
#endif

namespace tenun {

struct Philox {
  uint32_t x[4];

  /// The ten rounds: 128 random bits for counter `c` under key `k`.
  TENUN_HD static constexpr Philox bits(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3,
                                        uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; ++round) {
      const uint64_t a = uint64_t{0xD2511F53u} * c0, b = uint64_t{0xCD9E8D57u} * c2;
      c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
      c1 = static_cast<uint32_t>(b);
      c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
      c3 = static_cast<uint32_t>(a);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
  }

  /// The same with a 64-bit block index, a 64-bit stream and a 64-bit seed.
  TENUN_HD static constexpr Philox at(uint64_t seed, uint64_t stream, uint64_t block) {
    return bits(static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32),
                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  }
};

/// 24 random bits as a float in [0, 1): exact, so equal on every device.
TENUN_HD constexpr float uniform_from_bits(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

// The known answers of Random123's test vectors, checked at compile time.
static_assert(Philox::bits(0, 0, 0, 0, 0, 0).x[0] == 0x6627e8d5u);
static_assert(Philox::bits(0, 0, 0, 0, 0, 0).x[3] == 0x9b00dbd8u);
static_assert(Philox::bits(~0u, ~0u, ~0u, ~0u, ~0u, ~0u).x[1] == 0x41c83b0eu);
static_assert(Philox::bits(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0)
                  .x[2] == 0x5001e420u);

}  // namespace tenun
