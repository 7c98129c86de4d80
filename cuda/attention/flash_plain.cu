// Flash attention forward on the ordinary units (plain_tile.h): one block of threads takes 32
// queries of a query block and visits the keys of its list 32 at a time, with the running maximum
// and sum of the online softmax. With rounded probabilities (low-bit PV) the unit is the maximum
// that includes the whole key block, so a block's scores are formed twice.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/plain_tile.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

/// P as an integer number of units of 1 / most, or as an E4M3 number of them.
template <class C>
__device__ __forceinline__ C rounded(C p, const Units& u) {
  if (u.most == 0) return p;
  const C x = p * static_cast<C>(u.most);
  if (!u.fp8) return rint(x);
  return to_e4m3(x);
}

/// Products of a tile to scores: units, scale and the logarithm of the weight; -inf for no key.
template <class C>
__device__ __forceinline__ void finish_scores(C (&s)[4], const FlashForward& a, int64_t bh, int i,
                                              const int* ids) {
  const FlashProblem& p = a.in;
  const int c = static_cast<int>(threadIdx.x) % 8;
  TENUN_UNROLL
  for (int x = 0; x < 4; ++x) {
    const int j = ids[c + 8 * x];
    if (j < 0 || i < 0) {
      s[x] = static_cast<C>(-INFINITY);
      continue;
    }
    s[x] *= static_cast<C>(p.scale);
    if (a.units.q != nullptr)
      s[x] *= static_cast<const C*>(a.units.q)[bh * blocks_of(p.nq, p.block_q) + i / p.block_q] *
              static_cast<const C*>(a.units.k)[bh * blocks_of(p.nk, p.block_k) + j / p.block_k];
    if (p.weight != nullptr) s[x] += log(weight_of<C>(p, bh, i, j));
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) flash_forward_kernel(const FlashForward a) {
  TENUN_DYNAMIC_SHARED(C, memory);
  C *const xt = memory, *const yt = xt + kTile * kPitch, *const pt = yt + kTile * kPitch;
  int* const q_ids = reinterpret_cast<int*>(pt + kTile * kPitch);
  int* const k_ids = q_ids + kTile;
  const FlashProblem& p = a.in;
  const int64_t bh = blockIdx.y, first_channel = int64_t{blockIdx.z} * kSlab;
  const int t = static_cast<int>(threadIdx.x), r = t / 8, c = t % 8;
  const RowTile rows = RowTile::of(p.rows, bh, p.nq, p.block_q);
  const Sequence keys = Sequence::of(p.rows, rows.list, p.block_k, p.nk);
  const int64_t q_base = head_offset(p.q, bh), k_base = head_offset(p.k, bh),
                v_base = head_offset(p.v, bh);
  if (t < kTile) q_ids[t] = rows.first + t < rows.end ? static_cast<int>(rows.first) + t : -1;
  __syncthreads();
  const int i = q_ids[r];
  C sums[kSums] = {}, most = static_cast<C>(-INFINITY), total = 0;
  const auto scores = [&](C(&s)[4], int64_t at, int64_t end) {
    take_tokens(k_ids, keys, at, end);
    TENUN_UNROLL
    for (int x = 0; x < 4; ++x) s[x] = 0;
    dot_tile(s, xt, yt, p.q, q_base, q_ids, p.k, k_base, k_ids, p.d);
    finish_scores(s, a, bh, i, k_ids);
    C m = s[0];
    TENUN_UNROLL
    for (int x = 1; x < 4; ++x) m = s[x] > m ? s[x] : m;
    return row_max(m);
  };
  const auto raise = [&](C m) {  // the running maximum; what was summed is scaled to it
    if (!(m > most)) return;
    const C by = exp(most - m);
    most = m, total *= by;
    TENUN_UNROLL
    for (int x = 0; x < kSums; ++x) sums[x] *= by;
  };
  const bool apart = a.units.most != 0;
  const int64_t group = apart ? p.block_k : kTile;
  for (int64_t g = 0; g < keys.count; g += group) {
    const int64_t end = g + group < keys.count ? g + group : keys.count;
    C s[4];
    if (apart)
      for (int64_t at = g; at < end; at += kTile) raise(scores(s, at, end));
    for (int64_t at = g; at < end; at += kTile) {
      const C m = scores(s, at, end);
      if (!apart) raise(m);
      const C sub = most == static_cast<C>(-INFINITY) ? C(0) : most;
      TENUN_UNROLL
      for (int x = 0; x < 4; ++x) {
        const C w = exp(s[x] - sub);
        total += w;
        const int j = k_ids[c + 8 * x];
        pt[r * kPitch + c + 8 * x] =
            j < 0 || i < 0 ? C(0) : rounded(w, a.units) * keep_factor<C>(p, bh, i, j);
      }
      if (a.o != nullptr) add_product(sums, pt, yt, p.v, v_base, k_ids, first_channel, p.d);
    }
  }
  total = row_sum(total);
  if (i < 0) return;
  const int64_t row = bh * p.nq + i;
  if (c == 0 && blockIdx.z == 0)
    static_cast<C*>(a.lse)[row] = total == 0 ? static_cast<C>(-INFINITY) : most + log(total);
  if (a.o == nullptr) return;
  const C by = total == 0 ? C(0) : C(1) / total;
  TENUN_UNROLL
  for (int x = 0; x < kSums; ++x) {
    const int64_t channel = first_channel + x / 4 * kTile + c + 8 * (x % 4);
    if (channel >= p.d) continue;
    C v = sums[x] * by;
    if (a.units.v != nullptr)
      v *= static_cast<const C*>(a.units.v)[bh * p.d + channel] / static_cast<C>(a.units.most);
    store_as(a.o, a.o_dtype, row * p.d + channel, v);
  }
}

template <class C>
void run(const FlashForward& a) {
  const FlashProblem& p = a.in;
  const int64_t slabs = a.o != nullptr ? (p.d + kSlab - 1) / kSlab : 1;
  launch(flash_forward_kernel<C>,
         dim3(static_cast<unsigned>(row_tiles(p.rows, p.nq, p.block_q)),
              static_cast<unsigned>(p.heads), static_cast<unsigned>(slabs)),
         dim3(kThreads), 3 * kTile * kPitch * sizeof(C) + 2 * kTile * sizeof(int), a);
}

}  // namespace

void flash_forward_plain(const FlashForward& a, DType compute) {
  compute == DType::f64 ? run<double>(a) : run<float>(a);
}

}  // namespace tenun::TENUN_BACKEND::attention
