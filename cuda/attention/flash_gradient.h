// Block-sparse flash attention backward on the tensor cores, deterministic, in two passes: dq over
// the lists of rows, then dk and dv over the lists of columns. P = exp2(s - l2) is formed again
// from l2 = log2(e) lse (+inf where there is no key, so that P = 0), dS = P (dP - delta).
// dq: 4 warps of 16 MT queries; K in two buffers, V in one, keys in slices of 32 (f32: 16) so that
// S and dP fit beside dq in registers. dP starts at -delta: dP - delta is what the product gives.
// dk, dv: 4 warps of 16 keys; queries come in pieces of 64 (f32: 8 kB) through two buffers. S and
// dP are computed transposed, so that their sums are the A operands of dv += P^T dy and dk += dS^T
// q. Long columns start first, and in several parts (columns.h). Soft weights and dropout:
// general.h. The gradient of a weight is the sum of dS over its pair of blocks, divided by it: the
// dq kernel sums by warp, for it has dS in registers.
#pragma once
#include <optional>

#include "tenun/cuda/attention/columns.h"
#include "tenun/cuda/attention/general.h"
#include "tenun/cuda/attention/launch.h"

namespace tenun::TENUN_BACKEND::attention {

inline constexpr int kGradientThreads = 128, kGradientWarps = kGradientThreads / 32;

/// Streamed tokens whose S and dP are in registers together.
template <class T>
inline constexpr int kGradientSlice = sizeof(T) == 4 ? 16 : 32;

template <class T, int D, int MT, bool kGeneral>
constexpr size_t dq_shared() {
  constexpr int kPiece = kStreamed<T, D>;
  return (2 * 64 * MT + 3 * kPiece) * sizeof(T) * D + 2 * kPiece * sizeof(int) +
         (kGeneral ? 2 * kPiece * sizeof(float) : 0);
}

template <class T, int D, int MT, int kBlocks, bool kGeneral>
__global__ void __launch_bounds__(kGradientThreads, kBlocks) dq_kernel(const FlashBackward a) {
  constexpr int kRow = sizeof(T) * D, kRows = 64 * MT, kPiece = kStreamed<T, D>,
                kSlice = kGradientSlice<T>, kBlock = kGradientThreads;
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char *const q_tile = memory, *const g_tile = q_tile + kRows * kRow,
                       *const k_tiles = g_tile + kRows * kRow,
                       *const v_tile = k_tiles + 2 * kPiece * kRow;
  int* const ids = reinterpret_cast<int*>(v_tile + kPiece * kRow);
  float* const weights = reinterpret_cast<float*>(ids + 2 * kPiece);  // of two tiles, if kGeneral
  const FlashProblem& p = a.in;
  const bool weighted = kGeneral && p.weight != nullptr, drops = kGeneral && p.dropout > 0;
  const int tid = static_cast<int>(threadIdx.x), lane = tid & 31, own = (tid >> 5) * 16 * MT;
  const int64_t bh = blockIdx.y;
  const bool with_dy = a.dy.p != nullptr;
  const auto rows = TensorRows<kRows>::of(p.rows, bh, p.nq, p.block_q, weighted);
  // Sums of dS by block of keys that this warp keeps.
  const int64_t key_blocks = blocks_of(p.nk, p.block_k);
  float* const parts =
      kGeneral && a.weight_parts != nullptr
          ? a.weight_parts +
                ((bh * gridDim.x + blockIdx.x) * kGradientWarps + (tid >> 5)) * key_blocks
          : nullptr;
  if (rows.first >= rows.end) {  // l2 and delta end where the padding does
    if (parts != nullptr)
      for (int64_t i = lane; i < key_blocks; i += 32) parts[i] = 0;
    return;
  }
  const Visit keys = Visit::of(p.rows, rows.list, p.block_k, p.nk);
  const Bytes k = Bytes::of<T>(p.k, bh, p.d), v = Bytes::of<T>(p.v, bh, p.d);
  const int tiles = (keys.count + kPiece - 1) / kPiece;
  int at_rows = offset_rows<kRow>(lane), at_columns = offset_columns<kRow>(lane);
  // l2 and delta are read again for every slice, from the first-level cache: registers are scarce.
  int row = static_cast<int>(bh * p.nq) + rows.first + own + (lane >> 2);
  // Rows of another block must not count for this one's weights: P = 0, and delta may be NaN there.
  const auto outside = [&](int i, int e) {
    return kGeneral && rows.first + own + 16 * i + row_of(e, lane) >= rows.end;
  };
  const auto delta_of = [&](int i, int e) {
    return outside(i, e) ? 0.0f : a.padded_delta[row + 16 * i + (e >= 2 ? 8 : 0)];
  };
  float dq[MT][D / 8][4] = {}, weight_sum = 0;
  const auto name_tokens = [&](int tile) {
    if (tid < kPiece) ids[(tile & 1) * kPiece + tid] = keys.token(tile * kPiece + tid);
  };
  const auto read_weights = [&](int tile) {
    const int at = tile * kPiece + tid;
    if (weighted && tid < kPiece && at < keys.valid)
      weights[(tile & 1) * kPiece + tid] = log_weight(p, bh, rows.first, at);
  };
  const auto copy_k = [&](int tile) {
    load_tokens<kPiece, kRow, kBlock>(k_tiles + (tile & 1) * kPiece * kRow, k,
                                      ids + (tile & 1) * kPiece, tid);
  };
  const auto copy_v = [&](int tile) {
    if (with_dy) load_tokens<kPiece, kRow, kBlock>(v_tile, v, ids + (tile & 1) * kPiece, tid);
  };
  if (tiles > 0) {
    name_tokens(0), name_tokens(1);
    __syncthreads();
    load_rows<kRows, kRow, kBlock>(q_tile, Bytes::of<T>(p.q, bh, p.d), rows.first, rows.end, tid);
    if (with_dy)
      load_rows<kRows, kRow, kBlock>(g_tile, Bytes::of<T>(a.dy, bh, p.d), rows.first, rows.end,
                                     tid);
    copy_k(0), copy_v(0);
    cp_commit();
    read_weights(0);
  }
  const float by = static_cast<float>(p.scale) * kLog2E;
  for (int j = 0; j < tiles; ++j) {
    const unsigned char* const k_tile = k_tiles + (j & 1) * kPiece * kRow;
    cp_wait<0>();
    __syncthreads();  // tile j is there; K of tile j - 1 is not read again
    if (j + 1 < tiles) {
      copy_k(j + 1);
      cp_commit();
      read_weights(j + 1);
    }
    if (j + 2 < tiles) name_tokens(j + 2);
    TENUN_NO_UNROLL
    for (int n0 = 0; n0 < kPiece; n0 += kSlice) {
      opaque(at_rows), opaque(at_columns), opaque(row);
      float s[MT][kSlice / 8][4], dp[MT][kSlice / 8][4];
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) {
        set_all(s[i], 0.0f);
        const float d0 = drops ? 0 : -delta_of(i, 0), d1 = drops ? 0 : -delta_of(i, 2);
        TENUN_UNROLL
        for (int n = 0; n < kSlice / 8; ++n)
          dp[i][n][0] = dp[i][n][1] = d0, dp[i][n][2] = dp[i][n][3] = d1;
      }
      add_scores<T, kRow>(s, q_tile + own * kRow, k_tile, at_rows, at_columns, n0);
      if (with_dy) add_scores<T, kRow>(dp, g_tile + own * kRow, v_tile, at_rows, at_columns, n0);
      if (n0 + kSlice == kPiece && j + 1 < tiles) {
        __syncthreads();  // V of tile j is not read again
        copy_v(j + 1);
        cp_commit();
      }
      if constexpr (kGeneral) {
        TENUN_UNROLL
        for (int i = 0; i < MT; ++i)
          weigh_scores(s[i], by, weighted ? weights + (j & 1) * kPiece + n0 : nullptr, lane);
      }
      // A key that is not there has s = 0, and exp2(0 - l2) may overflow: 0 * inf would be NaN.
      if ((j + 1) * kPiece > keys.valid) {
        TENUN_UNROLL
        for (int i = 0; i < MT; ++i) mask_tail(s[i], j * kPiece + n0, keys.valid, lane);
      }
      TENUN_UNROLL
      for (int i = 0; i < MT; ++i) {
        const int first = rows.first + own + 16 * i;
        const float l0 = outside(i, 0) ? INFINITY : a.l2[row + 16 * i],
                    l1 = outside(i, 2) ? INFINITY : a.l2[row + 16 * i + 8];
        if (drops) {
          const unsigned bits = kept<kSlice / 8>(p, [&](int n, int e) {
            const int key = keys.token(j * kPiece + n0 + column_of(n, e, lane));
            return (bh * p.nq + first + row_of(e, lane)) * p.nk + key;
          });
          const float d0 = delta_of(i, 0), d1 = delta_of(i, 2);
          TENUN_UNROLL
          for (int n = 0; n < kSlice / 8; ++n) {
            TENUN_UNROLL
            for (int e = 0; e < 4; ++e)
              dp[i][n][e] =
                  kept_or_zero(bits, n, e, dp[i][n][e] * p.keep_scale) - (e < 2 ? d0 : d1);
          }
        }
        TENUN_UNROLL
        for (int n = 0; n < kSlice / 8; ++n) {
          TENUN_UNROLL
          for (int e = 0; e < 4; ++e)
            s[i][n][e] =
                ex2(fmaf(s[i][n][e], kGeneral ? 1.0f : by, -(e < 2 ? l0 : l1))) * dp[i][n][e];
        }
      }
      if constexpr (kGeneral) {
        if (parts != nullptr) sum_by_block(weight_sum, s, j * kPiece + n0, p, parts, lane);
      }
      add_values<T, D>(dq, s, k_tile, at_rows, n0);
    }
  }
  if (kGeneral && a.dq == nullptr) return;
  const auto scale = static_cast<float>(p.scale);
  TENUN_UNROLL
  for (int i = 0; i < MT; ++i)
    store_sums<D>(static_cast<float*>(a.dq) + bh * p.nq * p.d, dq[i], rows.first + own + 16 * i,
                  rows.end, p.d, scale, scale, lane);
}

