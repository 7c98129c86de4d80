#include "tenun/core/random.h"

#include <numeric>

#include "tenun/core/draw.h"

namespace tenun {
float RandomKey::normal(uint64_t i) const {
  float z[4];
  normals_from(Philox::at(key, 0, i / 4), z);
  return z[i % 4];
}

void fill_uniform(Tensor& x, RandomKey key, double low, double high) {
  x.draw_(
      {Distribution::uniform, key.key, static_cast<float>(low), static_cast<float>(high - low)});
}

void fill_normal(Tensor& x, RandomKey key, double mean, double deviation) {
  x.draw_({Distribution::normal, key.key, static_cast<float>(mean), static_cast<float>(deviation)});
}

std::vector<int64_t> permutation(int64_t n, RandomKey key) {
  std::vector<int64_t> p(static_cast<size_t>(n));
  std::iota(p.begin(), p.end(), int64_t{0});
  for (int64_t i = n - 1; i > 0; --i)
    std::swap(p[static_cast<size_t>(i)],
              p[key.below(static_cast<uint64_t>(i), static_cast<uint64_t>(i + 1))]);
  return p;
}

}  // namespace tenun
