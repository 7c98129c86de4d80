// Flash attention backward on the ordinary units: one kernel for both directions. A block of
// threads owns 32 rows (queries for dq, keys for dk and dv) and visits the tokens of the other kind
// 32 at a time, forming P = exp(s - lse) and dS = P (dy . v - delta) of the tile again:
//   dq = scale dS k        dk = scale dS^T q, dv = P^T dy
// No sum crosses blocks of threads, so the result does not depend on their order. The gradient of
// soft weights, sum of dS / weight over a pair of blocks, has a kernel of its own on the same
// tiles.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/plain_tile.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

template <class C>
struct Pair {
  C p, ds;  ///< after dropout: p as dv sees it
};
/// Probability and score gradient of (i, j) from the products s = q . k and dp = dy . v.
template <class C>
__device__ __forceinline__ Pair<C> pair_of(const FlashBackward& a, int64_t bh, int i, int j, C s,
                                           C dp) {
  if (i < 0 || j < 0) return {C(0), C(0)};
  const FlashProblem& p = a.in;
  const C lse = static_cast<const C*>(a.lse)[bh * p.nq + i];
  if (lse == static_cast<C>(-INFINITY)) return {C(0), C(0)};
  s *= static_cast<C>(p.scale);
  if (p.weight != nullptr) s += log(weight_of<C>(p, bh, i, j));
  const C w = exp(s - lse), keep = keep_factor<C>(p, bh, i, j);
  return {w * keep, w * (keep * dp - static_cast<const C*>(a.delta)[bh * p.nq + i])};
}

/// How many tiles of shared memory, and rows of token numbers behind them.
inline constexpr int kTiles = 4;
template <class C>
constexpr size_t shared_bytes() {
  return kTiles * kTile * kPitch * sizeof(C) + 2 * kTile * sizeof(int);
}