/// Two buffers of queries, dy, l2 and delta.
template <class T, int D>
constexpr int kStage = 2 * kStreamed<T, D>*(sizeof(T) * D + 4);
template <class T, int D>
constexpr size_t dkdv_shared() {
  return 2 * kKeys * sizeof(T) * D + 2 * kStage<T, D> + 2 * kStreamed<T, D> * sizeof(int);
}

template <class T, int D, int kBlocks, bool kGeneral>
__global__ void __launch_bounds__(kGradientThreads, kBlocks)
    dkdv_kernel(const FlashBackward a, const ColumnParts columns) {
  constexpr int kRow = sizeof(T) * D, kPiece = kStreamed<T, D>, kSlice = kGradientSlice<T>,
                kBlock = kGradientThreads;
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char *const k_tile = memory, *const v_tile = k_tile + kKeys * kRow,
                       *const stages = v_tile + kKeys * kRow;
  int* const ids = reinterpret_cast<int*>(stages + 2 * kStage<T, D>);
  const FlashProblem& p = a.in;
  const bool weighted = kGeneral && p.weight != nullptr, drops = kGeneral && p.dropout > 0;
  const int tid = static_cast<int>(threadIdx.x), lane = tid & 31, own = (tid >> 5) * 16;
  auto number = static_cast<int>(blockIdx.x);
  const ColumnPart part = columns.part(number);
  if (part.parts == 0) return;
  const auto keys_of = [&](int tile) {
    const int head = tile / columns.tiles;
    return TensorRows<kKeys>::at(p.columns, head, tile - head * columns.tiles, p.nk, p.block_k,
                                 weighted);
  };
  const int bh = part.tile / columns.tiles;
  const auto rows = keys_of(part.tile);
  const bool with_dy = a.dy.p != nullptr;
  const Visit queries = Visit::of(p.columns, rows.list, p.block_q, p.nq);
  const Bytes q = Bytes::of<T>(p.q, bh, p.d), g = Bytes::of<T>(a.dy, bh, p.d);
  const float *const l2 = a.l2 + bh * p.nq, *const delta = a.padded_delta + bh * p.nq;
  // The plan counts pieces of 64 queries, which are several tiles in f32.
  const int pieces = rows.first < rows.end ? (queries.count + kKeys - 1) / kKeys : 0;
  const int64_t share = int64_t{pieces} * part.part;
  const int begin = static_cast<int>(share / part.parts) * (kKeys / kPiece),
            end = static_cast<int>((share + pieces) / part.parts) * (kKeys / kPiece);
  const auto stage = [&](int piece) { return stages + (piece & 1) * kStage<T, D>; };
  const auto name_tokens = [&](int piece) {
    if (tid < kPiece) ids[(piece & 1) * kPiece + tid] = queries.token(piece * kPiece + tid);
  };
  const auto start_copies = [&](int piece) {
    const int* const from = ids + (piece & 1) * kPiece;
    load_tokens<kPiece, kRow, kBlock>(stage(piece), q, from, tid);
    if (with_dy) load_tokens<kPiece, kRow, kBlock>(stage(piece) + kPiece * kRow, g, from, tid);
    cp_commit();
  };
  // l2 and delta of a piece: thread t reads them for query t; a query that is not there has P = 0.
  // Its weight is a factor of P = exp2(s - l2).
  struct RowNumbers {
    float l2, delta;
  };
  const auto read_numbers = [&](int piece) {
    const int id = tid < kPiece ? ids[(piece & 1) * kPiece + tid] : -1;
    if (id < 0) return RowNumbers{INFINITY, 0};
    const float weight = weighted ? log_weight(p, bh, id, rows.first) : 0;
    return RowNumbers{l2[id] - weight, delta[id]};
  };
  const auto keep_numbers = [&](int piece, const RowNumbers& r) {
    float* const to = reinterpret_cast<float*>(stage(piece) + 2 * kPiece * kRow);
    if (tid < kPiece) to[tid] = r.l2, to[kPiece + tid] = r.delta;
  };
  float dk[1][D / 8][4] = {}, dv[1][D / 8][4] = {};
  if (begin < end) {
    name_tokens(begin), name_tokens(begin + 1);
    __syncthreads();
    load_rows<kKeys, kRow, kBlock>(k_tile, Bytes::of<T>(p.k, bh, p.d), rows.first, rows.end, tid);
    load_rows<kKeys, kRow, kBlock>(v_tile, Bytes::of<T>(p.v, bh, p.d), rows.first, rows.end, tid);
    start_copies(begin);
    keep_numbers(begin, read_numbers(begin));
  }
  int at_rows = offset_rows<kRow>(lane), at_columns = offset_columns<kRow>(lane);
  const float by = static_cast<float>(p.scale) * kLog2E;
  for (int j = begin; j < end; ++j) {
    const unsigned char *const q_tile = stage(j), *const g_tile = q_tile + kPiece * kRow;
    const auto* const l2_of = reinterpret_cast<const float*>(g_tile + kPiece * kRow);
    cp_wait<0>();
    __syncthreads();  // piece j is there, piece j - 1 is not read again
    RowNumbers next{};
    if (j + 1 < end) {
      start_copies(j + 1);
      next = read_numbers(j + 1);
    }
    if (j + 2 < end) name_tokens(j + 2);
    TENUN_NO_UNROLL
    for (int n0 = 0; n0 < kPiece; n0 += kSlice) {
      opaque(at_rows), opaque(at_columns);
      float s[1][kSlice / 8][4], dp[1][kSlice / 8][4];
      set_all(s[0], 0.0f), set_all(dp[0], 0.0f);
      add_scores<T, kRow>(s, k_tile + own * kRow, q_tile, at_rows, at_columns, n0);
      if (with_dy) add_scores<T, kRow>(dp, v_tile + own * kRow, g_tile, at_rows, at_columns, n0);
      unsigned bits = 0;
      if (drops) {
        bits = kept<kSlice / 8>(p, [&](int n, int e) {
          const int query = queries.token(j * kPiece + n0 + column_of(n, e, lane)),
                    key = rows.first + own + row_of(e, lane);
          return (bh * p.nq + query) * p.nk + key;
        });
      }
      TENUN_UNROLL
      for (int n = 0; n < kSlice / 8; ++n) {
        const int at = n0 + n * 8 + (lane & 3) * 2;
        const float2 l = *reinterpret_cast<const float2*>(l2_of + at),
                     d = *reinterpret_cast<const float2*>(l2_of + kPiece + at);
        TENUN_UNROLL
        for (int e = 0; e < 4; ++e) {
          s[0][n][e] = ex2(fmaf(s[0][n][e], by, -((e & 1) != 0 ? l.y : l.x)));
          if (drops) dp[0][n][e] = kept_or_zero(bits, n, e, dp[0][n][e] * p.keep_scale);
          dp[0][n][e] = s[0][n][e] * (dp[0][n][e] - ((e & 1) != 0 ? d.y : d.x));
          if (drops) s[0][n][e] = kept_or_zero(bits, n, e, s[0][n][e] * p.keep_scale);
        }
      }
      TENUN_UNROLL
      for (int step = 0; step < kSlice / 16; ++step) {
        if (with_dy) add_value_step<T, D>(dv, s, step, g_tile, at_rows, n0);
        add_value_step<T, D>(dk, dp, step, q_tile, at_rows, n0);
      }
    }
    if (j + 1 < end) keep_numbers(j + 1, next);
  }
  opaque(number);  // read again, not kept in registers
  const ColumnPart done = columns.part(number);
  const auto keys = keys_of(done.tile);
  const auto scale = static_cast<float>(p.scale);
  const auto keep = [&](float* result, float* more, const float(&sums)[D / 8][4], float times) {
    if (done.slot < 0)
      store_sums<D>(result + done.tile / columns.tiles * p.nk * p.d, sums, keys.first + own,
                    keys.end, p.d, times, times, lane);
    else
      store_sums<D>(more + int64_t{done.slot} * kKeys * p.d, sums, own, keys.end - keys.first, p.d,
                    times, times, lane);
  };
  if (a.dk != nullptr) keep(static_cast<float*>(a.dk), columns.more_dk, dk[0], scale);
  if (a.dv != nullptr) keep(static_cast<float*>(a.dv), columns.more_dv, dv[0], 1.0f);
}

