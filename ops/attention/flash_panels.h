// The forward pass of exact attention, panel by panel: lists of tiles, what the kernel needs of one
// panel, and where its results go. Internal to flash_forward.cc and sparse_linear_forward.cc.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "tenun/core/math.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash_detail.h"
#include "tenun/ops/attention/flash_operands.h"
#include "tenun/ops/simd/isa.h"

namespace tenun::attn {

inline void (*kernel_of(const Operands<float>& o))(const simd::ForwardPanel<float>&) {
  const simd::FlashKernels& f = simd::flash_kernels();
  switch (o.score) {
    case Score::bf16: return f.forward_bf16;
    case Score::real:
      return o.value == Value::s8   ? f.forward_f32_s8
             : o.value == Value::f8 ? f.forward_f32_f8
                                    : f.forward_f32;
    case Score::s8: break;
  }
  return o.value == Value::s8     ? f.forward_s8_s8
         : o.value == Value::f8   ? f.forward_s8_f8
         : o.value == Value::bf16 ? f.forward_s8_bf16
                                  : f.forward_s8_f32;
}
inline void (*kernel_of(const Operands<double>& o))(const simd::ForwardPanel<double>&) {
  const simd::FlashKernels& f = simd::flash_kernels();
  if (o.score == Score::real && o.value == Value::real) return f.forward_f64;
  return f.forward_low_f64[o.score == Score::s8][o.value == Value::s8   ? 1
                                                 : o.value == Value::f8 ? 2
                                                                        : 0];
}

template <class T>
struct FlashPanels {
  const Operands<T>& in;
  int64_t heads, nq, nk, d;
  const FlashArgs& args;
  const T* log_weight;  ///< of args.weight, base 2, or nullptr
  char* o;              ///< rows of the output's type, (heads, nq, d); nullptr: not wanted
  T* lse;
  int64_t first_head = 0;  ///< what head 0 is to lists and dropout

  /// Bytes of a row of o.
  [[nodiscard]] int64_t row_bytes() const {
    return d * (in.score == Score::bf16 ? 2 : static_cast<int64_t>(sizeof(T)));
  }
  /// Queries of a block: panels do not cross these where they differ in what they visit or in unit.
  [[nodiscard]] int64_t block() const {
    return args.lists != nullptr || args.quant.any() ? args.block_q : nq;
  }

  // Keys of a tile: all of a block where P is rounded, else 64 at most, never across blocks where
  // these differ in bias, unit or place.
  void add_tiles(std::vector<simd::Tile>& tiles, int64_t begin, int64_t end) const {
    const bool apart = log_weight != nullptr || args.quant.any() || in.block != in.padded;
    const int64_t size = args.block_k > 0 ? args.block_k : nk;
    for (int64_t at = begin; at < end;) {
      const int64_t edge = apart ? std::min((at / size + 1) * size, end) : end;
      const int64_t count = std::min(longest(), edge - at);
      tiles.push_back({in.begin(at), count, at / size});
      at += count;
    }
  }
  [[nodiscard]] int64_t longest() const {
    const bool rounded = in.value == Value::s8 || in.value == Value::f8;
    return rounded ? std::min(args.block_k, nk) : simd::kPanel;
  }
  /// Those of query block `row` of head bh.
  void list_tiles(std::vector<simd::Tile>& tiles, int64_t bh, int64_t row) const {
    tiles.clear();
    if (args.lists == nullptr) return add_tiles(tiles, 0, nk);
    const int64_t at = (first_head + bh) * blocks(nq, args.block_q) + row;
    for_each_run(args.lists->row_start, args.lists->row_index, at, args.block_k, nk, nk,
                 [&](int64_t begin, int64_t end) { add_tiles(tiles, begin, end); });
  }

  /// Memory for one panel at a time.
  struct Room {
    Scratch<T> memory;
    T *scratch, *m, *l, *q, *bias;
    explicit Room(const FlashPanels& f)
        : memory(f.scratch_size() + f.bias_size() + (2 + f.d) * simd::kPanel),
          scratch(memory.take(f.scratch_size())),
          m(memory.take(simd::kPanel)),
          l(memory.take(simd::kPanel)),
          q(memory.take(f.d * simd::kPanel)),
          bias(memory.take(f.bias_size())) {}
  };
  [[nodiscard]] int64_t scratch_size() const { return 136 * in.depth + 192 * (longest() + 8); }
  [[nodiscard]] int64_t bias_size() const {
    return log_weight == nullptr ? 0 : blocks(nk, args.block_k) * simd::kPanel;
  }

