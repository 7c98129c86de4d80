// Block-sparse flash attention forward on the tensor cores. A block of threads is 4 warps of 16 MT
// queries each (with MT = 2 every fragment of K and V feeds two products, so that shared memory is
// not the limit); keys come in tiles of 64 (f32: 8 kB) through two buffers, one barrier a tile:
//   wait for tile j, barrier, start the copies of tile j + 1, S = Q K^T, softmax, O += P V.
// Base-2 online softmax in f32; the sums are rescaled only when a maximum of the warp's rows grew.
// P passes from S to P V in registers. Products of low bits: flash_low.h; soft weights and dropout:
// general.h.
// `opaque` keeps addresses from being held in registers across the loop: without it the kernels for
// D = 128 spill.
#pragma once
#include "tenun/cuda/attention/general.h"
#include "tenun/cuda/attention/launch.h"

namespace tenun::TENUN_BACKEND::attention {

template <class T, int D, int MT, bool kGeneral>
struct ForwardShape {
  static constexpr int kRows = 64 * MT, kThreads = 128, kRow = sizeof(T) * D,
                       kPiece = kStreamed<T, D>;
  static constexpr size_t kShared = (kRows + 4 * kPiece) * kRow + 2 * kPiece * sizeof(int) +
                                    (kGeneral ? 2 * kPiece * sizeof(float) : 0);
};

/// Takes the scores of two rows of 16 into their maxima, and scales what was summed to the new
/// ones. `by` scales scores to base 2 and is positive: the maximum may be taken before.
template <int D, int N>
__device__ __forceinline__ void raise_maxima(const float (&s)[N][4], float (&o)[D / 8][4],
                                             float (&most)[2], float (&total)[2], float by) {
  float next[2];
  TENUN_UNROLL
  for (int h = 0; h < 2; ++h) {
    float m = s[0][2 * h];
    TENUN_UNROLL
    for (int n = 0; n < N; ++n) m = fmaxf(m, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
    next[h] = fmaxf(most[h], quad_max(m) * by);
  }
  if (__ballot_sync(kFullWarp, next[0] > most[0] || next[1] > most[1]) != 0) {
    TENUN_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float r = next[h] > most[h] ? ex2(most[h] - next[h]) : 1.0f;
      total[h] *= r, most[h] = next[h];
      TENUN_UNROLL
      for (int n = 0; n < D / 8; ++n) o[n][2 * h] *= r, o[n][2 * h + 1] *= r;
    }
  }
}
/// Probabilities in place of the scores, relative to 2^shift at the maxima, and their sums.
template <int N>
__device__ __forceinline__ void probabilities(float (&s)[N][4], const float (&most)[2],
                                              float (&total)[2], float by, float shift = 0) {
  TENUN_UNROLL
  for (int h = 0; h < 2; ++h) {
    const float sub = most[h] == -INFINITY ? 0.0f : most[h] - shift;
    TENUN_UNROLL
    for (int n = 0; n < N; ++n) {
      TENUN_UNROLL
      for (int e = 2 * h; e < 2 * h + 2; ++e) {
        s[n][e] = ex2(fmaf(s[n][e], by, -sub));
        total[h] += s[n][e];
      }
    }
  }
}

/// Rows first.. of a warp: o and lse. The sums are relative to 2^shift at the maxima.
template <class T, int D>
__device__ __forceinline__ void store_results(const FlashForward& a, const float (&o)[D / 8][4],
                                              const float (&most)[2], const float (&total)[2],
                                              int64_t bh, int first, int end, int lane,
                                              float shift = 0) {
  const FlashProblem& p = a.in;
  float by[2];
  TENUN_UNROLL
  for (int h = 0; h < 2; ++h) {
    const float sum = quad_sum(total[h]);
    by[h] = sum == 0 ? 0.0f : 1 / sum;
    const int row = first + h * 8 + (lane >> 2);
    const float log_sum = std::is_same_v<T, float> ? log2f(sum) : lg2(sum);  // has 22 bits
    if ((lane & 3) == 0 && row < end)
      static_cast<float*>(a.lse)[bh * p.nq + row] =
          sum == 0 ? -INFINITY : (most[h] - shift + log_sum) * kLn2;
  }
  if (a.o != nullptr)
    store_rows<D>(a.o, a.o_dtype, bh * p.nq * p.d, o, first, end, p.d, by[0], by[1], lane);
}

template <class T, int D, int MT, int kBlocks, bool kGeneral>
__global__ void __launch_bounds__(128, kBlocks) flash_tensor_kernel(const FlashForward a) {
  using Shape = ForwardShape<T, D, MT, kGeneral>;
  constexpr int kRow = Shape::kRow, kPiece = Shape::kPiece, kBlock = Shape::kThreads;
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char *const q_tile = memory, *const k_tiles = q_tile + Shape::kRows * kRow,
                       *const v_tiles = k_tiles + 2 * kPiece * kRow;
  int* const ids = reinterpret_cast<int*>(v_tiles + 2 * kPiece * kRow);
  float* const weights = reinterpret_cast<float*>(ids + 2 * kPiece);  // of two tiles, if kGeneral
  const FlashProblem& p = a.in;
  const bool weighted = kGeneral && p.weight != nullptr, drops = kGeneral && p.dropout > 0;
  const int tid = static_cast<int>(threadIdx.x), lane = tid & 31;
  auto head = static_cast<int>(blockIdx.y);
  const int64_t bh = head;
  const auto rows = TensorRows<Shape::kRows>::of(p.rows, bh, p.nq, p.block_q, weighted);
  const Visit keys = Visit::of(p.rows, rows.list, p.block_k, p.nk);
  const Bytes k = Bytes::of<T>(p.k, bh, p.d), v = Bytes::of<T>(p.v, bh, p.d);
  const int own = (tid >> 5) * 16 * MT, tiles = (keys.count + kPiece - 1) / kPiece;
  int at_q = offset_rows<kRow>(lane) + own * kRow, at_k = offset_columns<kRow>(lane),
      at_v = offset_rows<kRow>(lane);
  float o[MT][D / 8][4] = {}, most[MT][2], total[MT][2];
  TENUN_UNROLL
  for (int i = 0; i < MT; ++i) {
    most[i][0] = most[i][1] = -INFINITY;
    total[i][0] = total[i][1] = 0;
  }
  const auto name_tokens = [&](int tile) {
    if (tid < kPiece) ids[(tile & 1) * kPiece + tid] = keys.token(tile * kPiece + tid);
  };
  const auto read_weights = [&](int tile) {
    const int at = tile * kPiece + tid;
    if (weighted && tid < kPiece && at < keys.valid)
      weights[(tile & 1) * kPiece + tid] = log_weight(p, bh, rows.first, keys.token(at));
  };
  const auto start_copies = [&](int tile) {
    const int* const from = ids + (tile & 1) * kPiece;
    load_tokens<kPiece, kRow, kBlock>(k_tiles + (tile & 1) * kPiece * kRow, k, from, tid);
    if (a.o != nullptr)
      load_tokens<kPiece, kRow, kBlock>(v_tiles + (tile & 1) * kPiece * kRow, v, from, tid);
    cp_commit();
  };
  if (tiles > 0) {
    name_tokens(0), name_tokens(1);
    __syncthreads();
    load_rows<Shape::kRows, kRow, kBlock>(q_tile, Bytes::of<T>(p.q, bh, p.d), rows.first, rows.end,
                                          tid);
    start_copies(0);
    read_weights(0);
  }
  const float by = static_cast<float>(p.scale) * kLog2E;
  for (int j = 0; j < tiles; ++j) {
    cp_wait<0>();     // this thread's part of tile j is there ...
    __syncthreads();  // ... and everybody's; tile j - 1 and the names of tile j are not read again
    if (j + 1 < tiles) start_copies(j + 1);
    if (j + 2 < tiles) name_tokens(j + 2);
    if (j + 1 < tiles) read_weights(j + 1);
    opaque(at_q), opaque(at_k), opaque(at_v);
    float s[MT][kPiece / 8][4];
    TENUN_UNROLL
    for (int i = 0; i < MT; ++i) set_all(s[i], 0.0f);
    add_scores<T, kRow>(s, q_tile, k_tiles + (j & 1) * kPiece * kRow, at_q, at_k);
    if constexpr (kGeneral) {
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i)
        weigh_scores(s[i], by, weighted ? weights + (j & 1) * kPiece : nullptr, lane);
    }
    if ((j + 1) * kPiece > keys.valid) {  // the same in all threads
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) mask_tail(s[i], j * kPiece, keys.valid, lane);
    }
    TENUN_UNROLL
    for (int i = 0; i < MT; ++i) {
      raise_maxima<D>(s[i], o[i], most[i], total[i], kGeneral ? 1.0f : by);
      probabilities(s[i], most[i], total[i], kGeneral ? 1.0f : by);
      if (drops && a.o != nullptr) {
        const unsigned bits = kept<kPiece / 8>(p, [&](int n, int e) {
          const int row = rows.first + own + 16 * i + row_of(e, lane);
          return (bh * p.nq + row) * p.nk + keys.token(j * kPiece + column_of(n, e, lane));
        });
        TENUN_UNROLL
        for (int n = 0; n < kPiece / 8; ++n) {
          TENUN_UNROLL
          for (int e = 0; e < 4; ++e)
            s[i][n][e] = kept_or_zero(bits, n, e, s[i][n][e] * p.keep_scale);
        }
      }
    }
    if (a.o != nullptr) add_values<T, D, MT>(o, s, v_tiles + (j & 1) * kPiece * kRow, at_v);
  }
  opaque(head);  // computed again, not kept in registers
  const auto done = TensorRows<Shape::kRows>::of(p.rows, head, p.nq, p.block_q, weighted);
  TENUN_UNROLL
  for (int i = 0; i < MT; ++i)
    store_results<T, D>(a, o[i], most[i], total[i], head, done.first + own + 16 * i, done.end,
                        lane);
}

