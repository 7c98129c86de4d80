// Tiles in shared memory for the tensor cores, of 8, 16 or 32 bits. A row has ROWB bytes; its
// 16-byte chunks are permuted by XOR, so that 8 neighbouring rows of one column of chunks lie in 8
// different groups of banks: ldmatrix, cp.async and stores of fragments are then free of conflicts.
// Addresses of a fragment: one offset of the lane for each kind of load, XOR 32 bytes for each step
// along the row, plus rows * ROWB (16 rows leave the permutation unchanged). Layouts: cuda/ptx.h.
// A D of the template holds any head size d <= D that is a multiple of 8: zeros behind d.
// f32 numbers are multiplied as sums of two TF32 numbers (Ootomo and Yokota 2022): x y = X Y + X y'
// + x' Y with x' = x - X; x' y' is less than f32's last digit. Tensor cores round sums towards
// zero: sums over tokens take few products in a sum of their own, which is then added in f32.
#pragma once
#include "tenun/cuda/attention/plain_tile.h"
#include "tenun/cuda/e4m3.h"

namespace tenun::TENUN_BACKEND::attention {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
inline constexpr int kKeys = 64;
/// Tokens of a piece that is streamed: 64, or in f32 as many as make 8 kB.
template <class T, int D>
inline constexpr int kStreamed = sizeof(T) == 4 ? 2048 / D : kKeys;

/// A factor of a product of a warp: the registers of an A operand (4) or of a B operand (2).
template <class T, int N>
struct Factor {
  unsigned v[N];
};
template <int N>
struct Factor<float, N> {
  unsigned v[N], rest[N];  ///< TF32 numbers
};
template <class T, int N>
__device__ __forceinline__ Factor<T, N> factor(const unsigned (&v)[N]) {
  Factor<T, N> f;
  TENUN_UNROLL
  for (int i = 0; i < N; ++i) {
    f.v[i] = v[i];
    if constexpr (std::is_same_v<T, float>) {
      // As to_tf32() rounds. An infinity has no rest: products with it are NaN.
      f.v[i] = (v[i] + 0x1000u) & ~0x1fffu;
      f.rest[i] = __float_as_uint(__uint_as_float(v[i]) - __uint_as_float(f.v[i]));
    }
  }
  return f;
}

/// d += A B; sums are floats, of int8_t ints.
template <class T, class Sum>
__device__ __forceinline__ void mma(Sum (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (std::is_same_v<T, f16>)
    mma_f16(d, a, b0, b1);
  else if constexpr (std::is_same_v<T, int8_t>)
    mma_s8(d, a, b0, b1);
  else if constexpr (std::is_same_v<T, E4M3>)
    product_e4m3(d, a, b0, b1);
  else if constexpr (std::is_same_v<T, bf16>)
    mma_bf16(d, a, b0, b1);
  else  // rounded to TF32 by the caller
    mma_tf32(d, a, b0, b1);
}
template <class T, class Sum>
__device__ __forceinline__ void multiply(Sum (&d)[4], const Factor<T, 4>& a,
                                         const Factor<T, 2>& b) {
  if constexpr (std::is_same_v<T, float>)
    mma_tf32_pairs(d, a.v, a.rest, b.v, b.rest);
  else
    mma<T>(d, a.v, b.v[0], b.v[1]);
}
template <class T>
__device__ __forceinline__ unsigned pack(float low, float high) {
  return std::is_same_v<T, f16> ? pack_f16(low, high) : pack_bf16(low, high);
}

template <int ROWB>
__device__ __forceinline__ int swizzled(int row, int chunk) {
  static_assert(ROWB == 64 || ROWB % 128 == 0);
  return row * ROWB + ((ROWB == 64 ? chunk ^ (row >> 1 & 3) : chunk ^ (row & 7)) << 4);
}

/// Tokens of a stage: visited in the order of a list, -1 where there is none. 32-bit, for speed.
struct Visit {
  const int32_t* index;
  int count, block, n;  ///< `count` positions; those from `valid` on have no token
  int valid;
  static __device__ __forceinline__ Visit of(const Lists& l, int64_t list, int64_t block,
                                             int64_t n) {
    const int all = static_cast<int>(n), b = static_cast<int>(block);
    if (l.start == nullptr) return {nullptr, all, b, all, all};
    const int64_t first = l.start[list];
    const int blocks = static_cast<int>(l.start[list + 1] - first);
    const int32_t* const index = l.index + first;
    // Lists are in increasing order: only the last block can be short.
    const int last = blocks > 0 ? (index[blocks - 1] + 1) * b : 0;
    return {index, blocks * b, b, all, blocks * b - (last > all ? last - all : 0)};
  }
  __device__ __forceinline__ int token(int at) const {
    if (at >= valid) return -1;
    return index == nullptr ? at : index[at / block] * block + at % block;
  }
};

/// A row-major operand of one head: bytes.
struct Bytes {
  const unsigned char* p;
  int64_t row;
  int chunks;  ///< 16-byte chunks of a row that are there
  template <class T>
  static __device__ __forceinline__ Bytes of(const Rows& x, int64_t bh, int64_t d) {
    return {static_cast<const unsigned char*>(x.p) +
                head_offset(x, bh) * static_cast<int64_t>(sizeof(T)),
            x.row * static_cast<int64_t>(sizeof(T)), static_cast<int>(d * sizeof(T) / 16)};
  }
};

/// ROWS tokens whose numbers are in shared memory into a tile, asynchronously; zeros for -1.
template <int ROWS, int ROWB, int THREADS>
__device__ __forceinline__ void load_tokens(unsigned char* tile, const Bytes& x, const int* ids,
                                            int tid) {
  constexpr int kChunks = ROWB / 16, kStep = THREADS / kChunks, kOwn = ROWS / kStep;
  static_assert(THREADS % kChunks == 0 && ROWS % kStep == 0);
  const int c = tid % kChunks, r = tid / kChunks;
  int id[kOwn];  // all at once: a copy, which may write anywhere, would hold the next one up
  TENUN_UNROLL
  for (int i = 0; i < kOwn; ++i) id[i] = ids[r + i * kStep];
  TENUN_UNROLL
  for (int i = 0; i < kOwn; ++i) {
    const bool valid = id[i] >= 0 && c < x.chunks;
    cp_async16(tile + swizzled<ROWB>(r + i * kStep, c),
               x.p + (valid ? id[i] * x.row + c * 16 : int64_t{0}), valid);
  }
}
/// The same for tokens first..first + ROWS - 1 below `end`.
template <int ROWS, int ROWB, int THREADS>
__device__ __forceinline__ void load_rows(unsigned char* tile, const Bytes& x, int first, int end,
                                          int tid) {
  constexpr int kChunks = ROWB / 16, kStep = THREADS / kChunks;
  static_assert(THREADS % kChunks == 0 && ROWS % kStep == 0);
  const int c = tid % kChunks;
  TENUN_UNROLL
  for (int i = 0; i < ROWS / kStep; ++i) {
    const int r = tid / kChunks + i * kStep;
    const bool valid = first + r < end && c < x.chunks;
    cp_async16(tile + swizzled<ROWB>(r, c),
               x.p + (valid ? (first + r) * x.row + c * 16 : int64_t{0}), valid);
  }
}

/// Offsets of a lane: for rows as A operands (and B operands of P Y), for columns as B operands of
/// X Y^T (and A operands of X^T Y).
template <int ROWB>
__device__ __forceinline__ int offset_rows(int lane) {
  return swizzled<ROWB>(lane & 15, lane >> 4);
}
template <int ROWB>
__device__ __forceinline__ int offset_columns(int lane) {
  return swizzled<ROWB>((lane & 7) + (lane >> 4 << 3), lane >> 3 & 1);
}
/// A operand: rows row0..row0 + 15, 32 bytes number `step`. By offset_rows.
template <int ROWB>
__device__ __forceinline__ void load_a(unsigned (&a)[4], const unsigned char* tile, int offset,
                                       int row0, int step) {
  ldmatrix_x4(a, tile + (offset ^ step << 5) + row0 * ROWB);
}
/// B operand of X Y^T: rows n0..n0 + 15 of Y; b[0], b[1] and b[2], b[3] of 8 each. By
/// offset_columns.
template <int ROWB>
__device__ __forceinline__ void load_bt(unsigned (&b)[4], const unsigned char* tile, int offset,
                                        int n0, int step) {
  ldmatrix_x4(b, tile + (offset ^ step << 5) + n0 * ROWB);
}
/// B operand of P Y: rows k0..k0 + 15 of Y, columns 16 n..16 n + 15. By offset_rows.
template <int ROWB>
__device__ __forceinline__ void load_b(unsigned (&b)[4], const unsigned char* tile, int offset,
                                       int k0, int n) {
  ldmatrix_x4_t(b, tile + (offset ^ n << 5) + k0 * ROWB);
}
/// A operand of X^T Y: columns 16 m..16 m + 15 of X, k = rows k0..k0 + 15. By offset_columns.
template <int ROWB>
__device__ __forceinline__ void load_at(unsigned (&a)[4], const unsigned char* tile, int offset,
                                        int k0, int m) {
  ldmatrix_x4_t(a, tile + (offset ^ m << 5) + k0 * ROWB);
}
/// B operand of P Y in f32, whose rows ldmatrix cannot turn: rows k0 + 2 t and k0 + 2 t + 1 of
/// column 8 n + g. The depth of the product has the order in which a lane holds P (sums_to_a).
template <int ROWB>
__device__ __forceinline__ void load_b_single(unsigned (&b)[2], const unsigned char* tile, int k0,
                                              int n) {
  const int lane = static_cast<int>(threadIdx.x) & 31, g = lane >> 2, row = (lane & 3) * 2;
  TENUN_UNROLL
  for (int r = 0; r < 2; ++r)
    b[r] = *reinterpret_cast<const unsigned*>(
        tile + k0 * ROWB + (swizzled<ROWB>(row + r, g >> 2) ^ n << 5) + (g & 3) * 4);
}
/// The sums of a tile of 8 columns as an A operand of f32: columns 2 t, then columns 2 t + 1.
__device__ __forceinline__ void sums_to_a_single(unsigned (&a)[4], const float (&x)[4]) {
  a[0] = __float_as_uint(x[0]), a[1] = __float_as_uint(x[2]);
  a[2] = __float_as_uint(x[1]), a[3] = __float_as_uint(x[3]);
}
/// The sums of two neighbouring tiles of 8 columns are one A operand of 16 columns.
template <class T>
__device__ __forceinline__ void sums_to_a(unsigned (&a)[4], const float (&x)[4],
                                          const float (&y)[4]) {
  a[0] = pack<T>(x[0], x[1]), a[1] = pack<T>(x[2], x[3]);
  a[2] = pack<T>(y[0], y[1]), a[3] = pack<T>(y[2], y[3]);
}

/// s += X Y^T: 16 MT rows of X and 8 N rows of Y from row y0 on, rows of kBytes. By offset_rows and
/// offset_columns.
template <class T, int kBytes, int MT, int N, class Sum>
__device__ __forceinline__ void add_scores(Sum (&s)[MT][N][4], const unsigned char* x,
                                           const unsigned char* y, int at_x, int at_y, int y0 = 0) {
  TENUN_UNROLL
  for (int step = 0; step < kBytes / 32; ++step) {
    Factor<T, 4> a[MT];
    TENUN_UNROLL
    for (int i = 0; i < MT; ++i) {
      unsigned r[4];
      load_a<kBytes>(r, x, at_x, 16 * i, step);
      a[i] = factor<T>(r);
    }
    TENUN_UNROLL
    for (int n = 0; n < N / 2; ++n) {
      unsigned r[4];
      load_bt<kBytes>(r, y, at_y, y0 + n * 16, step);
      const Factor<T, 2> b0 = factor<T>({r[0], r[1]}), b1 = factor<T>({r[2], r[3]});
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) {
        multiply<T>(s[i][2 * n], a[i], b0);
        multiply<T>(s[i][2 * n + 1], a[i], b1);
      }
    }
  }
}
/// o += P Y for 16 columns of P, number `step`: P from the sums of 16 MT rows and 8 N columns,
/// whose rows of Y stand from y0 on. By offset_rows.
template <class T, int D, int MT, int N>
requires(!std::is_same_v<T, float>) __device__ __forceinline__
    void add_value_step(float (&o)[MT][D / 8][4], const float (&s)[MT][N][4], int step,
                        const unsigned char* y, int at_y, int y0) {
  Factor<T, 4> w[MT];
  TENUN_UNROLL
  for (int i = 0; i < MT; ++i) {
    unsigned r[4];
    sums_to_a<T>(r, s[i][2 * step], s[i][2 * step + 1]);
    w[i] = factor<T>(r);
  }
  TENUN_UNROLL
  for (int n = 0; n < D / 16; ++n) {
    unsigned r[4];
    load_b<2 * D>(r, y, at_y, y0 + step * 16, n);
    const Factor<T, 2> b0 = factor<T>({r[0], r[1]}), b1 = factor<T>({r[2], r[3]});
    TENUN_UNROLL
    for (int i = 0; i < MT; ++i) {
      multiply<T>(o[i][2 * n], w[i], b0);
      multiply<T>(o[i][2 * n + 1], w[i], b1);
    }
  }
}
/// The same in f32: twice 8 columns of P. kApart: they have a sum of their own (above).
template <class T, int D, bool kApart = true, int N>
requires std::is_same_v<T, float> __device__ __forceinline__ void add_value_step(
    float (&o)[1][D / 8][4], const float (&s)[1][N][4], int step, const unsigned char* y, int,
    int y0) {
  Factor<T, 4> w[2];
  TENUN_UNROLL
  for (int half = 0; half < 2; ++half) {
    unsigned r[4];
    sums_to_a_single(r, s[0][2 * step + half]);
    w[half] = factor<T>(r);
  }
  TENUN_UNROLL
  for (int n = 0; n < D / 8; ++n) {
    float own[4] = {};
    TENUN_UNROLL
    for (int half = 0; half < 2; ++half) {
      unsigned r[2];
      load_b_single<4 * D>(r, y, y0 + step * 16 + half * 8, n);
      multiply<T>(kApart ? own : o[0][n], w[half], factor<T>(r));
    }
    if constexpr (kApart) {
      TENUN_UNROLL
      for (int e = 0; e < 4; ++e) o[0][n][e] += own[e];
      if (n % 2 == 1) in_order();  // else the sums of all n take more registers than there are
    }
  }
}
/// All 8 N columns of P.
template <class T, int D, int MT, int N>
__device__ __forceinline__ void add_values(float (&o)[MT][D / 8][4], const float (&s)[MT][N][4],
                                           const unsigned char* y, int at_y, int y0 = 0) {
  TENUN_UNROLL
  for (int step = 0; step < N / 2; ++step) add_value_step<T, D>(o, s, step, y, at_y, y0);
}

template <class V, int N>
__device__ __forceinline__ void set_all(V (&x)[N][4], V v) {
  TENUN_UNROLL
  for (int n = 0; n < N; ++n) {
    TENUN_UNROLL
    for (int e = 0; e < 4; ++e) x[n][e] = v;
  }
}
/// Row and column of sum e of tile n, as mma has them (cuda/ptx.h).
__device__ __forceinline__ int row_of(int e, int lane) { return (lane >> 2) + (e >= 2 ? 8 : 0); }
__device__ __forceinline__ int column_of(int n, int e, int lane) {
  return n * 8 + (lane & 3) * 2 + (e & 1);
}

/// -inf for the columns from `valid` on; the first one is number `first`.
template <int N>
__device__ __forceinline__ void mask_tail(float (&s)[N][4], int first, int valid, int lane) {
  TENUN_UNROLL
  for (int n = 0; n < N; ++n) {
    TENUN_UNROLL
    for (int e = 0; e < 4; ++e)
      if (first + column_of(n, e, lane) >= valid) s[n][e] = -INFINITY;
  }
}

__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(kFullWarp, v, 1);
  return v + __shfl_xor_sync(kFullWarp, v, 2);
}
__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(kFullWarp, v, 1));
  return fmaxf(v, __shfl_xor_sync(kFullWarp, v, 2));
}

