// The kernels of the linear branch, one instance per instruction set level (ops/simd/isa.h; safe
// for the per-level sources). A state is phi(K)^T [V, 1]: a matrix [d][pad(d)] and, behind it, the
// row of sums z [pad(d)]. Panels hold up to 64 tokens; rows are contiguous along the channels.
#pragma once
#include "tenun/ops/simd/product_kernels.h"

namespace tenun::simd {

inline constexpr int64_t kPanel = 64;

enum class Feature : uint8_t { softmax, elu, relu };

template <class T>
[[nodiscard]] constexpr int64_t state_size(int64_t d) {
  return (d + 1) * pad<T>(d);
}

template <class T>
struct TokenRows {
  const T* p;
  int64_t stride, count;
};

template <class T>
struct LinearQuery {
  Feature feature;
  T eps;
  int64_t d;
  TokenRows<T> q;
  const T* state;
  T gate;  ///< o = (1 - gate) branch + gate * o; 0: o is only written
  T* o;    ///< [count][d]
  // Backward only: dy of the mix, and where its shares are added.
  TokenRows<T> dy;
  T* dq;       ///< [count][d]; nullptr: not wanted
  T* dstate;   ///< added to
  T* dot;      ///< [count]: dy . branch, without the gate; nullptr: not wanted
  T* scratch;  ///< linear_query_scratch(pad(d)) elements
};

/// q, phi(q), O_l^T and three more panels of the backward, or the state and phi(q) in pairs.
constexpr int64_t linear_query_scratch(int64_t wide) { return (512 + wide / 2) * wide; }

template <class T>
struct LinearKeys {
  Feature feature;
  int64_t d;
  TokenRows<T> k, v;
  T* state;  ///< forward: written by the first panel of a block, added to by the others
  bool first;
  const T* dstate;             ///< backward
  const T* dstate_transposed;  ///< [channel][pad(d)] of its matrix
  T *dk, *dv;                  ///< [count][d]: added to; nullptr: not wanted
  T* scratch;                  ///< 320 pad(d) elements
};

template <class T>
struct LinearKernels {
  void (*add_state)(const LinearKeys<T>&);
  /// out = base + sign * sum of the listed states (of `size` elements each); no base: 0
  void (*combine)(const T* base, const T* states, const int32_t* list, int64_t count, T sign,
                  int64_t size, T* out);
  void (*query)(const LinearQuery<T>&);
  void (*query_backward)(const LinearQuery<T>&);
  void (*key_backward)(const LinearKeys<T>&);
};
struct LinearFamily {
  LinearKernels<float> f32;
  LinearKernels<double> f64;
  LinearKernels<float> low;  ///< forward products in bf16
};

namespace avx2 {
extern const LinearFamily linear_kernels;
}
namespace avx512 {
extern const LinearFamily linear_kernels;
}
namespace avx512_bf16 {
extern const LinearFamily linear_kernels;
}

}  // namespace tenun::simd