template <class T, int D, int MT, int kBlocks, bool kGeneral>
void launch_dq(FlashBackward a) {
  const FlashProblem& p = a.in;
  const int64_t tiles =
      tensor_tiles<64 * MT>(p.rows, p.nq, p.block_q, kGeneral && p.weight != nullptr);
  const int64_t tm = (p.nq + p.block_q - 1) / p.block_q, tn = (p.nk + p.block_k - 1) / p.block_k;
  std::optional<Scratch<float>> parts;
  if (kGeneral && a.dweight != nullptr)
    a.weight_parts = parts.emplace(p.heads * tiles * kGradientWarps * tn).get();
  launch(dq_kernel<T, D, MT, kBlocks, kGeneral>,
         dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(p.heads)), dim3(kGradientThreads),
         dq_shared<T, D, MT, kGeneral>(), a);
  if (parts)
    weight_gradient(
        {parts->get(), p.weight, p.heads * tm * tn, tiles / tm * kGradientWarps, tn, a.dweight});
}
template <class T, int D, int kBlocks, bool kGeneral>
void launch_dkdv(const FlashBackward& a) {
  const ColumnWork work(a);
  launch(dkdv_kernel<T, D, kBlocks, kGeneral>, dim3(static_cast<unsigned>(work.room())),
         dim3(kGradientThreads), dkdv_shared<T, D>(), a, work.parts());
  work.add_up(a);
}

