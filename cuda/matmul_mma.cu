// Matrix products on the tensor cores, for bf16, f16 and i8: mma.sync on tiles that cp.async brings
// to shared memory ahead of time. A block makes kTile x kTile elements of c; its warps share them.
//
//   step s of k (64 bytes):   wait for stage s | fetch stage s + 2 | ldmatrix, mma on stage s
//
// In shared memory a tile lies as in global memory: along k (a weight [N, K], the rows of x), or
// along the lanes (the transposed operands of backward passes), which ldmatrix transposes on the
// way to registers. Rows are 16 bytes longer than what they hold, so that the 8 rows that ldmatrix
// reads at a time lie in different banks. ldmatrix knows 16-bit elements only, but along k a pair
// of i8 moves like one of them; i8 tiles are always put along k. Operands whose rows are not
// multiples of 16 bytes are fetched element by element.
#include "tenun/cuda/elements.h"
#include "tenun/cuda/matmul.h"

namespace tenun::TENUN_BACKEND {
namespace {

constexpr int kStages = 3;
constexpr int kRowBytes = 64;  // of k, in a stage
constexpr int kPad = 16;

enum class Along { k, lanes };

/// Sizes that follow from the element and the tile.
template <class T, int kTile>
struct Sizes {
  static constexpr int kThreadsOfTile =
      kTile * 2;  // 64: 2 x 2 warps of 32 x 32; 128: 2 x 4 of 64 x 32
  static constexpr int kWarpRows = kTile / 2, kWarpColumns = 32;
  static constexpr int kPack = 16 / static_cast<int>(sizeof(T));          // elements of a fetch
  static constexpr int kDepth = kRowBytes / static_cast<int>(sizeof(T));  // k of a stage
  static constexpr int kStride(Along along) {  // bytes of a row in shared memory
    return (along == Along::k ? kRowBytes : kTile * static_cast<int>(sizeof(T))) + kPad;
  }
  static constexpr int kBytes(Along along) {
    return kStride(along) * (along == Along::k ? kTile : kDepth);
  }
};

/// One operand of a block: its lanes from `lane0` on.
template <class T>
struct Source {
  const T* data;
  int64_t lane0, lanes, k, lane_stride, k_stride;
  bool packs;  // may it be read 16 bytes at a time?

