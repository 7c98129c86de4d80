// What the attention kernels read and write, as plain data (operands.h makes it of tensors).
// Pointers are to device memory; C is the compute type, float or double. Heads are numbered bh = b
// H + h.
#pragma once
#include <cstdint>

#include "tenun/core/dtype.h"

namespace tenun::TENUN_BACKEND::attention {

/// A (B, H, N, D) operand of any strides (in elements).
struct Rows {
  const void* p = nullptr;
  DType dtype = DType::f32;
  int64_t heads = 1, batch = 0, head = 0, row = 0, column = 1;
};

/// Selected blocks, as in attention/flash.h; a null start: all tokens.
struct Lists {
  const int64_t* start = nullptr;
  const int32_t* index = nullptr;
  int64_t room = 0;  ///< elements of index: at least as many as are listed
};

/// softmax(scale q k^T + log weight) v over lists or all keys; T_m, T_n from the block sizes.
struct FlashProblem {
  int64_t heads = 0;  ///< B H
  int64_t nq = 0, nk = 0, d = 0;
  double scale = 1;
  Rows q, k, v;
  Lists rows, columns;                ///< forward and dq read rows, dk and dv columns
  int64_t block_q = 1, block_k = 1;   ///< of lists, weight and units
  const void* weight = nullptr;       ///< C (heads, T_m, T_n); not with lists
  float dropout = 0, keep_scale = 1;  ///< keep_scale: the factor of what is kept
  uint64_t key = 0;
  /// How many queries may share a block of threads.
  [[nodiscard]] int64_t rows_together() const {
    return rows.start == nullptr && weight == nullptr ? nq : block_q;
  }
};

/// Units of integers held in C (the low-bit products); null: none.
struct Units {
  const void *q = nullptr,
             *k = nullptr;  ///< C (heads, T_m), (heads, T_n): score = q k q_unit k_unit
  const void* v = nullptr;  ///< C (heads, d)
  double most = 0;   ///< P is rounded to 1 / most of the block's maximum: 127 or 448; 0: it is not
  bool fp8 = false;  ///< to E4M3 values instead of integers
};

struct FlashForward {
  FlashProblem in;
  Units units;
  void* o = nullptr;  ///< (heads, nq, d), contiguous; null: not wanted
  DType o_dtype = DType::f32;
  void* lse = nullptr;  ///< C (heads, nq)
  struct KeyTiles {     ///< of the low-bit kernels
    int keys = 0;       ///< of a block
    int tiles = 0;      ///< of 64 keys, of a block
    int steps = 0;      ///< in which a block is visited: its tiles, or its tiles twice
  } low;
};

/// l2 = log2(e) lse, +inf for -inf; both behind each other with room behind the last row.
inline constexpr int64_t kRowPadding = 128;
struct BaseTwo {
  const float *lse = nullptr, *delta = nullptr;
  float *l2 = nullptr, *padded_delta = nullptr;
  int64_t rows = 0;
};

struct FlashBackward {
  FlashProblem in;
  Rows dy;  ///< p null: zero
  const float *l2 = nullptr,
              *padded_delta =
                  nullptr;  ///< for the tensor cores: kRowPadding floats behind the last row
  const void *lse = nullptr, *delta = nullptr;                           ///< C (heads, nq)
  void *dq = nullptr, *dk = nullptr, *dv = nullptr, *dweight = nullptr;  ///< C, contiguous, or null
  float* weight_parts = nullptr;  ///< for the tensor cores: WeightGradient::parts
};

/// dweight (heads, tm, tn) = sums of dS / weight, from the sums over some rows of each query block.
struct WeightGradient {
  const float* parts = nullptr;  ///< (heads, tm, per, tn)
  const void* weight = nullptr;
  int64_t pairs = 0, per = 1, tn = 0;  ///< pairs: heads tm tn
  void* dweight = nullptr;
};

/// C[b](m, n) = (C +) sum over k of A[b](m, k) B[b](k, n) for every head and every block b of it.
/// Blocks of tokens may be short at the end: `m_total` and `k_total` bound block * m and block * k.
struct Product {
  struct Matrix {
    const void* p = nullptr;
    int64_t head = 0, block = 0, row = 0, column = 1;  ///< strides in elements
  };
  Matrix a, b, c;
  int64_t heads = 1, blocks = 1, m = 0, n = 0, k = 0;
  int64_t m_total = 0, k_total = 0;  ///< 0: every block is whole
  bool accumulate = false;
  DType c_dtype = DType::f32;  ///< of the product in bf16: f32 or bf16; else C
};

/// phi of the rows of x into (heads, n, d). Rows whose gate is 1 take no part and get 0.
struct Features {
  Rows x;
  int map = 0;  ///< attn::FeatureMap
  int64_t heads = 0, n = 0, d = 0;
  const void* gate = nullptr;  ///< C (heads, ceil(n / block)), or null
  int64_t block = 1;
  void* y = nullptr;
  DType y_dtype = DType::f32;  ///< C, or bf16
};
/// dx (+)= dphi through the feature map; rows whose gate is 1 get nothing.
struct FeatureGradient {
  Features of;  ///< y: phi
  const void* dphi = nullptr;
  void* dx = nullptr;
  bool accumulate = false;
};

/// Rows x with a column of ones behind, and zeros behind that: (heads, n, wide), wide > d.
struct Extend {
  Rows x;
  int64_t heads = 0, n = 0, d = 0, wide = 0;
  void* y = nullptr;
  DType y_dtype = DType::f32;
};

/// o = gate o + (1 - gate) num / (den + eps), num and den in C (heads, n, wide), den in column d.
struct LinearOutput {
  const void* product = nullptr;
  const void* gate = nullptr;
  int64_t heads = 0, n = 0, d = 0, wide = 0, block = 1;
  double eps = 0;
  void* o = nullptr;
  DType o_dtype = DType::f32;
};
/// The gradient of `product`: ((1 - gate) dy / den, -(1 - gate) dy . y / den), and dot = dy . y.
struct LinearGradient {
  LinearOutput of;
  Rows dy;
  void *dproduct = nullptr, *dot = nullptr;  ///< (heads, n, wide); C (heads, n)
  DType dproduct_dtype = DType::f32;
};

/// w (heads, tm, wide): 1, and 0 for the listed blocks; all 1 without lists; 0 from column tn on.
/// With `weight`: a copy of it, C (heads, tm, tn).
struct ListWeights {
  Lists rows;
  int64_t heads = 0, tm = 0, tn = 0, wide = 0;
  const void* weight = nullptr;
  void* w = nullptr;
  DType w_dtype = DType::f32;
};

/// y C (heads, blocks, d): sums of the tokens of each block of x over their number, or over
/// `block`.
struct BlockMean {
  Rows x;
  int64_t heads = 0, n = 0, d = 0, block = 1;
  bool by_block = false;
  void* y = nullptr;
};
/// y = (x - mean) / unit as whole numbers (unit null: not divided). What low-bit products read.
struct Round {
  Rows x;
  const void* mean = nullptr;  ///< C (heads, d), or null
  int64_t heads = 0, n = 0, d = 0;
  const void* unit = nullptr;  ///< C (heads, d), or null
  bool fp8 = false;            ///< to E4M3 values instead of integers
  void* y = nullptr;           ///< (heads, n, d)
  DType y_dtype = DType::f32;  ///< C; bf16 or f16 where it is not divided
};
/// The values of 8-bit products: x / unit, in the layout of low_values.cu. d is at most 128.
struct LowValues {
  Rows x;
  int64_t heads = 0, n = 0, d = 0, block = 1, per = 1;  ///< `per` tiles of 64 tokens of a block
  const void* unit = nullptr;                           ///< f32 (heads, d)
  bool fp8 = false;
  void* y = nullptr;
};
/// mean C (heads, d) of all n tokens, from the means of their blocks, C (heads, ceil(n / block),
/// d).
struct TokenMean {
  const void* pooled = nullptr;
  int64_t heads = 0, n = 0, d = 0, block = 1;
  void* mean = nullptr;
};
/// Blocks of tokens as whole numbers: unit C (heads, blocks) is the largest |x - mean| of a block
/// over 127, y the rounded (x - mean) / unit. mean C (heads, d) or null.
struct Quantise {
  Rows x;
  const void* mean = nullptr;
  int64_t heads = 0, n = 0, d = 0, block = 1;
  void* unit = nullptr;
  void* y = nullptr;           ///< (heads, n, d)
  DType y_dtype = DType::f32;  ///< C, or i8
};
/// y C (heads, ceil(n / block), d): the largest |x| of each channel in each block of tokens, over
/// `most`.
struct ChannelAmax {
  Rows x;
  int64_t heads = 0, n = 0, d = 0, block = 1;
  double most = 1;
  void* y = nullptr;
};

/// Rows of scores C (rows, columns); in every `height` rows the first `forced_rows` take all, and
/// all take the first `forced_columns`.
struct ScoreRows {
  const void* scores = nullptr;
  int64_t rows = 0, columns = 0, height = 1, forced_rows = 0, forced_columns = 0;
};
struct TopBlocks {
  ScoreRows in;
  int64_t k = 1;
  uint8_t* mask = nullptr;
};
struct MassBlocks {
  ScoreRows in;
  double p = 1;
  bool cdf = false;          ///< else top_p
  int32_t* order = nullptr;  ///< workspace (rows, columns)
  double* share = nullptr;   ///< workspace (rows, columns)
  uint8_t* mask = nullptr;
};
struct SoftTop {
  ScoreRows in;
  double target = 1, tau = 1;
  void* m = nullptr;
};
struct SoftTopGradient {
  const void *dm = nullptr, *m = nullptr;
  int64_t rows = 0, columns = 0;
  double tau = 1;
  void* dx = nullptr;
};
/// Lists of a mask u8 (heads, tm, tn) by rows and by columns. First pass: the starts, by scanning
/// the lengths; second pass: the indices.
struct MaskLists {
  const uint8_t* mask = nullptr;
  int64_t heads = 0, tm = 0, tn = 0;
  int64_t *row_start = nullptr, *column_start = nullptr;
  int32_t *row_index = nullptr, *column_index = nullptr;
};

/// y C (heads, n): a . b of each row.
struct RowDot {
  Rows a, b;
  int64_t heads = 0, n = 0, d = 0;
  void* y = nullptr;
};
/// o = gate a + (1 - gate) b, gate C (heads, blocks).
struct Mix {
  Rows a, b;
  int64_t heads = 0, n = 0, d = 0, block = 1;
  const void* gate = nullptr;
  void* o = nullptr;  ///< contiguous
  DType o_dtype = DType::f32;
};
struct MixGradient {
  Mix of;
  Rows dy;
  void *da = nullptr, *db = nullptr, *dgate = nullptr;  ///< C, contiguous, or null
};

}  // namespace tenun::TENUN_BACKEND::attention
