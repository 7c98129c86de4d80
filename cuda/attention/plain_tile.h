// What the plain kernels share: tiles of 32 x 32 products on the ordinary arithmetic units, any
// type, stride, head size and block size. They are the reference on the device and run what the
// tensor-core kernels do not: f64, head sizes above 128 and a few rare combinations. 256 threads:
// thread t works on row t / 8 and on columns t % 8 + 8 x of a tile.
#pragma once
#include <limits>

#include "tenun/core/philox.h"
#include "tenun/cuda/attention/args.h"
#include "tenun/cuda/elements.h"

namespace tenun::TENUN_BACKEND::attention {

inline constexpr int kTile = 32, kPitch = kTile + 1;
inline constexpr int kSlab = 256;  ///< channels of a result that one block of threads computes
inline constexpr int kSums = kSlab / 8;

template <class C>
__device__ __forceinline__ C element(const Rows& x, int64_t at) {
  return load_as<C>(x.p, x.dtype, at);
}
__device__ __forceinline__ int64_t head_offset(const Rows& x, int64_t bh) {
  return bh / x.heads * x.batch + bh % x.heads * x.head;
}
__device__ __forceinline__ int64_t blocks_of(int64_t n, int64_t block) {
  return (n + block - 1) / block;
}

/// Tokens in the order in which they are visited: those of listed blocks, or all of [0, n).
struct Sequence {
  const int32_t* index;
  int64_t count, block, n;
  static __device__ __forceinline__ Sequence of(const Lists& l, int64_t list, int64_t block,
                                                int64_t n) {
    if (l.start == nullptr) return {nullptr, n, block, n};
    const int64_t first = l.start[list];
    return {l.index + first, (l.start[list + 1] - first) * block, block, n};
  }
  /// -1 behind the end, and for what a short last block lacks.
  __device__ __forceinline__ int token(int64_t at) const {
    if (at >= count) return -1;
    const int64_t t = index != nullptr ? index[at / block] * block + at % block : at;
    return t < n ? static_cast<int>(t) : -1;
  }
};

/// Tokens at..at+31 (below `end`) of a sequence into shared memory. Visible after a barrier.
__device__ __forceinline__ void take_tokens(int* ids, const Sequence& s, int64_t at, int64_t end) {
  __syncthreads();  // nobody reads the old ones
  const int t = static_cast<int>(threadIdx.x);
  if (t < kTile) ids[t] = at + t < end ? s.token(at + t) : -1;
}

/// Channels c0..c0+31 of 32 tokens; zeros where there is no token or channel.
template <class C>
__device__ __forceinline__ void load_chunk(C* tile, const Rows& x, int64_t base, const int* ids,
                                           int64_t c0, int64_t d) {
  const int t = static_cast<int>(threadIdx.x), c = t % kTile;
  TENUN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int r = t / kTile + 8 * i, id = ids[r];
    tile[r * kPitch + c] =
        id >= 0 && c0 + c < d ? element<C>(x, base + id * x.row + (c0 + c) * x.column) : C(0);
  }
}

/// s[x] += X[row] . Y[column x] over all channels.
template <class C>
__device__ __forceinline__ void dot_tile(C (&s)[4], C* xt, C* yt, const Rows& x, int64_t x_base,
                                         const int* x_ids, const Rows& y, int64_t y_base,
                                         const int* y_ids, int64_t d) {
  const int t = static_cast<int>(threadIdx.x), r = t / 8, c = t % 8;
  for (int64_t c0 = 0; c0 < d; c0 += kTile) {
    __syncthreads();
    load_chunk(xt, x, x_base, x_ids, c0, d);
    load_chunk(yt, y, y_base, y_ids, c0, d);
    __syncthreads();
    TENUN_UNROLL
    for (int k = 0; k < kTile; ++k) {
      const C v = xt[r * kPitch + k];
      TENUN_UNROLL
      for (int i = 0; i < 4; ++i) s[i] += v * yt[(c + 8 * i) * kPitch + k];
    }
  }
}