  struct Dropout {
    const FlashArgs& args;
    int64_t bh, nq, nk, first, count;
    static void fill(const void* context, T* out, int64_t key, int64_t keys) {
      const auto& c = *static_cast<const Dropout*>(context);
      std::vector<float> factor(static_cast<size_t>(keys * simd::kPanel));
      keep_factors(factor.data(), simd::kPanel, 1, c.args, c.bh, c.nq, c.nk, c.first, c.count, key,
                   keys);
      std::copy(factor.begin(), factor.end(), out);
    }
  };

  /// What the panels of a query block share.
  struct Block {
    int64_t bh, row;
    const std::vector<simd::Tile>& tiles;
    T q_unit = 1;
    simd::Tile following{};  ///< first tile of the next block
  };
  /// The unit of a query block's 8-bit integers.
  [[nodiscard]] T query_unit(int64_t bh, int64_t row) const {
    if (in.q_unit.defined())
      return in.q_unit.template data<T>()[bh * blocks(nq, args.block_q) + row];
    if constexpr (std::is_same_v<T, float>)
      if (in.score == Score::s8)
        return unit_of_queries(in, bh, row * args.block_q, std::min((row + 1) * args.block_q, nq),
                               d);
    return 1;
  }

  /// Queries first .. first + count, at most kPanel, of the block.
  void panel(Room& room, const Block& b, int64_t first, int64_t count,
             const simd::PanelMix<T>* mix) const {
    const auto q_rows = [&](int64_t i) {
      return static_cast<const char*>(in.q.at(b.bh)) +
             i * in.q.stride * in.q.size * (in.score == Score::bf16 ? 2 : 1);
    };
    simd::ForwardPanel<T> p{};
    p.queries = count, p.channels = d, p.depth = in.depth;
    p.q = q_rows(first), p.q_stride = in.q.stride;
    if (in.widen_q) {
      if constexpr (std::is_same_v<T, float>)
        simd::pack_kernels().widen(static_cast<const uint16_t*>(p.q), in.q.stride, count, d,
                                   room.q);
      p.q = room.q, p.q_stride = d;
    }
    const int64_t end = std::min((b.row + 1) * block(), nq), next = first + count;
    p.q_next = in.widen_q || next == nq ? p.q : q_rows(next);
    p.following = next < end || b.following.count == 0 ? b.tiles.empty() ? simd::Tile{} : b.tiles[0]
                                                       : b.following;
    p.k = in.k.at(b.bh), p.k_stride = in.k.stride;
    p.v = in.v.at(b.bh), p.v_stride = in.v.stride;
    p.tiles = b.tiles.data(), p.tile_count = std::ssize(b.tiles);
    p.scale = static_cast<T>(args.scale * 1.4426950408889634);
    p.q_unit = b.q_unit;
    if (in.k_unit.defined())
      p.k_unit = in.k_unit.template data<T>() + b.bh * blocks(nk, args.block_k);
    if (in.k_start.defined()) p.k_start = in.k_start.template data<int32_t>() + b.bh * in.key_rows;
    if (in.v_unit.defined()) p.v_unit = in.v_unit.template data<T>() + b.bh * d;
    const Dropout dropout{args, first_head + b.bh, nq, nk, first, count};
    const simd::Keep<T> keep{Dropout::fill, &dropout};
    if (args.dropout > 0) p.keep = &keep;
    if (log_weight != nullptr) {
      fill_bias(room.bias, b.bh, first, count);
      p.bias = room.bias;
    }
    if (o != nullptr) p.o = o + (b.bh * nq + first) * row_bytes();
    p.o_stride = in.score == Score::bf16 ? d / 2 : d;
    p.mix = mix;
    p.m = room.m, p.l = room.l, p.scratch = room.scratch;
    kernel_of(in)(p);
    T* const out = lse + b.bh * nq + first;
    const T unit = in.value == Value::s8 ? T(1) / 127 : in.value == Value::f8 ? T(1) / 448 : T(1);
    for (int64_t i = 0; i < count; ++i)  // l = 0: log gives -inf, whatever m is
      out[i] = math::log(p.l[i] * unit) + (p.l[i] == 0 ? T(0) : p.m[i] * T(0.6931471805599453));
  }

  void fill_bias(T* out, int64_t bh, int64_t first, int64_t count) const {
    const int64_t tn = blocks(nk, args.block_k), tm = blocks(nq, args.block_q);
    for (int64_t w = 0; w < simd::kPanel; ++w) {
      const int64_t i = first + std::min(w, count - 1);
      const T* const line = log_weight + (bh * tm + i / args.block_q) * tn;
      for (int64_t j = 0; j < tn; ++j) out[j * simd::kPanel + w] = line[j];
    }
  }
};

}  // namespace tenun::attn
