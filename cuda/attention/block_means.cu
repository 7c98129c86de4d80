// Means and largest magnitudes of blocks of tokens, and tokens as whole numbers of given units.
// Folds: a block of threads takes 32 channels of a block of tokens, eight tokens at a time, in a
// fixed order.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/plain_tile.h"
#include "tenun/cuda/team.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

/// How a token's number is read, how two are joined and what comes of all.
template <class Args>
struct Fold;
template <>
struct Fold<BlockMean> {
  using Join = Plus;
  template <class C>
  static __device__ C read(C x) {
    return x;
  }
  template <class C>
  static __device__ C finish(const BlockMean& a, C sum, int64_t tokens) {
    return sum / static_cast<C>(a.by_block ? a.block : tokens);
  }
};
template <>
struct Fold<ChannelAmax> {
  using Join = Larger;
  template <class C>
  static __device__ C read(C x) {
    return static_cast<C>(fabs(x));
  }
  template <class C>
  static __device__ C finish(const ChannelAmax& a, C most, int64_t) {
    return most / static_cast<C>(a.most);
  }
};

/// Thread t takes the tokens t / 32, t / 32 + 8, ... of a block for channel t % 32; then thread
/// t < 32 joins the eight of its channel.
template <class C, class Args>
__global__ void __launch_bounds__(kThreads, 1) fold_kernel(const Args a) {
  using F = Fold<Args>;
  TENUN_DYNAMIC_SHARED(C, room);
  const int t = static_cast<int>(threadIdx.x);
  const int64_t count = blocks_of(a.n, a.block), bh = blockIdx.y;
  const int64_t block = blockIdx.x % count, c = blockIdx.x / count * kTile + t % kTile;
  const int64_t first = block * a.block, end = first + a.block < a.n ? first + a.block : a.n;
  const int64_t base = head_offset(a.x, bh) + c * a.x.column;
  const typename F::Join join;
  C v = 0;
  if (c < a.d)
    for (int64_t i = first + t / kTile; i < end; i += 8)
      v = join(v, F::read(element<C>(a.x, base + i * a.x.row)));
  room[t] = v;
  __syncthreads();
  if (t >= kTile || c >= a.d) return;
  for (int k = 1; k < 8; ++k) v = join(v, room[t + kTile * k]);
  static_cast<C*>(a.y)[(bh * count + block) * a.d + c] = F::finish(a, v, end - first);
}

template <class Args>
void fold(const Args& a, DType compute) {
  const int64_t tiles = (a.n + a.block - 1) / a.block * ((a.d + kTile - 1) / kTile);
  const bool wide = compute == DType::f64;
  if (tiles > 0 && a.heads > 0)
    launch(wide ? fold_kernel<double, Args> : fold_kernel<float, Args>,
           dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(a.heads)), dim3(kThreads),
           static_cast<size_t>(wide ? 8 : 4) * kThreads, a);
}

template <class C>
__device__ __forceinline__ C mean_of(const void* mean, int64_t bh, int64_t d, int64_t c) {
  return mean != nullptr ? static_cast<const C*>(mean)[bh * d + c] : C(0);
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) round_kernel(const Round a) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= a.heads * a.n * a.d) return;
  const int64_t c = at % a.d, i = at / a.d % a.n, bh = at / a.d / a.n;
  C x = element<C>(a.x, head_offset(a.x, bh) + i * a.x.row + c * a.x.column) -
        mean_of<C>(a.mean, bh, a.d, c);
  if (a.unit != nullptr) {
    const C unit = static_cast<const C*>(a.unit)[bh * a.d + c];
    x = unit > 0 && unit < static_cast<C>(INFINITY)
            ? (a.fp8 ? to_e4m3(x / unit) : static_cast<C>(rint(x / unit)))
            : C(0);
  }
  store_as(a.y, a.y_dtype, at, x);
}

}  // namespace

void block_mean(const BlockMean& a, DType compute) { fold(a, compute); }
void channel_amax(const ChannelAmax& a, DType compute) { fold(a, compute); }
void round(const Round& a, DType compute) {
  const int64_t all = a.heads * a.n * a.d;
  if (all > 0)
    launch(compute == DType::f64 ? round_kernel<double> : round_kernel<float>,
           dim3(static_cast<unsigned>((all + kThreads - 1) / kThreads)), dim3(kThreads), 0, a);
}

}  // namespace tenun::TENUN_BACKEND::attention
