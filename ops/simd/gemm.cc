// Compiled once a level: the matrix product's blocks.
#include "tenun/ops/simd/gemm_kernels.h"
#include "tenun/ops/simd/gemm_pack.h"
#include "tenun/ops/simd/pack.h"
#include "tenun/ops/simd/product.h"

namespace tenun::simd::TENUN_ISA {
namespace {

constexpr int kPanelRows = 6;  // 6 x 4 vectors with AVX-512, 6 x 2 with AVX2
template <class Kind>
constexpr int kPanelLanes = kVectors* Kind::kWidth;

// How a sum becomes an element of C. `vectors` sums of one row; `row` counts within the block.
template <class T>
struct SameOut {  // f32, f64
  using To = T;
  using Sum = typename Vector<T>::type;
  static constexpr int kStep = 1;
  TENUN_VECTOR static void put(To* c, const Sum* x) { store(c, x[0]); }
};
struct Bf16Out {
  using To = uint16_t;
  static constexpr int kStep = 2;
  TENUN_VECTOR static void put(To* c, const F32* x) { store_bits(c, join(x[0], x[1])); }
};
struct F16Out {
  using To = uint16_t;
  static constexpr int kStep = 1;
  TENUN_VECTOR static void put(To* c, const F32* x) {
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(c),
                        _mm512_cvtps_ph(x[0], _MM_FROUND_TO_NEAREST_INT));
#else
    _mm_storeu_si128(reinterpret_cast<__m128i*>(c),
                     _mm256_cvtps_ph(x[0], _MM_FROUND_TO_NEAREST_INT));
#endif
  }
};

TENUN_VECTOR float widen(float x, SameOut<float>) { return x; }
TENUN_VECTOR double widen(double x, SameOut<double>) { return x; }
TENUN_VECTOR float widen(uint16_t x, Bf16Out) { return WidenBf16::one(&x, 0, 1); }
TENUN_VECTOR float widen(uint16_t x, F16Out) { return WidenF16::one(&x, 0, 1); }

template <class Out>
using Wide = decltype(widen(typename Out::To{}, Out{}));

// What the epilogue needs of a panel of columns: zeros and ones behind the last one.
template <class T, int N>
struct Columns {
  alignas(64) T bias[N];
  alignas(64) T scale[N];
};

template <class T>
TENUN_VECTOR auto scaled(FloatKind<T>, const T* sum, int64_t, const GemmBlock&, const T*) {
  return load(sum);
}
TENUN_VECTOR F32 scaled(Bf16Kind, const float* sum, int64_t, const GemmBlock&, const float*) {
  return load(sum);
}
TENUN_VECTOR F32 scaled(S8U8Kind, const int32_t* sum, int64_t row, const GemmBlock& g,
                        const float* scale) {
  const Bits exact = add32(load_bits(sum), broadcast(-128 * g.a_sum[row]));
  return to_float(exact) * broadcast(g.a_scale[row]) * load(scale);
}

// Rows of a tile of sums to C.
template <class Kind, class Out>
void finish(const typename Kind::Out* tile, int64_t row, int64_t rows, int64_t column,
            int64_t columns, const GemmBlock& g,
            const Columns<Wide<Out>, kPanelLanes<Kind>>& side) {
  using To = typename Out::To;
  constexpr int kN = kPanelLanes<Kind>, kStep = Out::kStep * Kind::kWidth;
  for (int64_t r = 0; r < rows; ++r) {
    To* const c = static_cast<To*>(g.c) + (row + r) * g.ldc + column;
    alignas(64) To part[kN];
    To* const to = columns == kN ? c : part;
    for (int64_t j = 0; j < columns; j += kStep) {
      typename Vector<Wide<Out>>::type x[Out::kStep];
#pragma GCC unroll 2
      for (int v = 0; v < Out::kStep; ++v) {
        const int64_t at = j + v * Kind::kWidth;
        x[v] = scaled(Kind{}, tile + r * kN + at, row + r, g, side.scale + at);
        if (g.bias != nullptr) x[v] = x[v] + load(side.bias + at);
      }
      Out::put(to + j, x);
    }
    if (to == part) __builtin_memcpy(c, part, static_cast<size_t>(columns) * sizeof(To));
  }
}

template <class Kind, int M, int NV>
void sums(const typename Kind::Element* a, const typename Kind::Element* b, int64_t groups,
          typename Kind::Out* tile, Into into) {
  constexpr int kN = kPanelLanes<Kind>;
  typename Kind::Sum acc[M][NV];
  if (into == Into::add)
    load_sums<Kind>(acc, tile, kN);
  else
    clear<Kind>(acc);
  product<Kind>(acc, a, 1, kPanelRows, b, kN, groups);
  store_sums<Kind>(acc, tile, kN);
}

// The smallest tile that holds rows x columns.
template <class Kind>
auto* tile_for(int64_t rows, int64_t columns) {
  const int64_t vectors = (columns + Kind::kWidth - 1) / Kind::kWidth;
  if (rows <= 3)
    return vectors == 1   ? sums<Kind, 3, 1>
           : vectors == 2 ? sums<Kind, 3, 2>
                          : sums<Kind, 3, kVectors>;
  return vectors == 1   ? sums<Kind, kPanelRows, 1>
         : vectors == 2 ? sums<Kind, kPanelRows, 2>
                        : sums<Kind, kPanelRows, kVectors>;
}

template <class Kind, class Out>
void block(const GemmBlock& g, int64_t groups) {
  using E = typename Kind::Element;
  using Sum = typename Kind::Out;
  constexpr int kM = kPanelRows, kN = kPanelLanes<Kind>;
  // A chunk of a panel of B stays in the second cache while the panels of A pass by.
  constexpr int64_t kChunk = 2048 / static_cast<int64_t>(sizeof(E));
  const int64_t chunks = (groups + kChunk - 1) / kChunk;
  const int64_t step = chunks > 0 ? (groups + chunks - 1) / chunks : 0;
  alignas(64) Sum tiles[kGemmRows / kM][kM * kN];
  Columns<Wide<Out>, kN> side{};
  for (int64_t j = 0; j < g.n; j += kN) {
    const int64_t columns = g.n - j < kN ? g.n - j : kN;
    for (int64_t i = 0; i < columns; ++i) {
      if (g.bias != nullptr)
        side.bias[i] = widen(static_cast<const typename Out::To*>(g.bias)[j + i], Out{});
      if (g.b_scale != nullptr) side.scale[i] = g.b_scale[j + i];
    }
    const E* const b =
        reinterpret_cast<const E*>(static_cast<const char*>(g.b) + j / kN * g.b_panel);
    for (int64_t at = 0; at == 0 || at < groups; at += step) {
      const int64_t count = groups - at < step ? groups - at : step;
      for (int64_t i = 0; i < g.m; i += kM) {
        const int64_t rows = g.m - i < kM ? g.m - i : kM;
        const E* const a =
            reinterpret_cast<const E*>(static_cast<const char*>(g.a) + i / kM * g.a_panel);
        tile_for<Kind>(rows, columns)(a + at * kM, b + at * kN, count, tiles[i / kM],
                                      at == 0 ? Into::set : Into::add);
        if (at + count == groups) finish<Kind, Out>(tiles[i / kM], i, rows, j, columns, g, side);
      }
      if (groups == 0) break;
    }
  }
}

template <class Kind, class Out, class Source>
constexpr GemmKernel kernel() {
  using To = typename Source::To;
  constexpr int kGroup = Source::kGroup;
  return {kPanelRows,
          kPanelLanes<Kind>,
          kGroup,
          static_cast<int>(sizeof(To)),
          pack<Source, kPanelRows>,
          pack<Source, kPanelLanes<Kind>>,
          [](const GemmBlock& g) { block<Kind, Out>(g, (g.k + kGroup - 1) / kGroup); }};
}

constexpr GemmKernel bytes() {
  GemmKernel k = kernel<S8U8Kind, SameOut<float>, Quads<0>>();
  k.pack_b = pack<Quads<0x80>, kPanelLanes<S8U8Kind>>;
  return k;
}

}  // namespace

#if defined(__AVX512BF16__)
using Bf16Source = Pairs;
using Bf16Product = Bf16Kind;
#else
using Bf16Source = WidenBf16;
using Bf16Product = F32Kind;
#endif

extern const GemmKernels gemm_kernels{kernel<F32Kind, SameOut<float>, AsIs<float>>(),
                                      kernel<F64Kind, SameOut<double>, AsIs<double>>(),
                                      kernel<Bf16Product, Bf16Out, Bf16Source>(),
                                      kernel<F32Kind, F16Out, WidenF16>(), bytes()};

}  // namespace tenun::simd::TENUN_ISA