template <class C, bool kKeys>
__global__ void __launch_bounds__(kThreads, 1) flash_backward_kernel(const FlashBackward a) {
  TENUN_DYNAMIC_SHARED(C, memory);
  C *const xt = memory, *const yt = xt + kTile * kPitch, *const st = yt + kTile * kPitch,
           *const pt = st + kTile * kPitch;
  int* const x_ids = reinterpret_cast<int*>(pt + kTile * kPitch);
  int* const y_ids = x_ids + kTile;
  const FlashProblem& p = a.in;
  const Rows &x = kKeys ? p.k : p.q, &y = kKeys ? p.q : p.k;          // s = x . y
  const Rows &x_up = kKeys ? p.v : a.dy, &y_up = kKeys ? a.dy : p.v;  // dp = x_up . y_up
  const int64_t n = kKeys ? p.nk : p.nq, block = kKeys ? p.block_k : p.block_q;
  const Lists& lists = kKeys ? p.columns : p.rows;
  const int64_t bh = blockIdx.y, first_channel = int64_t{blockIdx.z} * kSlab;
  const int t = static_cast<int>(threadIdx.x), r = t / 8, c = t % 8;
  const RowTile rows = RowTile::of(lists, bh, n, block);
  const Sequence others =
      Sequence::of(lists, rows.list, kKeys ? p.block_q : p.block_k, kKeys ? p.nq : p.nk);
  const int64_t x_base = head_offset(x, bh), y_base = head_offset(y, bh),
                xu_base = head_offset(x_up, bh), yu_base = head_offset(y_up, bh);
  if (t < kTile) x_ids[t] = rows.first + t < rows.end ? static_cast<int>(rows.first) + t : -1;
  __syncthreads();
  const int own = x_ids[r];
  C from_scores[kSums] = {}, from_values[kKeys ? kSums : 1] = {};
  for (int64_t at = 0; at < others.count; at += kTile) {
    take_tokens(y_ids, others, at, others.count);
    C s[4] = {}, dp[4] = {};
    dot_tile(s, xt, yt, x, x_base, x_ids, y, y_base, y_ids, p.d);
    if (a.dy.p != nullptr) dot_tile(dp, xt, yt, x_up, xu_base, x_ids, y_up, yu_base, y_ids, p.d);
    TENUN_UNROLL
    for (int k = 0; k < 4; ++k) {
      const int other = y_ids[c + 8 * k];
      const Pair<C> e =
          kKeys ? pair_of(a, bh, other, own, s[k], dp[k]) : pair_of(a, bh, own, other, s[k], dp[k]);
      st[r * kPitch + c + 8 * k] = e.ds * static_cast<C>(p.scale);
      if constexpr (kKeys) pt[r * kPitch + c + 8 * k] = e.p;
    }
    add_product(from_scores, st, yt, y, y_base, y_ids, first_channel, p.d);
    if constexpr (kKeys)
      if (a.dy.p != nullptr)
        add_product(from_values, pt, yt, y_up, yu_base, y_ids, first_channel, p.d);
  }
  if (own < 0) return;
  TENUN_UNROLL
  for (int k = 0; k < kSums; ++k) {
    const int64_t channel = first_channel + k / 4 * kTile + c + 8 * (k % 4);
    if (channel >= p.d) continue;
    const int64_t to = (bh * n + own) * p.d + channel;
    C* const dx = static_cast<C*>(kKeys ? a.dk : a.dq);
    if (dx != nullptr) dx[to] = from_scores[k];
    if constexpr (kKeys)
      if (a.dv != nullptr) static_cast<C*>(a.dv)[to] = from_values[k];
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) weight_gradient_kernel(const FlashBackward a) {
  TENUN_DYNAMIC_SHARED(C, memory);
  C *const xt = memory, *const yt = xt + kTile * kPitch, *const sums = yt + kTile * kPitch;
  int* const q_ids = reinterpret_cast<int*>(memory + kTiles * kTile * kPitch);
  int* const k_ids = q_ids + kTile;
  const FlashProblem& p = a.in;
  const int64_t bh = blockIdx.y, tn = blocks_of(p.nk, p.block_k), tm = blocks_of(p.nq, p.block_q);
  const int64_t row = blockIdx.x / tn, column = blockIdx.x % tn;
  const int t = static_cast<int>(threadIdx.x), r = t / 8, c = t % 8;
  const Sequence queries{nullptr, p.nq, p.block_q, p.nq}, keys{nullptr, p.nk, p.block_k, p.nk};
  const int64_t q_base = head_offset(p.q, bh), k_base = head_offset(p.k, bh),
                y_base = head_offset(a.dy, bh), v_base = head_offset(p.v, bh);
  C sum = 0;
  for (int64_t i = row * p.block_q; i < (row + 1) * p.block_q; i += kTile) {
    take_tokens(q_ids, queries, i, (row + 1) * p.block_q);
    for (int64_t j = column * p.block_k; j < (column + 1) * p.block_k; j += kTile) {
      take_tokens(k_ids, keys, j, (column + 1) * p.block_k);
      C s[4] = {}, dp[4] = {};
      dot_tile(s, xt, yt, p.q, q_base, q_ids, p.k, k_base, k_ids, p.d);
      if (a.dy.p != nullptr) dot_tile(dp, xt, yt, a.dy, y_base, q_ids, p.v, v_base, k_ids, p.d);
      TENUN_UNROLL
      for (int k = 0; k < 4; ++k) sum += pair_of(a, bh, q_ids[r], k_ids[c + 8 * k], s[k], dp[k]).ds;
    }
  }
  sum = row_sum(sum);
  if (c == 0) sums[r] = sum;
  __syncthreads();
  if (t != 0) return;
  for (int k = 1; k < kTile; ++k) sum += sums[k];
  static_cast<C*>(a.dweight)[(bh * tm + row) * tn + column] =
      sum / weight_of<C>(p, bh, row * p.block_q, column * p.block_k);
}

template <class C>
void run(const FlashBackward& a) {
  const FlashProblem& p = a.in;
  const auto heads = static_cast<unsigned>(p.heads);
  const auto slabs = static_cast<unsigned>((p.d + kSlab - 1) / kSlab);
  const auto tiles = [&](const Lists& l, int64_t n, int64_t block) {
    return dim3(static_cast<unsigned>(row_tiles(l, n, block)), heads, slabs);
  };
  constexpr size_t bytes = shared_bytes<C>();
  if (a.dq != nullptr)
    launch(flash_backward_kernel<C, false>, tiles(p.rows, p.nq, p.block_q), dim3(kThreads), bytes,
           a);
  if (a.dk != nullptr || a.dv != nullptr)
    launch(flash_backward_kernel<C, true>, tiles(p.columns, p.nk, p.block_k), dim3(kThreads), bytes,
           a);
  if (a.dweight != nullptr) {
    const int64_t pairs =
        ((p.nq + p.block_q - 1) / p.block_q) * ((p.nk + p.block_k - 1) / p.block_k);
    launch(weight_gradient_kernel<C>, dim3(static_cast<unsigned>(pairs), heads), dim3(kThreads),
           bytes, a);
  }
}

}  // namespace

void flash_backward_plain(const FlashBackward& a, DType compute) {
  compute == DType::f64 ? run<double>(a) : run<float>(a);
}

}  // namespace tenun::TENUN_BACKEND::attention