/// Sums of 16 rows x D of a warp to f32 rows of d channels: rows first + g and first + g + 8 that
/// are below `end`.
template <int D>
__device__ __forceinline__ void store_sums(float* out, const float (&sums)[D / 8][4], int first,
                                           int end, int64_t d, float by0, float by1, int lane) {
  const int g = lane >> 2, t = lane & 3;
  TENUN_UNROLL
  for (int c = 0; c < D / 8; ++c) {
    if (c * 8 >= d) continue;
    const int64_t at = static_cast<int64_t>(first + g) * d + c * 8 + t * 2;
    if (first + g < end)
      *reinterpret_cast<float2*>(out + at) = float2{sums[c][0] * by0, sums[c][1] * by0};
    if (first + g + 8 < end)
      *reinterpret_cast<float2*>(out + at + 8 * d) = float2{sums[c][2] * by1, sums[c][3] * by1};
  }
}
/// The same to 16-bit rows.
template <class T, int D>
__device__ __forceinline__ void store_sums_low(T* out, const float (&sums)[D / 8][4], int first,
                                               int end, int64_t d, float by0, float by1, int lane) {
  const int g = lane >> 2, t = lane & 3;
  TENUN_UNROLL
  for (int c = 0; c < D / 8; ++c) {
    if (c * 8 >= d) continue;
    const int64_t at = static_cast<int64_t>(first + g) * d + c * 8 + t * 2;
    if (first + g < end)
      *reinterpret_cast<unsigned*>(out + at) = pack<T>(sums[c][0] * by0, sums[c][1] * by0);
    if (first + g + 8 < end)
      *reinterpret_cast<unsigned*>(out + at + 8 * d) = pack<T>(sums[c][2] * by1, sums[c][3] * by1);
  }
}

