// Products of blocks in bf16 on the tensor cores, sums in f32: what the linear branch consists of
// (linear_plain.cu has the list). A block of threads computes 64 x kWide of one product: 4 warps of
// 16 rows; 64 steps of k at a time through two buffers. Either operand may lie with the sum's axis
// along its rows: ldmatrix turns it.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/product.h"
#include "tenun/cuda/attention/tensor_tile.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

constexpr int kBlock = 128, kDeep = 64, kHigh = 64;

/// Bytes of a row of B's tile: B (k, n) has kWide columns, of which the swizzle needs a power of 2.
template <int kWide, bool kTurnedB>
constexpr int kRowB = kTurnedB      ? 2 * kDeep
                      : kWide == 64 ? 128
                                    : 256;
template <int kWide, bool kTurnedB>
constexpr int kBytesB = (kTurnedB ? kWide : kDeep) * kRowB<kWide, kTurnedB>;
template <int kWide, bool kTurnedB>
constexpr size_t product_shared() {
  return 2 * (kHigh * 128 + kBytesB<kWide, kTurnedB>);
}

/// `rows` rows of `chunks` 16-byte chunks; what is behind `row_end` and `column_end` is zero.
template <int ROWB>
__device__ __forceinline__ void load_piece(unsigned char* tile, const bf16* x, int64_t stride,
                                           int rows, int chunks, int64_t row0, int64_t row_end,
                                           int64_t column0, int64_t column_end) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * chunks; i += kBlock) {
    const int r = i / chunks, c = i % chunks;
    const bool valid = row0 + r < row_end && column0 + c * 8 < column_end;
    cp_async16(tile + swizzled<ROWB>(r, c), valid ? x + (row0 + r) * stride + column0 + c * 8 : x,
               valid);
  }
}

template <int kWide, bool kTurnedA, bool kTurnedB>
__global__ void __launch_bounds__(kBlock, 3) product_tensor_kernel(const Product p) {
  constexpr int kRow = kRowB<kWide, kTurnedB>, kBytes = kBytesB<kWide, kTurnedB>;
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char *const a_tiles = memory, *const b_tiles = memory + 2 * kHigh * 128;
  const int lane = static_cast<int>(threadIdx.x) & 31,
            own = (static_cast<int>(threadIdx.x) >> 5) * 16;
  const auto tile = ProductTile<kHigh, kWide>::of(p);
  const int64_t m0 = tile.m0, n0 = tile.n0, m = tile.m, k = tile.k;
  const bf16* const a = static_cast<const bf16*>(p.a.p) + tile.offset(p.a);
  const bf16* const b = static_cast<const bf16*>(p.b.p) + tile.offset(p.b);
  const auto load = [&](int64_t k0, int buffer) {
    unsigned char *const at = a_tiles + buffer * kHigh * 128, *const bt = b_tiles + buffer * kBytes;
    if constexpr (kTurnedA)
      load_piece<128>(at, a, p.a.column, kDeep, 8, k0, k, m0, p.m);
    else
      load_piece<128>(at, a, p.a.row, kHigh, 8, m0, m, k0, p.k);
    if constexpr (kTurnedB)
      load_piece<128>(bt, b, p.b.column, kWide, 8, n0, p.n, k0, p.k);
    else
      load_piece<kRow>(bt, b, p.b.row, kDeep, kWide / 8, k0, k, n0, p.n);
    cp_commit();
  };
  float sums[kWide / 8][4] = {};
  const int at_rows = offset_rows<128>(lane), at_columns = offset_columns<128>(lane),
            at_b = offset_rows<kRow>(lane);
  load(0, 0);
  for (int64_t k0 = 0, j = 0; k0 < k; k0 += kDeep, ++j) {
    const int buffer = static_cast<int>(j & 1);
    cp_wait<0>();
    __syncthreads();  // this piece is there, the one before it is not read again
    if (k0 + kDeep < k) load(k0 + kDeep, buffer ^ 1);
    const unsigned char *const at = a_tiles + buffer * kHigh * 128, *const bt =
                                                                        b_tiles + buffer * kBytes;
    TENUN_UNROLL
    for (int step = 0; step < kDeep / 16; ++step) {
      unsigned x[4];
      if constexpr (kTurnedA)
        load_at<128>(x, at, at_columns, step * 16, own / 16);
      else
        load_a<128>(x, at, at_rows, own, step);
      TENUN_UNROLL
      for (int n = 0; n < kWide / 16; ++n) {
        unsigned y[4];
        if constexpr (kTurnedB)
          load_bt<128>(y, bt, at_columns, n * 16, step);
        else
          load_b<kRow>(y, bt, at_b, step * 16, n);
        mma_bf16(sums[2 * n], x, y[0], y[1]);
        mma_bf16(sums[2 * n + 1], x, y[2], y[3]);
      }
    }
  }
  const int64_t row = m0 + own + (lane >> 2), base = tile.offset(p.c);
  TENUN_UNROLL
  for (int n = 0; n < kWide / 8; ++n) {
    const int64_t column = n0 + n * 8 + (lane & 3) * 2;
    TENUN_UNROLL
    for (int h = 0; h < 2; ++h) {
      if (row + 8 * h >= m || column >= p.n) continue;
      const int64_t to = base + (row + 8 * h) * p.c.row + column;
      float x = sums[n][2 * h], y = sums[n][2 * h + 1];
      if (p.c_dtype == DType::bf16) {
        *reinterpret_cast<unsigned*>(static_cast<bf16*>(const_cast<void*>(p.c.p)) + to) =
            pack_bf16(x, y);
        continue;
      }
      float* const out = static_cast<float*>(const_cast<void*>(p.c.p)) + to;
      if (p.c.row % 2 != 0) {  // rows of odd length: not in pairs
        out[0] = p.accumulate ? out[0] + x : x;
        if (column + 1 < p.n) out[1] = p.accumulate ? out[1] + y : y;
        continue;
      }
      auto* const pair = reinterpret_cast<float2*>(out);
      if (p.accumulate) x += pair->x, y += pair->y;
      *pair = float2{x, y};
    }
  }
}

}  // namespace

void product_tensor(const Product& p) {
  by_shape(p, [&]<int kWide, bool kTurnedA, bool kTurnedB>() {
    launch(product_tensor_kernel<kWide, kTurnedA, kTurnedB>, product_grid(p, kHigh, kWide),
           dim3(kBlock), product_shared<kWide, kTurnedB>(), p);
  });
}

}  // namespace tenun::TENUN_BACKEND::attention
