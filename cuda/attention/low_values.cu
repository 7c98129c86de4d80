// V in 8 bits as flash_low.h reads it: tiles of 64 tokens of a key block, turned, so that the four
// tokens that a lane multiplies lie in one word. They are turned here, where V is read and written
// once, and not in the attention kernel, where every block of queries would do it again.
//   y: (heads, key blocks, tiles of a block, d, 64) bytes; 0 where a block lacks tokens.
// Byte p of 16 holds token 2 (p / 4) + p % 2 + 8 (p / 2 % 2) (attention.md 4.4).
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/plain_tile.h"
#include "tenun/cuda/e4m3.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

constexpr int kTokens = 64, kWords = kTokens / 4, kWordPitch = kWords + 1;

// A block of threads for each tile: words to shared memory along the channels, out along the
// tokens.
__global__ void __launch_bounds__(kThreads, 1) low_values_kernel(const LowValues a) {
  TENUN_DYNAMIC_SHARED(unsigned, words);
  const int64_t bh = blockIdx.y, tile = blockIdx.x, block = tile / a.per;
  const int64_t first = block * a.block + tile % a.per * kTokens,
                end = (block + 1) * a.block < a.n ? (block + 1) * a.block : a.n;
  const int64_t base = head_offset(a.x, bh);
  const int d = static_cast<int>(a.d), all = d * kWords;
  for (int at = static_cast<int>(threadIdx.x); at < all; at += kThreads) {
    const int c = at % d, w = at / d;
    const float unit = static_cast<const float*>(a.unit)[bh * a.d + c];
    const int64_t from = first + w / 4 * 16 + w % 4 * 2;
    unsigned word = 0;
    TENUN_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int64_t token = from + i % 2 + i / 2 * 8;
      const bool there = token < end && unit > 0 && unit < INFINITY;
      const float x =
          there ? element<float>(a.x, base + token * a.x.row + c * a.x.column) / unit : 0.0f;
      const unsigned code = a.fp8 ? e4m3_of(x) : static_cast<unsigned>(__float2int_rn(x)) & 0xffu;
      word |= code << 8 * i;
    }
    words[c * kWordPitch + w] = word;
  }
  __syncthreads();
  unsigned* const y =
      static_cast<unsigned*>(a.y) + (bh * gridDim.x + tile) * static_cast<int64_t>(all);
  for (int at = static_cast<int>(threadIdx.x); at < all; at += kThreads)
    y[at] = words[at / kWords * kWordPitch + at % kWords];
}

}  // namespace

void low_values(const LowValues& a) {
  const int64_t tiles = (a.n + a.block - 1) / a.block * a.per;
  if (tiles > 0 && a.heads > 0)
    launch(low_values_kernel, dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(a.heads)),
           dim3(kThreads), static_cast<size_t>(a.d) * kWordPitch * sizeof(unsigned), a);
}

}  // namespace tenun::TENUN_BACKEND::attention