/// To rows of the type that is asked for.
template <int D>
__device__ __forceinline__ void store_rows(void* out, DType type, int64_t head,
                                           const float (&sums)[D / 8][4], int first, int end,
                                           int64_t d, float by0, float by1, int lane) {
  if (type == DType::f32)
    store_sums<D>(static_cast<float*>(out) + head, sums, first, end, d, by0, by1, lane);
  else if (type == DType::bf16)
    store_sums_low<bf16, D>(static_cast<bf16*>(out) + head, sums, first, end, d, by0, by1, lane);
  else
    store_sums_low<f16, D>(static_cast<f16*>(out) + head, sums, first, end, d, by0, by1, lane);
}

/// Rows of a result that a block of threads computes. They do not cross blocks of a list, nor any
/// blocks with `apart`.
template <int ROWS>
struct TensorRows {
  int64_t list;
  int first, end;
  static __device__ __forceinline__ TensorRows of(const Lists& l, int64_t bh, int64_t n,
                                                  int64_t block, bool apart = false) {
    return at(l, bh, blockIdx.x, n, block, apart);
  }
  /// Number `tile` of the head. The last block's tiles may have no rows: first >= end.
  static __device__ __forceinline__ TensorRows at(const Lists& l, int64_t bh, unsigned tile,
                                                  int64_t n, int64_t block, bool apart = false) {
    const int64_t size = l.start != nullptr || apart ? block : n;
    const int64_t per = blocks_of(size < n ? size : n, ROWS), i = tile / per;
    const int64_t first = i * size + tile % per * ROWS,
                  end = (i + 1) * size < n ? (i + 1) * size : n;
    return {bh * blocks_of(n, size) + i, static_cast<int>(first), static_cast<int>(end)};
  }
};
template <int ROWS>
int64_t tensor_tiles(const Lists& l, int64_t n, int64_t block, bool apart = false) {
  const int64_t size = l.start != nullptr || apart ? block : n, least = size < n ? size : n;
  return (n + size - 1) / size * ((least + ROWS - 1) / ROWS);
}

}  // namespace tenun::TENUN_BACKEND::attention
