// Block-sparse flash attention forward on Hopper: the same results as flash_tensor.h (its twin by
// mma.sync), by wgmma and TMA. A block of threads has three warpgroups: one thread of the first
// loads boxes of Q, K and V, the other two compute 64 queries each. Keys come in tiles of 128: two
// boxes of 64 tokens, which may be of different blocks of a list. K and V have rings of stages:
//   full    the boxes have landed (their bytes are counted);  waited for by the 8 computing warps
//   empty   each of the 8 warps has finished the products that read the stage; the loader waits
// Pipeline of a computing warpgroup: S of tile j and O += P V of tile j - 1 are started together;
// the softmax of tile j waits for S alone.
#pragma once
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/tensor_tile.h"
#include "tenun/cuda/hopper.h"

namespace tenun::TENUN_BACKEND::attention {

struct HopperForward {
  TensorMap q, k, v;
  FlashForward of;
};

template <int D>
struct HopperShape {
  static constexpr int kRows = 128, kTile = 128, kThreads = 384, kComputingWarps = 8;
  static constexpr int kStages = D == 64 ? 4 : 2;
  /// Columns lie in strips of 64: all rows of one, then all rows of the next.
  static constexpr int kStrips = D / kBoxColumns, kStrip = kTile * 128;
  static constexpr int kTileBytes = kStrips * kStrip;
  static constexpr int kBarriers = 1 + 4 * kStages;
  /// Q and the rings, from a multiple of 1024 bytes on, then the barriers.
  static constexpr size_t kShared = 1024 + (1 + 2 * kStages) * kTileBytes + 8 * kBarriers;
  static_assert(kRows == kTile && kBoxBytes * 2 == kStrip);
};

/// Shared memory of a block of threads.
template <int D>
struct HopperMemory {
  using Shape = HopperShape<D>;
  unsigned char *q, *k, *v;
  uint64_t *q_full, *k_full, *k_empty, *v_full, *v_empty;
  static __device__ __forceinline__ HopperMemory of(unsigned char* memory) {
    HopperMemory m;
    m.q = memory + (-shared_address(memory) & 1023u);
    m.k = m.q + Shape::kTileBytes;
    m.v = m.k + Shape::kStages * Shape::kTileBytes;
    m.q_full = reinterpret_cast<uint64_t*>(m.v + Shape::kStages * Shape::kTileBytes);
    m.k_full = m.q_full + 1, m.k_empty = m.k_full + Shape::kStages;
    m.v_full = m.k_empty + Shape::kStages, m.v_empty = m.v_full + Shape::kStages;
    return m;
  }
};
/// Where tile j stands in a ring, and the parity of the phase in which it is there.
template <int kStages>
struct Place {
  int stage, parity;
  static __device__ __forceinline__ Place of(int j) {
    return {j % kStages, j / kStages & 1};  // powers of two
  }
};

/// One thread: everything that comes from memory.
template <int D>
__device__ __forceinline__ void load_tiles(const HopperForward& h, const HopperMemory<D>& m,
                                           const Visit& keys, int tiles, int first_row,
                                           int64_t bh) {
  using Shape = HopperShape<D>;
  const FlashProblem& p = h.of.in;
  struct Operand {
    const TensorMap& map;
    int head, batch;
  };
  const auto operand = [&](const TensorMap& map, const Rows& x) {
    return Operand{map, static_cast<int>(bh % x.heads), static_cast<int>(bh / x.heads)};
  };
  const Operand q = operand(h.q, p.q), k = operand(h.k, p.k), v = operand(h.v, p.v);
  const auto load_tile = [&](unsigned char* to, const Operand& x, uint64_t* full, int row0,
                             int row1) {
    barrier_expect(full, Shape::kTileBytes);
    for (int strip = 0; strip < Shape::kStrips; ++strip) {
      unsigned char* const at = to + strip * Shape::kStrip;
      load_box(at, x.map, full, strip * kBoxColumns, row0, x.head, x.batch);
      load_box(at + kBoxBytes, x.map, full, strip * kBoxColumns, row1, x.head, x.batch);
    }
  };
  // A box behind the last block lies behind the last token: zeros.
  const auto first_token = [&](int at) {
    if (at >= keys.count) return keys.n;
    return keys.index == nullptr ? at : keys.index[at / keys.block] * keys.block + at % keys.block;
  };
  load_tile(m.q, q, m.q_full, first_row, first_row + kBoxRows);
  for (int j = 0; j < tiles; ++j) {
    const auto place = Place<Shape::kStages>::of(j);
    const int row0 = first_token(j * Shape::kTile), row1 = first_token(j * Shape::kTile + kBoxRows);
    barrier_wait(m.k_empty + place.stage, place.parity ^ 1);
    load_tile(m.k + place.stage * Shape::kTileBytes, k, m.k_full + place.stage, row0, row1);
    barrier_wait(m.v_empty + place.stage, place.parity ^ 1);
    load_tile(m.v + place.stage * Shape::kTileBytes, v, m.v_full + place.stage, row0, row1);
  }
}

/// Online softmax of the scores of 16 rows (two of each lane): scores become probabilities; what
/// was summed before is to be scaled by `r` where the result, the same in a warp, is true. `by`
/// scales scores to base 2.
template <int N>
__device__ __forceinline__ bool softmax_scores(float (&s)[N][4], float (&most)[2],
                                               float (&total)[2], float (&r)[2], float by) {
  float next[2];
  TENUN_UNROLL
  for (int i = 0; i < 2; ++i) {
    float m = s[0][2 * i];
    TENUN_UNROLL
    for (int n = 0; n < N; ++n) m = fmaxf(m, fmaxf(s[n][2 * i], s[n][2 * i + 1]));
    next[i] = fmaxf(most[i], quad_max(m) * by);
  }
  const bool grown = __ballot_sync(kFullWarp, next[0] > most[0] || next[1] > most[1]) != 0;
  TENUN_UNROLL
  for (int i = 0; i < 2; ++i) {
    r[i] = next[i] > most[i] ? ex2(most[i] - next[i]) : 1.0f;
    total[i] *= r[i], most[i] = next[i];
    const float sub = most[i] == -INFINITY ? 0.0f : most[i];
    TENUN_UNROLL
    for (int n = 0; n < N; ++n) {
      TENUN_UNROLL
      for (int e = 2 * i; e < 2 * i + 2; ++e) {
        s[n][e] = ex2(fmaf(s[n][e], by, -sub));
        total[i] += s[n][e];
      }
    }
  }
  return grown;
}

/// Four warps: 64 queries from first_row on.
template <class T, int D>
__device__ __forceinline__ void attend(const FlashForward& a, const HopperMemory<D>& m,
                                       const Visit& keys, int tiles, int first_row, int end_row,
                                       int group, int64_t bh) {
  using Shape = HopperShape<D>;
  constexpr int kSteps = Shape::kTile / 16;
  const FlashProblem& p = a.in;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const int warp = static_cast<int>(threadIdx.x) >> 5 & 3;
  const uint64_t q_rows = matrix(m.q + group * kBoxBytes, 16);
  const uint64_t k_ring = matrix(m.k, 16), v_ring = matrix(m.v, Shape::kStrip);
  float o[D / 8][4] = {}, s[Shape::kTile / 8][4];
  unsigned w[kSteps][4];  // P as A operands
  float most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, r[2];
  const float by = static_cast<float>(p.scale) * kLog2E;

  const auto start_scores = [&](int j) {
    const auto place = Place<Shape::kStages>::of(j);
    barrier_wait(m.k_full + place.stage, place.parity);
    const uint64_t k_rows = further(k_ring, place.stage * Shape::kTileBytes);
    settle(s);
    wgmma_fence();
    TENUN_UNROLL
    for (int step = 0; step < D / 16; ++step) {  // 16 channels are 32 bytes of a strip
      const int at = step / 4 * Shape::kStrip + step % 4 * 32;
      wgmma_abt<T>(s, further(q_rows, at), further(k_rows, at), step > 0);
    }
    wgmma_commit();
  };
  // Once the softmax of tile j is done: the parity hangs on its sums, which are never negative.
  // Without a branch that needs them ptxas 13.0 waits for O += P V before the softmax, not after.
  const auto wait_for_values = [&](int j) {
    const auto place = Place<Shape::kStages>::of(j);
    barrier_wait(m.v_full + place.stage, place.parity ^ static_cast<int>(total[0] + total[1] < 0));
  };
  const auto start_values = [&](int j) {
    const auto place = Place<Shape::kStages>::of(j);
    const uint64_t v_rows = further(v_ring, place.stage * Shape::kTileBytes);
    settle(w), settle(o);
    wgmma_fence();
    TENUN_UNROLL
    for (int step = 0; step < kSteps; ++step)  // 16 keys are 16 rows of 128 bytes
      wgmma_ab<T>(o, w[step], further(v_rows, step * 16 * 128));
    wgmma_commit();
  };
  const auto leave = [&](uint64_t* empty, int j) {
    if (lane == 0) barrier_arrive(empty + Place<Shape::kStages>::of(j).stage);
  };
  const auto weigh = [&](int j) {
    if ((j + 1) * Shape::kTile > keys.valid) mask_tail(s, j * Shape::kTile, keys.valid, lane);
    return softmax_scores(s, most, total, r, by);
  };
  const auto keep_weights = [&] {
    TENUN_UNROLL
    for (int step = 0; step < kSteps; ++step) sums_to_a<T>(w[step], s[2 * step], s[2 * step + 1]);
  };

  if (tiles > 0) {
    barrier_wait(m.q_full, 0);
    start_scores(0);
    wgmma_wait<0>();
    settle(s);
    leave(m.k_empty, 0);
    weigh(0);  // o is still zero
    wait_for_values(0);
    keep_weights();
    for (int j = 1; j < tiles; ++j) {
      start_scores(j);
      start_values(j - 1);
      wgmma_wait<1>();
      settle(s);
      leave(m.k_empty, j);
      const bool grown = weigh(j);
      wait_for_values(j);
      wgmma_wait<0>();
      settle(o);
      leave(m.v_empty, j - 1);
      if (grown) {
        TENUN_UNROLL
        for (int n = 0; n < D / 8; ++n)
          o[n][0] *= r[0], o[n][1] *= r[0], o[n][2] *= r[1], o[n][3] *= r[1];
      }
      keep_weights();
    }
    start_values(tiles - 1);
    wgmma_wait<0>();
    settle(o);
  }

  const int first = first_row + warp * 16;
  float scale[2];
  TENUN_UNROLL
  for (int i = 0; i < 2; ++i) {
    const float sum = quad_sum(total[i]);
    scale[i] = sum == 0 ? 0.0f : 1 / sum;
    const int row = first + i * 8 + (lane >> 2);
    if ((lane & 3) == 0 && row < end_row)
      static_cast<float*>(a.lse)[bh * p.nq + row] =
          sum == 0 ? -INFINITY : (most[i] + lg2(sum)) * kLn2;
  }
  const int64_t head = bh * p.nq * p.d;
  if (a.o_dtype == DType::f32)
    store_sums<D>(static_cast<float*>(a.o) + head, o, first, end_row, p.d, scale[0], scale[1],
                  lane);
  else
    store_sums_low<T, D>(static_cast<T*>(a.o) + head, o, first, end_row, p.d, scale[0], scale[1],
                         lane);
}

template <class T, int D>
__global__ void __launch_bounds__(HopperShape<D>::kThreads, 1)
    flash_hopper_kernel(const __grid_constant__ HopperForward h) {
#if defined(TENUN_HOPPER_CODE)
  using Shape = HopperShape<D>;
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  const auto m = HopperMemory<D>::of(memory);
  const FlashProblem& p = h.of.in;
  const int tid = static_cast<int>(threadIdx.x);
  const int64_t bh = blockIdx.y;
  const auto rows = TensorRows<Shape::kRows>::of(p.rows, bh, p.nq, p.block_q);
  const Visit keys = Visit::of(p.rows, rows.list, p.block_k, p.nk);
  const int tiles = (keys.valid + Shape::kTile - 1) / Shape::kTile;
  if (tid == 0) {
    barrier_init(m.q_full, 1);
    for (int i = 0; i < Shape::kStages; ++i) {
      barrier_init(m.k_full + i, 1), barrier_init(m.v_full + i, 1);
      barrier_init(m.k_empty + i, Shape::kComputingWarps);
      barrier_init(m.v_empty + i, Shape::kComputingWarps);
    }
    barriers_ready();
  }
  __syncthreads();
  // 168 registers for each of 384 threads, dealt out anew: 24 + 2 * 240.
  const int group = __shfl_sync(kFullWarp, tid / 128, 0);
  if (group == 0) {
    fewer_registers<24>();
    if (tid == 0 && tiles > 0) load_tiles<D>(h, m, keys, tiles, rows.first, bh);
  } else {
    more_registers<240>();
    attend<T, D>(h.of, m, keys, tiles, rows.first + (group - 1) * kBoxRows, rows.end, group - 1,
                 bh);
  }
#else
  (void)h;
#endif
}

/// False, and nothing is done, if this is not for these kernels: they are not asked for, only lse
/// is wanted, rows or blocks are too small, or TMA cannot read an operand.
template <class T, int D>
bool launch_flash_hopper(const FlashForward& a) {
  using Shape = HopperShape<D>;
  const FlashProblem& p = a.in;
  const bool lists = p.rows.start != nullptr;
  if (!use_hopper() || a.o == nullptr || (lists ? p.block_q : p.nq) <= kBoxRows ||
      (lists && p.block_k % kBoxRows != 0))
    return false;
  const auto source = [&](const Rows& x, int64_t n) {
    return TensorSource{x.p, x.dtype, p.d, n, x.heads, p.heads / x.heads, x.row, x.head, x.batch};
  };
  const TensorSource q = source(p.q, p.nq), k = source(p.k, p.nk), v = source(p.v, p.nk);
  if (!tensor_map_takes(q) || !tensor_map_takes(k) || !tensor_map_takes(v)) return false;
  launch(flash_hopper_kernel<T, D>,
         dim3(static_cast<unsigned>(tensor_tiles<Shape::kRows>(p.rows, p.nq, p.block_q)),
              static_cast<unsigned>(p.heads)),
         dim3(Shape::kThreads), Shape::kShared,
         HopperForward{tensor_map(q), tensor_map(k), tensor_map(v), a});
  return true;
}

template <class T>
bool run_flash_hopper(const FlashForward& a) {
  return a.in.d <= 64 ? launch_flash_hopper<T, 64>(a) : launch_flash_hopper<T, 128>(a);
}

}  // namespace tenun::TENUN_BACKEND::attention