template <class T, int D, int MT, int kBlocks, bool kGeneral>
void launch_flash_tensor(const FlashForward& a) {
  using Shape = ForwardShape<T, D, MT, kGeneral>;
  const FlashProblem& p = a.in;
  const int64_t tiles =
      tensor_tiles<Shape::kRows>(p.rows, p.nq, p.block_q, kGeneral && p.weight != nullptr);
  launch(flash_tensor_kernel<T, D, MT, kBlocks, kGeneral>,
         dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(p.heads)), dim3(Shape::kThreads),
         Shape::kShared, a);
}

/// Blocks of 128 queries, or of 64 where the blocks of the lists or weights are that small, where
/// the general form has no registers for more, and in f32.
template <class T, bool kGeneral>
void run_flash_tensor(const FlashForward& a) {
  const FlashProblem& p = a.in;
  const bool wide = p.rows_together() > 64;
  if constexpr (std::is_same_v<T, float>)
    p.d <= 64 ? launch_flash_tensor<T, 64, 1, 3, kGeneral>(a)
              : launch_flash_tensor<T, 128, 1, 2, kGeneral>(a);
  else if (p.d <= 64)
    wide ? launch_flash_tensor<T, 64, 2, kGeneral ? 2 : 3, kGeneral>(a)
         : launch_flash_tensor<T, 64, 1, 3, kGeneral>(a);
  else if constexpr (kGeneral)
    launch_flash_tensor<T, 128, 1, 2, kGeneral>(a);
  else
    wide ? launch_flash_tensor<T, 128, 2, 2, kGeneral>(a)
         : launch_flash_tensor<T, 128, 1, 2, kGeneral>(a);
}

}  // namespace tenun::TENUN_BACKEND::attention
