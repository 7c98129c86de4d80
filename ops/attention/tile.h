// What the drivers of the attention kernels share: rows of heads, scratch memory, pieces of work.
// Internal to ops/attention.
#pragma once
#include <cstdint>

#include "tenun/core/tensor.h"

namespace tenun::attn {

/// Queries (or keys) of a panel: the lanes of one pass.
inline constexpr int64_t kPanel = 64;

/// Pieces of work to give one task, where each costs about `flops`: the bounds depend on sizes
/// only.
[[nodiscard]] inline int64_t grain(int64_t flops) {
  constexpr int64_t kLeast = 400'000;
  return flops >= kLeast ? 1 : kLeast / (flops > 0 ? flops : 1);
}

/// Rows of one head: unit stride along the channels.
template <class T>
struct Rows {
  const T* p;
  int64_t stride;
  [[nodiscard]] const T* row(int64_t i) const { return p + i * stride; }
};

/// (B, H, N, D) tensor of type T with unit channel stride, cut into heads.
template <class T>
class Heads {
 public:
  explicit Heads(const Tensor& t)
      : p_(t.data<T>()),
        heads_(t.dim(1)),
        sb_(t.strides()[0]),
        sh_(t.strides()[1]),
        sn_(t.strides()[2]) {}
  [[nodiscard]] Rows<T> operator[](int64_t bh) const {
    return {p_ + bh / heads_ * sb_ + bh % heads_ * sh_, sn_};
  }

 private:
  const T* p_;
  int64_t heads_, sb_, sh_, sn_;
};

/// x in the compute type (f32, or f64 for f64) with unit stride along the last axis.
[[nodiscard]] Tensor compute_rows(const Tensor& x);
/// Says once in the log that a GPU's tensor cores are not used, and why.
void note_plain_kernel(const char* reason);
/// f64 for f64, else f32.
[[nodiscard]] inline DType compute_dtype(DType d) {
  return d == DType::f64 ? DType::f64 : DType::f32;
}

/// Memory of one task, from the caching allocator; pieces are aligned to whole cache lines.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t elements)
      : memory_({elements + 64}, dtype_of<T>), p_(memory_.mutable_data<T>()), left_(elements) {}
  T* take(int64_t n) {
    T* const at = p_;
    n = (n + 15) / 16 * 16;
    p_ += n, left_ -= n;
    return at;
  }

 private:
  Tensor memory_;
  T* p_;
  int64_t left_;
};

}  // namespace tenun::attn
