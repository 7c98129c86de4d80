#include "tenun/core/random.h"

#include <numeric>

#include "tenun/core/check.h"
#include "tenun/core/math.h"
#include "tenun/core/parallel.h"

namespace tenun {
namespace {

// Box-Muller: two uniforms, the first in (0, 1], make two normals.
void normals(const Philox& p, float (&z)[4]) {
  for (int k = 0; k < 4; k += 2) {
    const float u = static_cast<float>((p.x[k] >> 8) + 1) * 0x1p-24f;
    const float radius = std::sqrt(-2.0f * math::log(u));
    float s = 0, c = 0;
    math::sincos_turns(uniform_from_bits(p.x[k + 1]), s, c);
    z[k] = radius * c;
    z[k + 1] = radius * s;
  }
}

template <class F>
void fill_blocks(Tensor& x, const char* op, RandomKey key, F&& four) {
  check<ShapeError>(x.contiguous_layout(), op, "needs a contiguous tensor");
  visit_float(x.dtype(), op, [&]<class T>() {
    T* p = x.mutable_data<T>();
    const int64_t n = x.numel();
    parallel_for(0, (n + 3) / 4, 4096, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        float v[4];
        four(Philox::at(key.key, 0, static_cast<uint64_t>(i)), v);
        for (int64_t k = 0; k < 4 && i * 4 + k < n; ++k) p[i * 4 + k] = T(v[k]);
      }
    });
  });
}

}  // namespace

float RandomKey::normal(uint64_t i) const {
  float z[4];
  normals(Philox::at(key, 0, i / 4), z);
  return z[i % 4];
}

void fill_uniform(Tensor& x, RandomKey key, double low, double high) {
  const auto a = static_cast<float>(low), d = static_cast<float>(high - low);
  fill_blocks(x, "fill_uniform", key, [=](const Philox& p, float(&v)[4]) {
    for (int k = 0; k < 4; ++k) v[k] = a + d * uniform_from_bits(p.x[k]);
  });
}

void fill_normal(Tensor& x, RandomKey key, double mean, double deviation) {
  const auto m = static_cast<float>(mean), d = static_cast<float>(deviation);
  fill_blocks(x, "fill_normal", key, [=](const Philox& p, float(&v)[4]) {
    normals(p, v);
    for (float& z : v) z = m + d * z;
  });
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
