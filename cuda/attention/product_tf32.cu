// Products of blocks of f32 numbers on the tensor cores in TF32 (10 bits behind the leading one,
// the exponents of f32), sums in f32: the linear branch of f16, whose states and quotients would
// leave f16's range but need no more than its digits, and of bf16 in head sizes that
// product_tensor.cu does not take. kExact: as sums of two TF32 numbers (tensor_tile.h), which keeps
// the digits of f32. As there, a block of threads computes 64 x kWide; 32 steps of k
// at a time through two buffers. ldmatrix cannot turn 32-bit numbers, so fragments are read one
// number at a time; rows are padded so that the 32 numbers of a read lie in different banks.
// Factors are rounded as they are read.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/product.h"
#include "tenun/cuda/attention/tensor_tile.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

constexpr int kBlock = 128, kDeep = 32, kHigh = 64;

struct Rounded {};
/// A factor as one TF32 number (T = Rounded) or as two (float).
template <class T, int N>
__device__ __forceinline__ Factor<T, N> factor_of(const float (&x)[N]) {
  unsigned v[N];
  TENUN_UNROLL
  for (int i = 0; i < N; ++i)
    v[i] = std::is_same_v<T, float> ? __float_as_uint(x[i]) : to_tf32(x[i]);
  return factor<T>(v);
}

/// A tile in shared memory as it lies in global memory: rows of k, or of what is beside k.
template <int kSize, bool kAlongK>
struct Tile {
  static constexpr int kRows = kAlongK ? kSize : kDeep, kColumns = kAlongK ? kDeep : kSize;
  // Reads of 8 rows and 4 columns want a pitch of 4 banks, those of 4 rows and 8 columns of 8
  // or 24.
  static constexpr int kPitch = kAlongK ? kDeep + 4 : kSize + 8;
  static constexpr int kNumbers = kRows * kPitch;
  static __device__ __forceinline__ float at(const float* tile, int beside, int k) {
    return kAlongK ? tile[beside * kPitch + k] : tile[k * kPitch + beside];
  }
  /// Rows row0.. and columns column0.. of x; what is behind the ends is zero. `packs`: they may be
  /// copied 16 bytes at a time.
  static __device__ __forceinline__ void load(float* tile, const float* x, int64_t stride,
                                              int64_t row0, int64_t row_end, int64_t column0,
                                              int64_t column_end, bool packs) {
    const int per = packs ? 4 : 1, across = kColumns / per;
    for (int i = static_cast<int>(threadIdx.x); i < kRows * across; i += kBlock) {
      const int r = i / across, c = i % across * per;
      const bool valid = row0 + r < row_end && column0 + c < column_end;
      const float* const from = valid ? x + (row0 + r) * stride + column0 + c : x;
      if (packs)
        cp_async16(tile + r * kPitch + c, from, valid);
      else
        tile[r * kPitch + c] = valid ? *from : 0.0f;
    }
  }
};