/// sums += P Y for channels [first, first + kSlab) of Y; sum 4 i + x is channel first + 32 i + t %
/// 8
/// + 8 x of row t / 8. The barriers inside make P visible.
template <class C>
__device__ __forceinline__ void add_product(C (&sums)[kSums], const C* p, C* yt, const Rows& y,
                                            int64_t y_base, const int* y_ids, int64_t first,
                                            int64_t d) {
  const int t = static_cast<int>(threadIdx.x), r = t / 8, c = t % 8;
  TENUN_UNROLL
  for (int i = 0; i < kSlab / kTile; ++i) {
    if (first + i * kTile < d) {
      __syncthreads();
      load_chunk(yt, y, y_base, y_ids, first + i * kTile, d);
      __syncthreads();
      TENUN_UNROLL
      for (int j = 0; j < kTile; ++j) {
        const C w = p[r * kPitch + j];
        TENUN_UNROLL
        for (int x = 0; x < 4; ++x) sums[4 * i + x] += w * yt[j * kPitch + c + 8 * x];
      }
    }
  }
}

/// Sum and maximum over the eight threads of a row.
template <class C>
__device__ __forceinline__ C row_sum(C v) {
  TENUN_UNROLL
  for (int o = 1; o < 8; o <<= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
template <class C>
__device__ __forceinline__ C row_max(C v) {
  TENUN_UNROLL
  for (int o = 1; o < 8; o <<= 1) {
    const C w = __shfl_xor_sync(0xffffffffu, v, o);
    v = w > v ? w : v;
  }
  return v;
}

/// Is the probability kept that number `lane` of four random numbers belongs to?
__device__ __forceinline__ bool is_kept(const FlashProblem& p, const Philox& four, int lane) {
  const uint32_t bits = lane == 0   ? four.x[0]
                        : lane == 1 ? four.x[1]
                        : lane == 2 ? four.x[2]
                                    : four.x[3];
  return uniform_from_bits(bits) >= p.dropout;
}
/// The factor of probability (bh, i, j): 0, or 1 / (1 - dropout). Bits as on the CPU.
template <class C>
__device__ __forceinline__ C keep_factor(const FlashProblem& p, int64_t bh, int64_t i, int64_t j) {
  if (p.dropout == 0) return C(1);
  const int64_t at = (bh * p.nq + i) * p.nk + j;
  const Philox four = Philox::at(p.key, 0, static_cast<uint64_t>(at / 4));
  return is_kept(p, four, static_cast<int>(at % 4)) ? static_cast<C>(p.keep_scale) : C(0);
}

/// Rounded to FP8 E4M3, halves to even: 3 bits behind the leading one from 2^-6 on, steps of 2^-9
/// below; at most 448.
template <class C>
__device__ __forceinline__ C to_e4m3(C x) {
  int exponent = 0;
  frexp(x, &exponent);  // |x| = f 2^exponent, f in [1/2, 1)
  const C step = ldexp(C(1), (exponent - 1 > -6 ? exponent - 1 : -6) - 3);
  const C y = rint(x / step) * step;
  return y > C(448) ? C(448) : y < C(-448) ? C(-448) : y;
}

/// The smallest weight that counts: its logarithm stays finite.
template <class C>
__device__ __forceinline__ C at_least_smallest(C w) {
  const C least = std::numeric_limits<C>::min();
  return w > least ? w : least;
}
template <class C>
__device__ __forceinline__ C weight_of(const FlashProblem& p, int64_t bh, int64_t i, int64_t j) {
  const int64_t tm = blocks_of(p.nq, p.block_q), tn = blocks_of(p.nk, p.block_k);
  const C w = static_cast<const C*>(p.weight)[(bh * tm + i / p.block_q) * tn + j / p.block_k];
  return at_least_smallest(w);
}

/// Rows of a result that a block of threads computes: tiles do not cross blocks with lists.
struct RowTile {
  int64_t list, first, end;
  static __device__ __forceinline__ RowTile of(const Lists& l, int64_t bh, int64_t n,
                                               int64_t block) {
    const int64_t size = l.start != nullptr ? block : n;
    const int64_t per = blocks_of(size < n ? size : n, kTile), i = blockIdx.x / per;
    const int64_t first = i * size + blockIdx.x % per * kTile,
                  end = (i + 1) * size < n ? (i + 1) * size : n;
    return {bh * blocks_of(n, size) + i, first, end};
  }
};
/// How many of them there are.
inline int64_t row_tiles(const Lists& l, int64_t n, int64_t block) {
  const int64_t size = l.start != nullptr ? block : n, least = size < n ? size : n;
  return (n + size - 1) / size * ((least + kTile - 1) / kTile);
}

}  // namespace tenun::TENUN_BACKEND::attention
