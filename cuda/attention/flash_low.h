// Block-sparse flash attention forward with low-bit products on the tensor cores (SageAttention):
// scores in INT8, 16 bit or f32, P V in 16 bit, f32, INT8 or E4M3. The skeleton of flash_tensor.h,
// but a tile of 64 keys never crosses a block of keys, nor a block of threads one of queries that
// has a unit: a tile has one unit, whatever the size of the blocks, and what a block lacks is
// masked. P is rounded to units of 1 / 127 (E4M3: 1 / 448) of the running maximum that includes the
// whole key block (golden/README-attention.md, int8_attention). Where a block has several tiles
// they are therefore visited twice: first for the maximum alone. V of 8 bits comes turned
// (low_values.cu), a row for a channel: the B operand of 8-bit products takes four neighbouring
// tokens of a channel, which ldmatrix cannot turn. P V of a tile is summed apart and then added to
// o in f32: as whole numbers, or because E4M3 products are summed with 13 bits or so by the
// hardware.
#pragma once
#include <limits>

#include "tenun/cuda/attention/flash_tensor.h"

namespace tenun::TENUN_BACKEND::attention {

template <class V>
inline constexpr bool kLowValues = std::is_same_v<V, int8_t> || std::is_same_v<V, E4M3>;
/// log2 of what the largest P is rounded to.
template <class V>
inline constexpr float kLowShift = std::is_same_v<V, int8_t> ? 6.988684686772166f
                                   : std::is_same_v<V, E4M3> ? 8.807354922057604f
                                                             : 0.0f;

template <class S, class V, int D, int MT>
struct LowShape {
  static constexpr int kRows = 64 * MT, kThreads = 128;
  static constexpr int kQkBytes = sizeof(S) * D, kVBytes = sizeof(V) * D;  ///< of a token
  static constexpr size_t kShared = kRows * kQkBytes + 2 * kKeys * (kQkBytes + kVBytes);
};

/// Sums of whole numbers start at the bits of 1.5 * 2^23. While they are below 2^22 (127^2 D is,
/// and 127^2 64), their bits read as a float are 12582912 + sum, and one subtraction makes it a
/// float.
inline constexpr int kWholeStart = 0x4B400000;
__device__ __forceinline__ float from_whole(int sum) { return __int_as_float(sum) - 12582912.0f; }

/// The key blocks that are visited: those of a list, or all.
struct BlockVisit {
  const int32_t* index;
  int count;
  static __device__ __forceinline__ BlockVisit of(const Lists& l, int64_t list, int all) {
    if (l.start == nullptr) return {nullptr, all};
    const int64_t first = l.start[list];
    return {l.index + first, static_cast<int>(l.start[list + 1] - first)};
  }
  __device__ __forceinline__ int operator[](int i) const { return index == nullptr ? i : index[i]; }
};

/// Scales no sum of products of integers to anything that exp2 would tell from 0.
constexpr float kSmallestScale = std::numeric_limits<float>::min();

/// The four P that a lane holds of a row and 16 keys as one register of an A operand of 8 bits. The
/// lane's keys 2 t, 2 t + 1, 8 + 2 t, 9 + 2 t stand for 4 t .. 4 t + 3: V is stored in that order.
template <class V>
__device__ __forceinline__ unsigned pack_low(float x0, float x1, float x2, float x3) {
  if constexpr (std::is_same_v<V, E4M3>) return pack_positive_e4m3(x0, x1, x2, x3);
  // Added to 1.5 * 2^23 they are rounded to whole numbers, halves to even, in the lowest byte.
  const auto whole = [](float x) { return __float_as_uint(x + 12582912.0f); };
  const unsigned low = __byte_perm(whole(x0), whole(x1), 0x0040),
                 high = __byte_perm(whole(x2), whole(x3), 0x0040);
  return __byte_perm(low, high, 0x5410);
}

/// P of 16 queries and 64 keys as A operands of 32 keys each.
template <class V>
__device__ __forceinline__ void pack_tile(unsigned (&w)[2][4], const float (&s)[kKeys / 8][4]) {
  TENUN_UNROLL
  for (int r = 0; r < 8; ++r) {
    const int n = r / 2 * 2, e = r % 2 * 2;  // 16 keys in two tiles of 8; row g or g + 8
    w[r / 4][r % 4] = pack_low<V>(s[n][e], s[n][e + 1], s[n + 1][e], s[n + 1][e + 1]);
  }
}
/// o += P V for 64 keys, V of 8 bits and turned.
template <class V, int D, int MT>
__device__ __forceinline__ void add_low_values(float (&o)[MT][D / 8][4],
                                               const unsigned (&w)[MT][2][4],
                                               const unsigned char* v, int at_v, int64_t d) {
  using Sum = std::conditional_t<std::is_same_v<V, int8_t>, int, float>;
  constexpr int kTogether = std::is_same_v<V, int8_t> ? 2 : 1;
  TENUN_UNROLL
  for (int n = 0; n < D / 16; ++n) {
    // Spares work, and keeps the compiler from mixing all n until it runs out of registers.
    if (n % kTogether == 0 && n * 16 >= d) break;
    unsigned b[2][4];
    TENUN_UNROLL
    for (int step = 0; step < 2; ++step) load_bt<kKeys>(b[step], v, at_v, n * 16, step);
    TENUN_UNROLL
    for (int i = 0; i < MT; ++i) {
      Sum sums[2][4];
      set_all(sums, std::is_same_v<V, int8_t> ? Sum(kWholeStart) : Sum(0));
      TENUN_UNROLL
      for (int step = 0; step < 2; ++step) {
        mma<V>(sums[0], w[i][step], b[step][0], b[step][1]);
        mma<V>(sums[1], w[i][step], b[step][2], b[step][3]);
      }
      TENUN_UNROLL
      for (int e = 0; e < 8; ++e) {
        if constexpr (std::is_same_v<V, int8_t>)
          o[i][2 * n + e / 4][e % 4] += from_whole(sums[e / 4][e % 4]);
        else
          o[i][2 * n + e / 4][e % 4] += sums[e / 4][e % 4];
      }
    }
  }
}

template <class S, class V, int D, int MT, int kBlocks>
__global__ void __launch_bounds__(128, kBlocks) flash_low_kernel(const FlashForward a) {
  using Shape = LowShape<S, V, D, MT>;
  constexpr int kQk = Shape::kQkBytes, kV = Shape::kVBytes, kBlock = Shape::kThreads;
  constexpr int kVRow = kLowValues<V> ? kKeys : kV;  // bytes of a row of V's tile
  constexpr bool kWhole = std::is_same_v<S, int8_t>;
  constexpr float kShift = kLowShift<V>;
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char *const q_tile = memory, *const k_tiles = q_tile + Shape::kRows * kQk,
                       *const v_tiles = k_tiles + 2 * kKeys * kQk;
  const FlashProblem& p = a.in;
  const int tid = static_cast<int>(threadIdx.x), lane = tid & 31;
  int bh = static_cast<int>(blockIdx.y);
  const auto rows = TensorRows<Shape::kRows>::of(p.rows, bh, p.nq, p.block_q, kWhole);
  // Numbers of tiles are read from the arguments again and again: registers are scarce.
  const int key_blocks = static_cast<int>(blocks_of(p.nk, a.low.keys));
  const BlockVisit blocks = BlockVisit::of(p.rows, rows.list, key_blocks);
  const int steps = blocks.count * a.low.steps;
  const int own = (tid >> 5) * 16 * MT;
  int at_q = offset_rows<kQk>(lane) + own * kQk, at_k = offset_columns<kQk>(lane),
      at_v = kLowValues<V> ? offset_columns<kVRow>(lane) : offset_rows<kVRow>(lane);
  float o[MT][D / 8][4] = {}, most[MT][2], total[MT][2];
  TENUN_UNROLL
  for (int i = 0; i < MT; ++i) {
    most[i][0] = most[i][1] = -INFINITY;
    total[i][0] = total[i][1] = 0;
  }
  const auto tile_of = [&](int step) { return step % a.low.steps % a.low.tiles; };
  const auto first_of = [&](int step, int block) {
    return block * a.low.keys + tile_of(step) * kKeys;
  };
  const auto end_of = [&](int block) {
    const int end = (block + 1) * a.low.keys, all = static_cast<int>(p.nk);
    return end < all ? end : all;
  };
  const auto for_maximum = [&](int step) {
    return kLowValues<V> && step % a.low.steps < a.low.steps - a.low.tiles;
  };
  const auto start_copies = [&](int step, int block) {
    const int first = first_of(step, block), end = end_of(block);
    const int64_t row = p.d * static_cast<int64_t>(sizeof(S));  // k is contiguous
    const Bytes k{static_cast<const unsigned char*>(p.k.p) + bh * p.nk * row, row,
                  static_cast<int>(row / 16)};
    load_rows<kKeys, kQk, kBlock>(k_tiles + (step & 1) * kKeys * kQk, k, first, end, tid);
    if (a.o != nullptr && !for_maximum(step)) {
      unsigned char* const to = v_tiles + (step & 1) * kKeys * kV;
      if constexpr (kLowValues<V>) {
        const int64_t tile = (int64_t{bh} * key_blocks + block) * a.low.tiles + tile_of(step);
        const Bytes turned{static_cast<const unsigned char*>(p.v.p) + tile * p.d * kKeys, kKeys,
                           kKeys / 16};
        load_rows<D, kKeys, kBlock>(to, turned, 0, static_cast<int>(p.d), tid);
      } else {
        load_rows<kKeys, kVRow, kBlock>(to, Bytes::of<V>(p.v, bh, p.d), first, end, tid);
      }
    }
    cp_commit();
  };
  int block = 0, ahead = 0;  // of this step and of the next one
  if (steps > 0) {
    block = blocks[0], ahead = steps > 1 ? blocks[1 / a.low.steps] : 0;
    load_rows<Shape::kRows, kQk, kBlock>(q_tile, Bytes::of<S>(p.q, bh, p.d), rows.first, rows.end,
                                         tid);
    start_copies(0, block);
  }
  float base = static_cast<float>(p.scale) * kLog2E;
  if constexpr (kWhole)
    base *= static_cast<const float*>(
        a.units.q)[bh * blocks_of(p.nq, p.block_q) + rows.first / p.block_q];
  for (int j = 0; j < steps; ++j) {
    const int there = end_of(block) - first_of(j, block);  // keys, if less than 64
    float by = base;
    if constexpr (kWhole) {
      by *= static_cast<const float*>(a.units.k)[bh * key_blocks + block];
      // A block of zeros has the unit 0, and a key that is not there -inf: their product is NaN.
      if (by == 0) by = kSmallestScale;
    }
    cp_wait<0>();     // this thread's part of step j is there ...
    __syncthreads();  // ... and everybody's; the tiles of step j - 1 are not read again
    if (j + 1 < steps) start_copies(j + 1, ahead);
    block = ahead;
    if (j + 2 < steps) ahead = blocks[(j + 2) / a.low.steps];
    opaque(at_q), opaque(at_k), opaque(at_v), opaque(bh);
    float s[MT][kKeys / 8][4];
    const unsigned char* const k_tile = k_tiles + (j & 1) * kKeys * kQk;
    if constexpr (kWhole) {
      int whole[MT][kKeys / 8][4];
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) set_all(whole[i], kWholeStart);
      add_scores<S, kQk>(whole, q_tile, k_tile, at_q, at_k);
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) {
        TENUN_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) {
          TENUN_UNROLL
          for (int e = 0; e < 4; ++e) s[i][n][e] = from_whole(whole[i][n][e]);
        }
      }
    } else {
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) set_all(s[i], 0.0f);
      add_scores<S, kQk>(s, q_tile, k_tile, at_q, at_k);
    }
    if (there < kKeys) {  // the same in all threads
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) mask_tail(s[i], 0, there, lane);
    }
    TENUN_UNROLL
    for (int i = 0; i < MT; ++i) raise_maxima<D>(s[i], o[i], most[i], total[i], by);
    if (for_maximum(j)) continue;
    const unsigned char* const v_tile = v_tiles + (j & 1) * kKeys * kV;
    if constexpr (kLowValues<V>) {
      unsigned w[MT][2][4];
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) {
        probabilities(s[i], most[i], total[i], by, kShift);
        pack_tile<V>(w[i], s[i]);
      }
      if (a.o != nullptr) add_low_values<V, D, MT>(o, w, v_tile, at_v, p.d);
    } else {
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) probabilities(s[i], most[i], total[i], by);
      if constexpr (std::is_same_v<V, float>) {
        // Sums of their own would spill, and rounded scores cost more than tensor cores' rounding.
        TENUN_UNROLL
        for (int step = 0; step < kKeys / 16; ++step)
          if (a.o != nullptr) add_value_step<V, D, false>(o, s, step, v_tile, at_v, 0);
      } else if (a.o != nullptr) {
        add_values<V, D, MT>(o, s, v_tile, at_v);
      }
    }
  }
  if constexpr (kLowValues<V>) {
    const float* const unit = static_cast<const float*>(a.units.v) + bh * p.d + (lane & 3) * 2;
    TENUN_UNROLL
    for (int c = 0; c < D / 8; ++c) {
      if (c * 8 >= p.d) continue;
      const float2 u = *reinterpret_cast<const float2*>(unit + c * 8);
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) {
        TENUN_UNROLL
        for (int e = 0; e < 4; ++e) o[i][c][e] *= e % 2 == 0 ? u.x : u.y;
      }
    }
  }
  int nq = static_cast<int>(p.nq);
  opaque(nq);  // the rows once more, instead of keeping them through the loop
  const auto done = TensorRows<Shape::kRows>::of(p.rows, bh, nq, p.block_q, kWhole);
  TENUN_UNROLL
  for (int i = 0; i < MT; ++i)
    store_results<V, D>(a, o[i], most[i], total[i], bh, done.first + own + 16 * i, done.end, lane,
                        kShift);
}