template <class T, bool kGeneral>
void run_flash_gradient(const FlashBackward& a) {
  const FlashProblem& p = a.in;
  // 128 queries where they share a list, and where registers and shared memory are enough.
  const bool wide = p.rows_together() > 64;
  if (a.dq != nullptr || a.dweight != nullptr) {
    if constexpr (std::is_same_v<T, float>)
      p.d <= 64 ? launch_dq<T, 64, 1, 3, kGeneral>(a) : launch_dq<T, 128, 1, 2, kGeneral>(a);
    else if (p.d <= 64)
      wide ? launch_dq<T, 64, 2, kGeneral ? 2 : 3, kGeneral>(a)
           : launch_dq<T, 64, 1, 3, kGeneral>(a);
    else if constexpr (kGeneral)
      launch_dq<T, 128, 1, 2, kGeneral>(a);
    else
      wide&& dq_shared<T, 128, 2, kGeneral>() <= shared_limit()
          ? launch_dq<T, 128, 2, 2, kGeneral>(a)
          : launch_dq<T, 128, 1, 2, kGeneral>(a);
  }
  if (a.dk != nullptr || a.dv != nullptr)
    p.d <= 64 ? launch_dkdv<T, 64, 3, kGeneral>(a) : launch_dkdv<T, 128, 2, kGeneral>(a);
}

}  // namespace tenun::TENUN_BACKEND::attention