template <int kWide, bool kTurnedA, bool kTurnedB, bool kExact>
__global__ void __launch_bounds__(kBlock, kExact ? 2 : 3)  // sums of their own take registers
    product_tf32_kernel(const Product p, bool packs_a, bool packs_b) {
  using T = std::conditional_t<kExact, float, Rounded>;
  using A = Tile<kHigh, !kTurnedA>;
  using B = Tile<kWide, kTurnedB>;
  TENUN_DYNAMIC_SHARED(float, memory);
  float *const a_tiles = memory, *const b_tiles = memory + 2 * A::kNumbers;
  const int lane = static_cast<int>(threadIdx.x) & 31, g = lane >> 2, t = lane & 3,
            own = (static_cast<int>(threadIdx.x) >> 5) * 16;
  const auto tile = ProductTile<kHigh, kWide>::of(p);
  const int64_t m0 = tile.m0, n0 = tile.n0, m = tile.m, k = tile.k;
  const float* const a = static_cast<const float*>(p.a.p) + tile.offset(p.a);
  const float* const b = static_cast<const float*>(p.b.p) + tile.offset(p.b);
  const auto load = [&](int64_t k0, int buffer) {
    float *const at = a_tiles + buffer * A::kNumbers, *const bt = b_tiles + buffer * B::kNumbers;
    if constexpr (kTurnedA)
      A::load(at, a, p.a.column, k0, k, m0, m, packs_a);
    else
      A::load(at, a, p.a.row, m0, m, k0, k, packs_a);
    if constexpr (kTurnedB)
      B::load(bt, b, p.b.column, n0, p.n, k0, k, packs_b);
    else
      B::load(bt, b, p.b.row, k0, k, n0, p.n, packs_b);
    cp_commit();
  };
  float sums[kWide / 8][4] = {};
  load(0, 0);
  for (int64_t k0 = 0, j = 0; k0 < k; k0 += kDeep, ++j) {
    const int buffer = static_cast<int>(j & 1);
    cp_wait<0>();
    __syncthreads();  // this piece is there, the one before it is not read again
    if (k0 + kDeep < k) load(k0 + kDeep, buffer ^ 1);
    const float *const at = a_tiles + buffer * A::kNumbers, *const bt =
                                                                b_tiles + buffer * B::kNumbers;
    TENUN_UNROLL
    for (int step = 0; step < kDeep; step += 8) {
      const auto x =
          factor_of<T, 4>({A::at(at, own + g, step + t), A::at(at, own + g + 8, step + t),
                           A::at(at, own + g, step + t + 4), A::at(at, own + g + 8, step + t + 4)});
      TENUN_UNROLL
      for (int n = 0; n < kWide / 8; ++n) {
        const auto y =
            factor_of<T, 2>({B::at(bt, n * 8 + g, step + t), B::at(bt, n * 8 + g, step + t + 4)});
        if constexpr (kExact) {
          float sum[4] = {};
          multiply<T>(sum, x, y);
          TENUN_UNROLL
          for (int e = 0; e < 4; ++e) sums[n][e] += sum[e];
        } else {
          multiply<T>(sums[n], x, y);
        }
      }
    }
  }
  float* const out = static_cast<float*>(const_cast<void*>(p.c.p)) + tile.offset(p.c);
  TENUN_UNROLL
  for (int n = 0; n < kWide / 8; ++n) {
    TENUN_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int64_t row = m0 + own + g + e / 2 * 8, column = n0 + n * 8 + t * 2 + e % 2;
      if (row >= m || column >= p.n) continue;
      float* const to = out + row * p.c.row + column;
      *to = p.accumulate ? *to + sums[n][e] : sums[n][e];
    }
  }
}

/// May the rows of x (or its columns, if they are what lies together) be read 16 bytes at a time?
/// Whole ones: none may cross the end of `together` numbers.
bool packs(const Product::Matrix& x, int64_t together) {
  const int64_t stride = x.column == 1 ? x.row : x.column;
  return x.head % 4 == 0 && x.block % 4 == 0 && stride % 4 == 0 && together % 4 == 0 &&
         reinterpret_cast<uintptr_t>(x.p) % 16 == 0;
}

template <bool kExact>
void run(const Product& p) {
  by_shape(p, [&]<int kWide, bool kTurnedA, bool kTurnedB>() {
    // Where a block is short the axis of tokens ends anywhere, but it lies across the rows.
    const bool a = packs(p.a, kTurnedA ? p.m : p.k), b = packs(p.b, kTurnedB ? p.k : p.n);
    launch(product_tf32_kernel<kWide, kTurnedA, kTurnedB, kExact>, product_grid(p, kHigh, kWide),
           dim3(kBlock),
           2 * sizeof(float) * (Tile<kHigh, !kTurnedA>::kNumbers + Tile<kWide, kTurnedB>::kNumbers),
           p, a, b);
  });
}

}  // namespace

void product_tf32(const Product& p) { run<false>(p); }
void product_f32(const Product& p) { run<true>(p); }

}  // namespace tenun::TENUN_BACKEND::attention