template <class S, class V, int D, int MT, int kBlocks>
void launch_flash_low(FlashForward a) {
  using Shape = LowShape<S, V, D, MT>;
  const FlashProblem& p = a.in;
  a.low.keys = static_cast<int>(p.block_k < p.nk ? p.block_k : p.nk);
  a.low.tiles = (a.low.keys + kKeys - 1) / kKeys;
  a.low.steps = kLowValues<V> && a.low.tiles > 1 ? 2 * a.low.tiles : a.low.tiles;
  launch(flash_low_kernel<S, V, D, MT, kBlocks>,
         dim3(static_cast<unsigned>(
                  tensor_tiles<Shape::kRows>(p.rows, p.nq, p.block_q, std::is_same_v<S, int8_t>)),
              static_cast<unsigned>(p.heads)),
         dim3(Shape::kThreads), Shape::kShared, a);
}

/// INT8 scores: blocks of 128 queries, or of 64 where the units' are that small and beside f32.
template <class V>
void run_flash_low(const FlashForward& a) {
  const bool wide = a.in.block_q > 64;
  if constexpr (std::is_same_v<V, float>)
    a.in.d <= 64 ? launch_flash_low<int8_t, V, 64, 1, 3>(a)
                 : launch_flash_low<int8_t, V, 128, 1, 2>(a);
  else if (a.in.d <= 64)
    wide ? launch_flash_low<int8_t, V, 64, 2, 2>(a) : launch_flash_low<int8_t, V, 64, 1, 3>(a);
  else
    wide ? launch_flash_low<int8_t, V, 128, 2, 2>(a) : launch_flash_low<int8_t, V, 128, 1, 2>(a);
}
/// Scores of 16 or 32 bits beside 8-bit values: rarely used, so blocks of 64 queries have to do.
template <class S, class V>
void run_flash_low_values(const FlashForward& a) {
  a.in.d <= 64 ? launch_flash_low<S, V, 64, 1, 3>(a) : launch_flash_low<S, V, 128, 1, 2>(a);
}

}  // namespace tenun::TENUN_BACKEND::attention
