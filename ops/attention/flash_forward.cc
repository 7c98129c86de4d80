// Forward pass: cuts the work into panels of up to 64 queries and lists of tiles, and hands them to
// the kernel of the types at hand (ops/attention/kernels). f32 and f64 run in their own type, bf16
// as bf16 products with f32 sums (head sizes that are multiples of 8; else in f32, as f16), the
// low-bit products in 8-bit arithmetic (FP8 emulated): the golden definition of int8_attention is
// kept (P rounded to 1/127 of the running maximum that includes the whole key block, one unit per
// block), so a tile is then a whole key block. f64 holds the same integers in doubles.
#include <cmath>
#include <vector>

#include "tenun/core/math.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash_detail.h"
#include "tenun/ops/attention/flash_operands.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"
#include "tenun/ops/simd/isa.h"

namespace tenun::attn {
namespace {

using simd::ForwardPanel;
using simd::Tile;

void (*kernel_of(const Operands<float>& o))(const ForwardPanel<float>&) {
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
void (*kernel_of(const Operands<double>& o))(const ForwardPanel<double>&) {
  const simd::FlashKernels& f = simd::flash_kernels();
  if (o.score == Score::real && o.value == Value::real) return f.forward_f64;
  return f.forward_low_f64[o.score == Score::s8][o.value == Value::s8   ? 1
                                                 : o.value == Value::f8 ? 2
                                                                        : 0];
}

template <class T>
struct Forward {
  const Operands<T>& in;
  Tensor* o;  // nullptr: not wanted
  T* lse;
  int64_t heads, nq, nk, d;
  const FlashArgs& args;
  const T* log_weight;  // of args.weight, base 2, or nullptr

  // Keys of a tile: all of a block where P is rounded, else 64 at most, never across blocks where
  // these differ in bias, unit or place.
  void add_tiles(std::vector<Tile>& tiles, int64_t begin, int64_t end) const {
    const bool apart = log_weight != nullptr || args.quant.any() || in.block != in.padded;
    const int64_t block = args.block_k > 0 ? args.block_k : nk;
    const bool rounded = in.value == Value::s8 || in.value == Value::f8;
    const int64_t most = rounded ? block : simd::kPanel;
    for (int64_t at = begin; at < end;) {
      const int64_t edge = apart ? std::min((at / block + 1) * block, end) : end;
      const int64_t count = std::min(most, edge - at);
      tiles.push_back({in.begin(at), count, at / block});
      at += count;
    }
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

  void panel(int64_t bh, int64_t first, int64_t count, const std::vector<Tile>& tiles) const {
    int64_t longest = 0;
    for (const Tile& t : tiles) longest = std::max(longest, t.count);
    const int64_t tn = log_weight != nullptr ? blocks(nk, args.block_k) : 0;
    Scratch<T> memory(136 * in.depth + 192 * (longest + 8) + (tn + 2 + d) * simd::kPanel + 64);
    ForwardPanel<T> p{};
    p.queries = count, p.channels = d, p.depth = in.depth;
    const int64_t q_size = in.q.size * (in.score == Score::bf16 ? 2 : 1);
    p.q = static_cast<const char*>(in.q.at(bh)) + first * in.q.stride * q_size;
    p.q_stride = in.q.stride;
    if (in.widen_q) {
      T* const room = memory.take(d * simd::kPanel);
      if constexpr (std::is_same_v<T, float>)
        simd::pack_kernels().widen(static_cast<const uint16_t*>(p.q), in.q.stride, count, d, room);
      p.q = room, p.q_stride = d;
    }
    p.k = in.k.at(bh), p.k_stride = in.k.stride;
    p.v = in.v.at(bh), p.v_stride = in.v.stride;
    p.tiles = tiles.data(), p.tile_count = static_cast<int64_t>(tiles.size());
    p.scale = static_cast<T>(args.scale * 1.4426950408889634);
    if (in.q_unit.defined()) {
      const int64_t tm = blocks(nq, args.block_q);
      p.q_unit = in.q_unit.template data<T>()[bh * tm + first / args.block_q];
      p.k_unit = in.k_unit.template data<T>() + bh * blocks(nk, args.block_k);
    }
    if (in.k_start.defined()) p.k_start = in.k_start.template data<int32_t>() + bh * in.key_rows;
    if (in.v_unit.defined()) p.v_unit = in.v_unit.template data<T>() + bh * d;
    const Dropout dropout{args, bh, nq, nk, first, count};
    const simd::Keep<T> keep{Dropout::fill, &dropout};
    if (args.dropout > 0) p.keep = &keep;
    if (log_weight != nullptr) p.bias = bias(memory, bh, first, count);
    if (o != nullptr) {
      const int64_t at = (bh * nq + first) * d;
      p.o = in.score == Score::bf16 ? static_cast<void*>(o->mutable_data<bf16>() + at)
                                    : static_cast<void*>(o->mutable_data<T>() + at);
      p.o_stride = in.score == Score::bf16 ? d / 2 : d;
    }
    p.m = memory.take(simd::kPanel), p.l = memory.take(simd::kPanel);
    p.scratch = memory.take(136 * in.depth + 192 * (longest + 8));
    kernel_of(in)(p);
    T* const out = lse + bh * nq + first;
    const T unit = in.value == Value::s8 ? T(1) / 127 : in.value == Value::f8 ? T(1) / 448 : T(1);
    for (int64_t i = 0; i < count; ++i)  // l = 0: log gives -inf, whatever m is
      out[i] = math::log(p.l[i] * unit) + (p.l[i] == 0 ? T(0) : p.m[i] * T(0.6931471805599453));
  }

  const T* bias(Scratch<T>& memory, int64_t bh, int64_t first, int64_t count) const {
    const int64_t tn = blocks(nk, args.block_k), tm = blocks(nq, args.block_q);
    T* const out = memory.take(tn * simd::kPanel);
    for (int64_t w = 0; w < simd::kPanel; ++w) {
      const int64_t i = first + std::min(w, count - 1);
      const T* const line = log_weight + (bh * tm + i / args.block_q) * tn;
      for (int64_t j = 0; j < tn; ++j) out[j * simd::kPanel + w] = line[j];
    }
    return out;
  }

  void run() const {
    const BlockLists* const lists = args.lists;
    // Panels do not cross query blocks where these differ in what they visit or in unit.
    const int64_t block = lists != nullptr || args.quant.any() ? args.block_q : nq;
    const int64_t per_block = blocks(std::min(block, nq), simd::kPanel), rows = blocks(nq, block);
    std::vector<Tile> all;
    if (lists == nullptr) add_tiles(all, 0, nk);
    const int64_t flops = 4 * std::min({simd::kPanel, block, nq}) * nk * d;
    parallel_for(0, heads * rows * per_block, grain(flops), [&](int64_t b, int64_t e) {
      std::vector<Tile> own;
      int64_t owner = -1;
      for (int64_t i = b; i < e; ++i) {
        const int64_t row = i / per_block, bh = row / rows, at = row % rows * block;
        const int64_t first = at + i % per_block * simd::kPanel;
        const int64_t count = std::min({simd::kPanel, at + block - first, nq - first});
        if (count <= 0) continue;
        if (lists != nullptr && row != owner) {
          own.clear();
          for_each_run(lists->row_start, lists->row_index, row, args.block_k, nk, nk,
                       [&](int64_t begin, int64_t end) { add_tiles(own, begin, end); });
          owner = row;
        }
        panel(bh, first, count, lists != nullptr ? own : all);
      }
    });
  }
};

void flash_forward_cpu(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                       const FlashArgs& args_) {
  FlashArgs args = args_;
  if (args.lists != nullptr) args.block_q = args.lists->block_q, args.block_k = args.lists->block_k;
  if (q.numel() == 0) return;
  if (args.scale < 0) {  // the kernels take the largest score for the one with the largest product
    args.scale = -args.scale;
    return flash_forward_cpu(o, lse, map(fn::Neg{}, q), k, v, args);
  }
  const DType type = compute_dtype(q.dtype());
  visit<DType::f32, DType::f64>(type, "attention", [&]<class T>() {
    const Operands<T> in = operands<T>(q, k, v, args);
    const DType out_type = in.score == Score::bf16 ? DType::bf16 : type;
    Tensor wide = !o.defined() || o.dtype() == out_type ? o : Tensor(o.shape(), out_type);
    const Tensor bias = log2_of(args.weight);
    const Forward<T> f{in,
                       o.defined() ? &wide : nullptr,
                       lse.mutable_data<T>(),
                       q.dim(0) * q.dim(1),
                       q.dim(2),
                       k.dim(2),
                       q.dim(3),
                       args,
                       bias.defined() ? bias.data<T>() : nullptr};
    f.run();
    if (o.defined() && o.dtype() != out_type) o.copy_(wide);
  });
}

}  // namespace

constinit Kernel<void(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                      const FlashArgs& args)>
    kernel::flash_forward{"flash attention forward", flash_forward_cpu};

}  // namespace tenun::attn
