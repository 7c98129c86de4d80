// Means and largest magnitudes of blocks of tokens, and tokens as whole numbers of given units. A
// block of threads takes 32 channels of a block of tokens, eight tokens at a time; sums are taken
// in a fixed order.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/plain_tile.h"
#include "tenun/cuda/team.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

/// f over the tokens t / 32, t / 32 + 8, ... of a block for channel t % 32, joined over the eight
/// by `join`; thread t < 32 gets the result of its channel.
template <class C, class F, class J>
__device__ __forceinline__ C over_tokens(C* room, int64_t first, int64_t end, bool inside, F&& f,
                                         J&& join) {
  const int t = static_cast<int>(threadIdx.x);
  C v = 0;
  if (inside)
    for (int64_t i = first + t / kTile; i < end; i += 8) v = join(v, f(i));
  room[t] = v;
  __syncthreads();
  if (t < kTile)
    for (int k = 1; k < 8; ++k) v = join(v, room[t + kTile * k]);
  return v;
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) block_mean_kernel(const BlockMean a) {
  TENUN_DYNAMIC_SHARED(C, room);
  const int64_t count = blocks_of(a.n, a.block), bh = blockIdx.y;
  const int64_t block = blockIdx.x % count, c = blockIdx.x / count * kTile + threadIdx.x % kTile;
  const int64_t first = block * a.block, end = first + a.block < a.n ? first + a.block : a.n;
  const int64_t base = head_offset(a.x, bh) + c * a.x.column;
  const C sum = over_tokens<C>(
      room, first, end, c < a.d, [&](int64_t i) { return element<C>(a.x, base + i * a.x.row); },
      [](C x, C y) { return x + y; });
  if (threadIdx.x < kTile && c < a.d)
    static_cast<C*>(a.y)[(bh * count + block) * a.d + c] =
        sum / static_cast<C>(a.by_block ? a.block : end - first);
}

template <class C>
__device__ __forceinline__ C mean_of(const void* mean, int64_t bh, int64_t d, int64_t c) {
  return mean != nullptr ? static_cast<const C*>(mean)[bh * d + c] : C(0);
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) channel_amax_kernel(const ChannelAmax a) {
  TENUN_DYNAMIC_SHARED(C, room);
  const int64_t count = blocks_of(a.n, a.block), bh = blockIdx.y;
  const int64_t block = blockIdx.x % count, c = blockIdx.x / count * kTile + threadIdx.x % kTile;
  const int64_t first = block * a.block, end = first + a.block < a.n ? first + a.block : a.n;
  const int64_t base = head_offset(a.x, bh) + c * a.x.column;
  const C most = over_tokens<C>(
      room, first, end, c < a.d,
      [&](int64_t i) { return static_cast<C>(fabs(element<C>(a.x, base + i * a.x.row))); },
      Larger{});
  if (threadIdx.x < kTile && c < a.d)
    static_cast<C*>(a.unit)[(bh * count + block) * a.d + c] = most / static_cast<C>(a.most);
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) round_kernel(const Round a) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= a.heads * a.n * a.d) return;
  const int64_t c = at % a.d, i = at / a.d % a.n, bh = at / a.d / a.n;
  C x = element<C>(a.x, head_offset(a.x, bh) + i * a.x.row + c * a.x.column) -
        mean_of<C>(a.mean, bh, a.d, c);
  const C unit = a.unit != nullptr
                     ? static_cast<const C*>(a.unit)[bh * blocks_of(a.n, a.block) + i / a.block]
                 : a.channel_unit != nullptr ? static_cast<const C*>(a.channel_unit)[bh * a.d + c]
                                             : C(1);
  if (a.unit != nullptr || a.channel_unit != nullptr)
    x = unit > 0 && unit < static_cast<C>(INFINITY)
            ? (a.fp8 ? to_e4m3(x / unit) : static_cast<C>(rint(x / unit)))
            : C(0);
  store_as(a.y, a.y_dtype, at, x);
}

}  // namespace

void block_mean(const BlockMean& a, DType compute) {
  const int64_t tiles = (a.n + a.block - 1) / a.block * ((a.d + kTile - 1) / kTile);
  const bool wide = compute == DType::f64;
  if (tiles > 0 && a.heads > 0)
    launch(wide ? block_mean_kernel<double> : block_mean_kernel<float>,
           dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(a.heads)), dim3(kThreads),
           static_cast<size_t>(wide ? 8 : 4) * kThreads, a);
}
void channel_amax(const ChannelAmax& a, DType compute) {
  const int64_t tiles = (a.n + a.block - 1) / a.block * ((a.d + kTile - 1) / kTile);
  const bool wide = compute == DType::f64;
  if (tiles > 0 && a.heads > 0)
    launch(wide ? channel_amax_kernel<double> : channel_amax_kernel<float>,
           dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(a.heads)), dim3(kThreads),
           static_cast<size_t>(wide ? 8 : 4) * kThreads, a);
}
void round(const Round& a, DType compute) {
  const int64_t all = a.heads * a.n * a.d;
  if (all > 0)
    launch(compute == DType::f64 ? round_kernel<double> : round_kernel<float>,
           dim3(static_cast<unsigned>((all + kThreads - 1) / kThreads)), dim3(kThreads), 0, a);
}

}  // namespace tenun::TENUN_BACKEND::attention
