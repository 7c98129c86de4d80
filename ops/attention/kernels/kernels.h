// The kernels of exact attention, a family with one instance per instruction set level
// (ops/simd/isa.h; safe for the per-level sources). Raw pointers, no checks: the drivers
// flash_forward.cc and flash_backward.cc cut the work into panels and own all memory.
//
// Queries (backward: keys) lie in the vector lanes: a panel of up to 64 of them keeps Q^T and O^T
// (64 lanes a row), a tile of up to 64 keys gives S^T = K Q^T, and maximum, sum and exponential run
// down the columns without any horizontal step (Dao 2023, FlashAttention-2). K and V are read in
// place, one broadcast element at a time. Scores and maxima are in units of log 2.
#pragma once
#include "tenun/ops/attention/kernels/linear_kernels.h"

namespace tenun::simd {

/// Keys begin .. begin + count of the operands; `block` numbers the bias and the scale of the keys.
struct Tile {
  int64_t begin, count, block;
};

/// Dropout: fills out[key * kPanel + query] with 0 or 1 / (1 - rate).
template <class T>
struct Keep {
  void (*fill)(const void* context, T* out, int64_t first_key, int64_t keys);
  const void* context;
};

/// The linear branch, mixed in while O^T is in the cache: o = gate o + (1 - gate) branch.
template <class T>
struct PanelMix {
  Feature feature;
  T eps;
  const T* state;       ///< that these queries read (kernels/linear_kernels.h)
  const Group* pairs;   ///< its matrix in pairs of rows, for kernels with products of 16 or 8 bits
  T gate;               ///< below 1
  const T* states;      ///< all of them, and which ones the next block of queries will subtract:
  const int32_t* soon;  ///< one is fetched into the cache with every tile
  int64_t soon_count;
  void* exact;  ///< rows like o: of the exact branch alone; nullptr: not wanted
  T* scratch;   ///< 64 pad(channels) elements
};

template <class T>
struct ForwardPanel {
  int64_t queries, channels;  ///< channels: those of o, at most `depth`
  int64_t depth;              ///< of K and V: a multiple of 8, padded with zeros
  const void* q;              ///< rows of T, or of bf16 if scores are products of bf16
  int64_t q_stride;           ///< in T, or in pairs
  const void* k;              ///< rows of Element (ops/simd/product.h) of the score product
  int64_t k_stride;           ///< in Elements
  const void* v;              ///< [key group][channel] of Element of the value product
  int64_t v_stride;
  const Tile* tiles;
  int64_t tile_count;
  Tile following;             ///< first one of the panel that comes next ...
  const void* q_next;         ///< ... and its rows, as many; both are only fetched into the cache
  T scale;                    ///< of q k, times log2(e)
  T q_unit = 1;               ///< 8-bit scores: q = q_unit * integer, ...
  const T* k_unit = nullptr;  ///< ... k of a block = k_unit[block] * integer,
  const int32_t* k_start = nullptr;  ///< -128 * sum of each key's integers
  const T* v_unit = nullptr;         ///< 8-bit values: of each channel
  const T* bias = nullptr;           ///< [block][kPanel]: added to the scores (units of log 2)
  const Keep<T>* keep = nullptr;
  void* o;  ///< rows of T (or pairs of bf16 where q is bf16); nullptr: only the sums are wanted
  int64_t o_stride;
  const PanelMix<T>* mix = nullptr;
  T *m, *l;    ///< [kPanel]: maximum and sum of 2^(s - m)
  T* scratch;  ///< 136 depth + 192 (longest tile + 8) elements
};

/// Rows x[row * stride + channel] to the operands of 8-bit and bf16 products. Channels from
/// `channels` to `depth` (a multiple of 8) become zero.
struct PackKernels {
  /// largest[channel] = max(itself, |x|)
  void (*largest)(const float* x, int64_t stride, int64_t rows, int64_t channels, float* largest);
  /// sum[channel] += x
  void (*sum)(const float* x, int64_t stride, int64_t rows, int64_t channels, float* sum);
  /// y[row][depth] = round((x - mean) / unit) with unit = amax / 127, which is returned;
  /// start[row] = -128 * sum of y.
  float (*key_bytes)(const float* x, int64_t stride, int64_t rows, int64_t channels, int64_t depth,
                     const float* mean, int8_t* y, int32_t* start);
  /// y[row / 4][depth] quads of round(x * inverse[channel]); rows up to a multiple of 4 are zero.
  void (*value_quads)(const float* x, int64_t stride, int64_t rows, int64_t channels, int64_t depth,
                      const float* inverse, Group* y);
  /// y[row / 2][depth] pairs; an odd last row is paired with zeros.
  void (*value_pairs)(const float* x, int64_t stride, int64_t rows, int64_t channels, int64_t depth,
                      Group* y);
  /// The same from bf16 (stride in bf16; channels = depth).
  void (*value_pairs_bf16)(const uint16_t* x, int64_t stride, int64_t rows, int64_t depth,
                           Group* y);
  /// y[row][channels] in f32, from bf16.
  void (*widen)(const uint16_t* x, int64_t stride, int64_t rows, int64_t channels, float* y);
  /// y[i] in bf16, from f32, i < n.
  void (*narrow)(const float* x, int64_t n, uint16_t* y);
};

struct FlashKernels {
  void (*forward_f32)(const ForwardPanel<float>&);
  void (*forward_f64)(const ForwardPanel<double>&);
  void (*forward_bf16)(const ForwardPanel<float>&);
  void (*forward_s8_f32)(const ForwardPanel<float>&);   ///< 8-bit scores, f32 values
  void (*forward_s8_bf16)(const ForwardPanel<float>&);  ///< 8-bit scores, bf16 values; q, o in f32
  void (*forward_s8_s8)(const ForwardPanel<float>&);
  void (*forward_f32_s8)(const ForwardPanel<float>&);
  void (*forward_s8_f8)(const ForwardPanel<float>&);  ///< values rounded to FP8 E4M3, as bf16 pairs
  void (*forward_f32_f8)(const ForwardPanel<float>&);
  /// The low-bit variants held in f64: [8-bit scores][values as they are, 8 bit, FP8].
  void (*forward_low_f64[2][3])(const ForwardPanel<double>&);
};

template <class T>
struct BackwardColumn {
  int64_t keys, channels;
  const void *k, *v;           ///< the column's rows, of T or of bf16
  int64_t k_stride, v_stride;  ///< in T, or in pairs
  const void *q, *dy;          ///< rows of the head; dy = nullptr: zero
  int64_t q_stride, dy_stride;
  const Group *q_pairs, *dy_pairs;  ///< bf16: [token / 2][channel] pairs of tokens
  const T *lse, *delta;             ///< of the head's queries; lse in units of log 2, +inf: no keys
  const Tile* tiles;                ///< of queries, at most kPanel each
  int64_t tile_count;
  T scale, unscaled;  ///< of q k: times log2(e), and as it is
  const T* bias;      ///< [block][kPanel] for this column's keys
  T* dweight;         ///< [block][kPanel]: sums of dS over the block's queries are added
  const Keep<T>* keep;
  T* dq;       ///< [query][pad(channels)]: added to, without the scale
  T *dk, *dv;  ///< the column's rows, [key][channels]
  T* scratch;  ///< 384 pad(channels) + 20480 elements
};

struct FlashBackwardKernels {
  void (*f32)(const BackwardColumn<float>&);
  void (*f64)(const BackwardColumn<double>&);
  void (*bf16)(const BackwardColumn<float>&);
};

namespace avx2 {
extern const FlashKernels flash_kernels;
extern const FlashBackwardKernels flash_backward_kernels;
extern const PackKernels pack_kernels;
}  // namespace avx2
namespace avx512 {
extern const FlashKernels flash_kernels;
extern const FlashBackwardKernels flash_backward_kernels;
extern const PackKernels pack_kernels;
}  // namespace avx512
namespace avx512_bf16 {
extern const FlashKernels flash_kernels;
extern const FlashBackwardKernels flash_backward_kernels;
extern const PackKernels pack_kernels;
}  // namespace avx512_bf16

}  // namespace tenun::simd
