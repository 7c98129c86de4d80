#include "tenun/ops/dropout.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"

namespace tenun {
namespace {

constexpr int kBlocks = 64;  // Philox blocks of four words that are computed side by side

// Word 4 i + k of `out` is word k of Philox::at(key, 0, first + i). The lanes i are independent, so
// the loops over them become vector instructions.
void words(uint64_t key, uint64_t first, uint32_t* __restrict out) {
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks] = {}, c3[kBlocks] = {};
  for (int i = 0; i < kBlocks; ++i) {
    const uint64_t block = first + static_cast<uint64_t>(i);
    c0[i] = static_cast<uint32_t>(block), c1[i] = static_cast<uint32_t>(block >> 32);
  }
  auto k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kBlocks; ++i) {
      const uint64_t a = uint64_t{0xD2511F53u} * c0[i], b = uint64_t{0xCD9E8D57u} * c2[i];
      c0[i] = static_cast<uint32_t>(b >> 32) ^ c1[i] ^ k0;
      c1[i] = static_cast<uint32_t>(b);
      c2[i] = static_cast<uint32_t>(a >> 32) ^ c3[i] ^ k1;
      c3[i] = static_cast<uint32_t>(a);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kBlocks; ++i) {
    out[4 * i] = c0[i];
    out[4 * i + 1] = c1[i];
    out[4 * i + 2] = c2[i];
    out[4 * i + 3] = c3[i];
  }
}

void dropout_cpu(Tensor& y, const Tensor& x, double drop, RandomKey key) {
  // uniform < drop, decided on its 24 bits: the same on every device.
  const auto threshold = static_cast<uint32_t>(std::ceil(drop * 0x1p24));
  visit_float(x.dtype(), "dropout", [&]<class T>() {
    using C = Compute<T>;
    const C scale = static_cast<C>(1 / (1 - drop));
    const T* const in = x.data<T>();
    T* const out = y.mutable_data<T>();
    const int64_t n = x.numel();
    constexpr int64_t kStep = kBlocks * 4;
    parallel_for(0, (n + kStep - 1) / kStep, 64, [&](int64_t b, int64_t e) {
      uint32_t w[kStep];
      for (int64_t i = b; i < e; ++i) {
        words(key.key, static_cast<uint64_t>(i * kBlocks), w);
        const int64_t count = std::min(kStep, n - i * kStep);
        const T* const from = in + i * kStep;
        T* const to = out + i * kStep;
        // A select after the product: dropped infinities and NaN become 0.
        for (int64_t j = 0; j < count; ++j) {
          const C kept = static_cast<C>(from[j]) * scale;
          to[j] = T((w[j] >> 8) < threshold ? C(0) : kept);
        }
      }
    });
  });
}

struct Dropout {
  static constexpr const char* name = "dropout";
  double drop = 0;
  SampleKeys keys;  // one for all, or one for each index of the first axis

  [[nodiscard]] Tensor run(const Tensor& x_) const {
    const Tensor x = x_.contiguous();
    Tensor y(x.shape(), x.dtype(), x.device());
    if (keys.size() == 1) {  // of one sample, the elements are counted as of the whole
      kernel::dropout(x.device(), y, x, drop, keys[0]);
      return y;
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      Tensor part = y.select(0, static_cast<int64_t>(i));
      kernel::dropout(x.device(), part, x.select(0, static_cast<int64_t>(i)), drop, keys[i]);
    }
    return y;
  }
  Tensor forward(const Ctx&, const Tensor& x) { return run(x); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {run(dy)}; }
};

void check_operands(const Var& x, double drop) {
  check(drop >= 0 && drop < 1, "dropout", "the drop probability must be in [0, 1), got {}", drop);
  check<DTypeError>(is_floating(x.dtype()), "dropout", "does not take {}; cast it to f32 first",
                    x.value());
}

}  // namespace

constinit Kernel<void(Tensor&, const Tensor&, double, RandomKey)> kernel::dropout{"dropout",
                                                                                  dropout_cpu};

SampleKeys derive_keys(const SampleKeys& keys, Purpose purpose, uint64_t a, uint64_t b) {
  SampleKeys derived;
  for (const RandomKey& k : keys) derived.push_back(RandomKey::derive(k.key, purpose, a, b));
  return derived;
}

Var dropout(const Var& x, double drop, RandomKey key) {
  check_operands(x, drop);
  if (drop == 0) return x;
  return apply(Dropout{drop, {key}}, x);
}

Var dropout(const Var& x, double drop, const SampleKeys& keys) {
  check_operands(x, drop);
  check<ShapeError>(x.rank() >= 1 && x.dim(0) == std::ssize(keys), "dropout",
                    "needs a key for each sample of x {}, got {}", x.value(), keys.size());
  if (drop == 0) return x;
  return apply(Dropout{drop, keys}, x);
}

}  // namespace tenun