  /// `count` elements from (lane, at) on, along the axis of the tile, to shared memory.
  template <Along along, int count>
  __device__ void fetch(void* to, int64_t lane, int64_t at) const {
    const int64_t l = lane0 + lane;
    if (packs) {  // then a pack is either inside of the matrix or outside
      const bool inside = l < lanes && at < k;
      cp_async16(to, inside ? data + l * lane_stride + at * k_stride : data, inside);
      return;
    }
    Pack<T> p;
    for (int i = 0; i < count; ++i) {
      const int64_t li = along == Along::lanes ? l + i : l, ki = along == Along::k ? at + i : at;
      p.v[i] = li < lanes && ki < k ? data[li * lane_stride + ki * k_stride] : T{};
    }
    p.store(static_cast<T*>(to));
  }
};

template <class T, Along along, int kTile>
__device__ void fetch_tile(unsigned char* tile, const Source<T>& x, int64_t k0) {
  using S = Sizes<T, kTile>;
  constexpr int kPacks = (along == Along::k ? S::kDepth : kTile) / S::kPack;  // in a row
  constexpr int kRows = along == Along::k ? kTile : S::kDepth;
  TENUN_UNROLL
  for (int i = 0; i < kPacks * kRows / S::kThreadsOfTile; ++i) {
    const int at = i * S::kThreadsOfTile + static_cast<int>(threadIdx.x);
    const int row = at / kPacks, pack = at % kPacks;
    unsigned char* const to = tile + row * S::kStride(along) + pack * 16;
    if constexpr (along == Along::k)
      x.template fetch<along, S::kPack>(to, row, k0 + pack * S::kPack);
    else
      x.template fetch<along, S::kPack>(to, pack * S::kPack, k0 + row);
  }
}

// Fragments of 16 lanes by 32 bytes of k from a tile; lane and k (in bytes along k, in elements
// along lanes) say where. For `a` matrix 1 of ldmatrix is 8 lanes further and matrix 2 half of k;
// for `b` the other way round, which makes the pairs of registers that mma wants of two columns of
// tiles.
enum class Side { a, b };
template <class T, Along along, int kTile, Side side>
__device__ void read_fragment(unsigned (&r)[4], const unsigned char* tile, int lane0, int step) {
  constexpr int kStride = Sizes<T, kTile>::kStride(along);
  const int thread = static_cast<int>(threadIdx.x) % 32, row = thread % 8;
  const int low = thread / 8 % 2, high = thread / 16;
  const int lanes = (side == Side::a ? low : high) * 8, half = side == Side::a ? high : low;
  if constexpr (along == Along::k)
    ldmatrix_x4(r, tile + (lane0 + lanes + row) * kStride + step * 32 + half * 16);
  else
    ldmatrix_x4_t(r, tile + (step * 16 + half * 8 + row) * kStride + (lane0 + lanes) * 2);
}

__device__ inline void multiply(bf16, float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                unsigned b1) {
  mma_bf16(d, a, b0, b1);
}
__device__ inline void multiply(f16, float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                unsigned b1) {
  mma_f16(d, a, b0, b1);
}
__device__ inline void multiply(int8_t, int (&d)[4], const unsigned (&a)[4], unsigned b0,
                                unsigned b1) {
  mma_s8(d, a, b0, b1);
}

template <class T, Along kA, Along kB, int kTile>
__global__ void __launch_bounds__(Sizes<T, kTile>::kThreadsOfTile, 1)
    mma_tiles(const MatrixProduct p, bool packs_a, bool packs_b) {
  using S = Sizes<T, kTile>;
  using Sum = std::conditional_t<std::is_same_v<T, int8_t>, int, float>;
  using Out = std::conditional_t<std::is_same_v<T, int8_t>, float, T>;
  constexpr int kBytesA = S::kBytes(kA), kBytesB = S::kBytes(kB);
  constexpr int kTilesM = S::kWarpRows / 16, kTilesN = S::kWarpColumns / 8;
  TENUN_DYNAMIC_SHARED(unsigned char, shared);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp % 2 * S::kWarpRows, warp_column = warp / 2 * S::kWarpColumns;
  const int64_t m0 = int64_t{blockIdx.x} * kTile, n0 = int64_t{blockIdx.y} * kTile;
  const int steps = static_cast<int>((p.k + S::kDepth - 1) / S::kDepth);

  for (int64_t batch = blockIdx.z; batch < p.batch; batch += gridDim.z) {
    const Source<T> a{static_cast<const T*>(p.a.data) + batch * p.a.batch_stride,
                      m0,
                      p.m,
                      p.k,
                      p.a.lane_stride,
                      p.a.k_stride,
                      packs_a};
    const Source<T> b{static_cast<const T*>(p.b.data) + batch * p.b.batch_stride,
                      n0,
                      p.n,
                      p.k,
                      p.b.lane_stride,
                      p.b.k_stride,
                      packs_b};
    const auto stage = [&](int s) { return shared + s % kStages * (kBytesA + kBytesB); };
    const auto fetch = [&](int s) {
      if (s < steps) {
        fetch_tile<T, kA, kTile>(stage(s), a, int64_t{s} * S::kDepth);
        fetch_tile<T, kB, kTile>(stage(s) + kBytesA, b, int64_t{s} * S::kDepth);
      }
      cp_commit();  // an empty group at the end: the count of groups stays in step with s
    };

    Sum sum[kTilesM][kTilesN][4] = {};
    TENUN_UNROLL
    for (int s = 0; s < kStages - 1; ++s) fetch(s);
    for (int s = 0; s < steps; ++s) {
      cp_wait<kStages - 2>();
      __syncthreads();  // the stage has landed for all, and nobody reads the one before any more
      fetch(s + kStages - 1);
      const unsigned char *const tile_a = stage(s), *const tile_b = tile_a + kBytesA;
      TENUN_UNROLL
      for (int step = 0; step < kRowBytes / 32; ++step) {
        unsigned fa[kTilesM][4];
        TENUN_UNROLL
        for (int i = 0; i < kTilesM; ++i)
          read_fragment<T, kA, kTile, Side::a>(fa[i], tile_a, warp_row + i * 16, step);
        TENUN_UNROLL
        for (int j = 0; j < kTilesN; j += 2) {
          unsigned fb[4];
          read_fragment<T, kB, kTile, Side::b>(fb, tile_b, warp_column + j * 8, step);
          TENUN_UNROLL
          for (int i = 0; i < kTilesM; ++i) {
            multiply(T{}, sum[i][j], fa[i], fb[0], fb[1]);
            multiply(T{}, sum[i][j + 1], fa[i], fb[2], fb[3]);
          }
        }
      }
    }
    cp_wait<0>();
    __syncthreads();  // the next matrix starts with the first stages again

    Out* const c = static_cast<Out*>(p.c) + batch * p.m * p.n;
    TENUN_UNROLL
    for (int i = 0; i < kTilesM; ++i) TENUN_UNROLL
    for (int j = 0; j < kTilesN; ++j) TENUN_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int64_t m = m0 + warp_row + i * 16 + lane / 4 + e / 2 * 8;
      const int64_t n = n0 + warp_column + j * 8 + lane % 4 * 2 + e % 2;
      if (m >= p.m || n >= p.n) continue;
      float v = static_cast<float>(sum[i][j][e]);
      if constexpr (std::is_same_v<T, int8_t>)
        v *= p.a_scale[batch * p.m + m] * p.b_scale[batch * p.n + n];
      else if (p.bias != nullptr)
        v += static_cast<float>(static_cast<const T*>(p.bias)[n]);
      c[m * p.n + n] = Out(v);
    }
  }
}

/// Can 16 bytes be read at once everywhere along the axis with stride 1?
bool readable_by_packs(const Operand& x, int64_t lanes, int64_t k, Along along, int64_t size) {
  const int64_t pack = 16 / size;
  const int64_t step = along == Along::k ? x.k_stride : x.lane_stride;
  const int64_t row = along == Along::k ? x.lane_stride : x.k_stride;
  return step == 1 && row % pack == 0 && x.batch_stride % pack == 0 && aligned_16(x.data) &&
         (along == Along::k ? k : lanes) % pack == 0;
}

template <class T, Along kA, Along kB, int kTile>
void run_tiles(const MatrixProduct& p) {
  using S = Sizes<T, kTile>;
  const dim3 grid(static_cast<unsigned>((p.m + kTile - 1) / kTile),
                  static_cast<unsigned>((p.n + kTile - 1) / kTile),
                  static_cast<unsigned>(p.batch < 65535 ? p.batch : 65535));
  launch(mma_tiles<T, kA, kB, kTile>, grid, S::kThreadsOfTile,
         size_t{kStages} * (S::kBytes(kA) + S::kBytes(kB)), p,
         readable_by_packs(p.a, p.m, p.k, kA, sizeof(T)),
         readable_by_packs(p.b, p.n, p.k, kB, sizeof(T)));
}
template <class T, Along kA, Along kB>
void run(const MatrixProduct& p) {
  // Small tiles where large ones would leave multiprocessors without work.
  const int64_t large = (p.m + 127) / 128 * ((p.n + 127) / 128) * p.batch;
  if (large >= 128)
    run_tiles<T, kA, kB, 128>(p);
  else
    run_tiles<T, kA, kB, 64>(p);
}
template <class T>
void run_16_bit(const MatrixProduct& p) {
  const bool a_by_k = p.a.k_stride == 1, b_by_k = p.b.k_stride == 1;
  if (a_by_k && b_by_k) return run<T, Along::k, Along::k>(p);
  if (a_by_k) return run<T, Along::k, Along::lanes>(p);
  if (b_by_k) return run<T, Along::lanes, Along::k>(p);
  run<T, Along::lanes, Along::lanes>(p);
}

}  // namespace

void mma_product(const MatrixProduct& p) {
  visit<DType::bf16, DType::f16, DType::i8>(p.type, "matmul", [&]<class T>() {
    if constexpr (std::is_same_v<T, int8_t>)
      run<T, Along::k, Along::k>(p);
    else if constexpr (std::is_same_v<T, bf16> || std::is_same_v<T, f16>)
      run_16_bit<T>(p);
  });
}

}  // namespace tenun::TENUN_BACKEND
