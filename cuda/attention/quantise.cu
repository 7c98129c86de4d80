// Blocks of tokens as 8-bit numbers with one unit each: subtract the mean of all tokens, find the
// largest magnitude, divide, round. One kernel: the second reading of a block comes from the
// cache, where the first one left it. The mean itself comes from means of blocks, which the router
// of a sparse method has made already.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/plain_tile.h"
#include "tenun/cuda/team.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

// A block of threads takes 32 channels, eight blocks of tokens at a time.
template <class C>
__global__ void __launch_bounds__(kThreads, 1) token_mean_kernel(const TokenMean a) {
  TENUN_SHARED(C, room, kThreads);
  const int t = static_cast<int>(threadIdx.x);
  const int64_t count = blocks_of(a.n, a.block), bh = blockIdx.y;
  const int64_t c = int64_t{blockIdx.x} * 32 + t % 32;
  C sum = 0;
  if (c < a.d)
    for (int64_t j = t / 32; j < count; j += kThreads / 32) {
      const int64_t rest = a.n - j * a.block, tokens = rest < a.block ? rest : a.block;
      sum += static_cast<C>(tokens) * static_cast<const C*>(a.pooled)[(bh * count + j) * a.d + c];
    }
  room[t] = sum;
  __syncthreads();
  if (t >= 32 || c >= a.d) return;
  for (int k = 1; k < kThreads / 32; ++k) sum += room[t + 32 * k];
  static_cast<C*>(a.mean)[bh * a.d + c] = sum / static_cast<C>(a.n);
}

/// kCount channels at a time, of type T; of any type (a.x.dtype) and stride where kCount is 1.
template <class C, class T, int kCount>
struct Channels {
  C v[kCount];
  __device__ static Channels load(const Quantise& a, int64_t head, int64_t bh, int64_t row,
                                  int64_t c) {
    Channels x;
    if constexpr (kCount == 1) {
      x.v[0] = element<C>(a.x, head + row * a.x.row + c * a.x.column);
    } else {
      const auto p = Pack<T>::load(static_cast<const T*>(a.x.p) + head + row * a.x.row + c);
      TENUN_UNROLL
      for (int e = 0; e < kCount; ++e) x.v[e] = static_cast<C>(p.v[e]);
    }
    if (a.mean != nullptr) {
      const C* const mean = static_cast<const C*>(a.mean) + bh * a.d + c;
      TENUN_UNROLL
      for (int e = 0; e < kCount; ++e) x.v[e] -= mean[e];
    }
    return x;
  }
};

template <class C, class T, int kCount>
__global__ void __launch_bounds__(kThreads, 1) quantise_kernel(const Quantise a) {
  struct alignas(kCount) Codes {
    int8_t v[kCount];
  };
  using Part = Channels<C, T, kCount>;
  const Team<kBlockWarps> team;
  const int64_t count = blocks_of(a.n, a.block), bh = blockIdx.x / count, j = blockIdx.x % count;
  const int64_t first = j * a.block, end = first + a.block < a.n ? first + a.block : a.n;
  const int64_t head = head_offset(a.x, bh);
  const auto parts = static_cast<int>(a.d / kCount), all = static_cast<int>(end - first) * parts;
  C most = 0;
  for (int i = team.rank(); i < all; i += kThreads) {
    const Part x = Part::load(a, head, bh, first + i / parts, i % parts * kCount);
    TENUN_UNROLL
    for (int e = 0; e < kCount; ++e) {
      const C size = x.v[e] < 0 ? -x.v[e] : x.v[e];
      most = Larger{}(size, most);
    }
  }
  const C unit = team.largest(most) / C(127);  // NaN if one is in the block: scores must be NaN
  if (team.first()) static_cast<C*>(a.unit)[blockIdx.x] = unit;
  const bool whole = unit > 0 && unit < static_cast<C>(INFINITY);  // else the quotient may be NaN
  for (int i = team.rank(); i < all; i += kThreads) {
    const int64_t row = first + i / parts, c = i % parts * kCount, at = (bh * a.n + row) * a.d + c;
    const Part x = Part::load(a, head, bh, row, c);
    Codes codes;
    TENUN_UNROLL
    for (int e = 0; e < kCount; ++e) {  // a denormal unit has few digits: at most 127 of it
      const C v = x.v[e] / unit, bounded = v > 127 ? C(127) : v < -127 ? C(-127) : v;
      codes.v[e] = static_cast<int8_t>(whole ? static_cast<C>(rint(bounded)) : C(0));
    }
    if (a.y_dtype == DType::i8) {
      *reinterpret_cast<Codes*>(static_cast<int8_t*>(a.y) + at) = codes;
    } else {
      TENUN_UNROLL
      for (int e = 0; e < kCount; ++e) static_cast<C*>(a.y)[at + e] = static_cast<C>(codes.v[e]);
    }
  }
}

template <class T>
bool in_packs(const Quantise& a) {
  constexpr int64_t kCount = Pack<T>::kCount;
  const Rows& x = a.x;
  return x.dtype == dtype_of<T> && x.column == 1 && a.d % kCount == 0 && x.row % kCount == 0 &&
         x.head % kCount == 0 && x.batch % kCount == 0 && aligned_16(x.p);
}

}  // namespace

void token_mean(const TokenMean& a, DType compute) {
  if (a.heads * a.d == 0) return;
  launch(compute == DType::f64 ? token_mean_kernel<double> : token_mean_kernel<float>,
         dim3(static_cast<unsigned>((a.d + 31) / 32), static_cast<unsigned>(a.heads)),
         dim3(kThreads), 0, a);
}

void quantise(const Quantise& a, DType compute) {
  const int64_t groups = a.heads * ((a.n + a.block - 1) / a.block);
  if (groups == 0) return;
  const auto kernel = compute == DType::f64 ? quantise_kernel<double, double, 1>
                      : in_packs<bf16>(a)   ? quantise_kernel<float, bf16, 8>
                      : in_packs<f16>(a)    ? quantise_kernel<float, f16, 8>
                      : in_packs<float>(a)  ? quantise_kernel<float, float, 4>
                                            : quantise_kernel<float, float, 1>;
  launch(kernel, dim3(static_cast<unsigned>(groups)), dim3(kThreads), 0, a);
}

}  // namespace tenun::TENUN_BACKEND::attention
