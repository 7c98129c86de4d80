#include "tenun/ops/attention/flash_operands.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash_detail.h"
#include "tenun/ops/attention/token_rows.h"
#include "tenun/ops/simd/isa.h"

namespace tenun::attn {
namespace {

constexpr int64_t padded_depth(int64_t d) { return (d + 7) / 8 * 8; }

// The tensor itself where its rows can be read in place.
template <class T>
Operand in_place(const Tensor& x) {
  return {x,
          x.data<T>(),
          x.dim(1),
          x.strides()[0],
          x.strides()[1],
          x.strides()[2],
          static_cast<int64_t>(sizeof(T))};
}
template <class T>
Operand contiguous(Tensor memory, int64_t heads, int64_t head, int64_t stride) {
  Operand o{
      memory, memory.data<T>(), heads, heads * head, head, stride, static_cast<int64_t>(sizeof(T))};
  return o;
}

// Rows of `depth` channels, zeros behind the real ones.
template <class T>
Operand rows(const Tensor& x, int64_t depth) {
  const int64_t d = x.dim(3), n = x.dim(2), heads = x.dim(0) * x.dim(1);
  if (d == depth) return in_place<T>(x);
  Tensor y = Tensor::zeros({heads, n, depth}, x.dtype());
  T* const out = y.mutable_data<T>();
  const Heads<T> in(x);
  parallel_for(0, heads * n, grain(4 * depth), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) std::copy_n(in[i / n].row(i % n), d, out + i * depth);
  });
  return contiguous<T>(y, x.dim(1), n * depth, depth);
}

// Rows of k where values are grouped: in the same order as these.
Operand keys_in_order(const Operands<float>& o, const Tensor& k) {
  if (o.block == o.padded) return rows<float>(k, o.depth);
  const int64_t heads = k.dim(0) * k.dim(1), n = k.dim(2), d = k.dim(3);
  const int64_t count = blocks(n, o.block) * o.padded;
  Tensor y = Tensor::zeros({heads, count, o.depth}, k.dtype());
  float* const out = y.mutable_data<float>();
  const Heads<float> in(k);
  parallel_for(0, heads * n, grain(4 * d), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i)
      std::copy_n(in[i / n].row(i % n), d, out + (i / n * count + o.begin(i % n)) * o.depth);
  });
  return contiguous<float>(y, k.dim(1), count * o.depth, o.depth);
}

// Values in groups along the keys, block by block: f(head, first key, keys, where to).
template <class T, class F>
void group_values(Operands<T>& o, const Tensor& v, int64_t group, F&& f) {
  const int64_t heads = v.dim(0) * v.dim(1), n = v.dim(2), count = blocks(n, o.block);
  const int64_t size = o.padded / group * o.depth;
  Tensor y({heads, count, size}, DType::i32);
  int32_t* const out = y.mutable_data<int32_t>();
  parallel_for(0, heads * count, grain(16 * o.block * o.depth), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t first = i % count * o.block;
      f(i / count, first, std::min(o.block, n - first),
        reinterpret_cast<simd::Group*>(out + i * size));
    }
  });
  o.v = contiguous<int32_t>(y, v.dim(1), count * size, o.depth);
}

// f(head, first, count) for pieces of at most 256 tokens of every head, in parallel; `fold` joins
// the rows [head][piece][d] that these fill to one a head, in order.
template <class F, class G>
Tensor per_channel(const Tensor& x, F&& f, G&& fold) {
  const int64_t heads = x.dim(0) * x.dim(1), n = x.dim(2), d = x.dim(3), count = blocks(n, 256);
  Tensor parts = Tensor::zeros({heads, count, d}, DType::f32);
  Tensor all = Tensor::zeros({heads, d}, DType::f32);
  float* const p = parts.mutable_data<float>();
  parallel_for(0, heads * count, grain(512 * d), [&](int64_t b, int64_t e) {
    std::vector<float> room(static_cast<size_t>(256 * d));
    for (int64_t i = b; i < e; ++i) {
      const int64_t first = i % count * 256;
      f(i / count, first, std::min<int64_t>(256, n - first), room.data(), p + i * d);
    }
  });
  float* const out = all.mutable_data<float>();
  for (int64_t i = 0; i < heads * count; ++i)
    for (int64_t c = 0; c < d; ++c) {
      float& y = out[i / count * d + c];
      y = fold(y, p[i * d + c]);
    }
  return all;
}

// Means over the keys, [head][channel].
Tensor key_means(const Tensor& k, const FlashArgs& args) {
  const int64_t heads = k.dim(0) * k.dim(1), nk = k.dim(2), d = k.dim(3);
  Tensor mean;
  if (args.k_pooled.defined()) {
    mean = Tensor::zeros({heads, d}, DType::f32);
    const Tensor pooled = args.k_pooled.contiguous();
    const int64_t tn = blocks(nk, args.block_k);
    const float* const in = pooled.data<float>();
    float* const out = mean.mutable_data<float>();
    for (int64_t i = 0; i < heads * tn; ++i) {
      const auto keys = static_cast<float>(std::min(args.block_k, nk - i % tn * args.block_k));
      for (int64_t c = 0; c < d; ++c) out[i / tn * d + c] += keys * in[i * d + c];
    }
  } else {
    const Tokens<float> ks(k);
    mean = per_channel(
        k,
        [&](int64_t bh, int64_t first, int64_t count, float* room, float* y) {
          const simd::TokenRows<float> x = ks.rows(bh, first, count, room);
          simd::pack_kernels().sum(x.p, x.stride, count, d, y);
        },
        [](float a, float b) { return a + b; });
  }
  float* const m = mean.mutable_data<float>();
  for (int64_t i = 0; i < mean.numel(); ++i) m[i] /= static_cast<float>(nk);
  return mean;
}

Value value_of(Quant quant) {
  return quant.pv == LowBit::int8 ? Value::s8 : quant.pv == LowBit::fp8 ? Value::f8 : Value::real;
}

// 8-bit values: one unit per channel over all keys.
void quantize_values(Operands<float>& o, const Tensor& v, LowBit type, const float* largest) {
  const simd::PackKernels& pack = simd::pack_kernels();
  const int64_t heads = v.dim(0) * v.dim(1), d = v.dim(3);
  const Tokens<float> vs(v);
  if (largest != nullptr) {
    o.v_unit = Tensor({heads, d}, DType::f32);
    std::copy_n(largest, heads * d, o.v_unit.mutable_data<float>());
  } else {
    o.v_unit = per_channel(
        v,
        [&](int64_t bh, int64_t first, int64_t count, float* room, float* y) {
          const simd::TokenRows<float> x = vs.rows(bh, first, count, room);
          pack.largest(x.p, x.stride, count, d, y);
        },
        larger<float>);
  }
  Tensor inverse(o.v_unit.shape(), DType::f32);
  float *const unit = o.v_unit.mutable_data<float>(), *const inv = inverse.mutable_data<float>();
  for (int64_t c = 0; c < inverse.numel(); ++c) {
    unit[c] /= static_cast<float>(largest_value(type));
    inv[c] = unit[c] > 0 ? 1 / unit[c] : 0;
  }
  const bool bytes = type == LowBit::int8;
  group_values(o, v, bytes ? 4 : 2, [&](int64_t bh, int64_t first, int64_t count, simd::Group* to) {
    std::vector<float> room(bytes && v.dtype() == DType::f32 ? 0 : static_cast<size_t>(count * d));
    const simd::TokenRows<float> x = vs.rows(bh, first, count, room.data());
    if (!bytes) {  // bf16 holds every E4M3 value
      for (int64_t i = 0; i < count; ++i)
        for (int64_t c = 0; c < d; ++c)
          room[static_cast<size_t>(i * d + c)] = e4m3(x.p[i * x.stride + c] * inv[bh * d + c]);
      pack.value_pairs(room.data(), d, count, d, o.depth, to);
      return;
    }
    pack.value_quads(x.p, x.stride, count, d, o.depth, inv + bh * d, to);
  });
}

void pair_values(Operands<float>& o, const Tensor& v) {
  const simd::PackKernels& pack = simd::pack_kernels();
  const Heads<bf16> vs(v);
  group_values(o, v, 2, [&](int64_t bh, int64_t first, int64_t count, simd::Group* to) {
    pack.value_pairs_bf16(reinterpret_cast<const uint16_t*>(vs[bh].row(first)), vs[bh].stride,
                          count, o.depth, to);
  });
}

}  // namespace

bool in_pairs(const Tensor& x) {
  const Shape& s = x.strides();
  return x.dtype() == DType::bf16 && x.dim(3) % 8 == 0 && s[3] == 1 && s[0] % 2 == 0 &&
         s[1] % 2 == 0 && s[2] % 2 == 0 && reinterpret_cast<uintptr_t>(x.data<bf16>()) % 4 == 0;
}

Tensor token_pairs(const Tensor& x, int64_t block) {
  Operands<float> o;
  o.depth = x.dim(3), o.block = block, o.padded = (block + 1) / 2 * 2;
  pair_values(o, x);
  return o.v.memory;
}

float unit_of_queries(const Operands<float>& o, int64_t bh, int64_t first, int64_t end, int64_t d) {
  const simd::PackKernels& pack = simd::pack_kernels();
  std::vector<float> most(static_cast<size_t>(d)), room(static_cast<size_t>(kPanel * d));
  const auto* const base = static_cast<const char*>(o.q.at(bh));
  for (int64_t at = first; at < end; at += kPanel) {
    const int64_t count = std::min(kPanel, end - at);
    const char* const rows = base + at * o.q.stride * o.q.size;
    if (o.widen_q) {
      pack.widen(reinterpret_cast<const uint16_t*>(rows), o.q.stride, count, d, room.data());
      pack.largest(room.data(), d, count, d, most.data());
    } else {
      pack.largest(reinterpret_cast<const float*>(rows), o.q.stride, count, d, most.data());
    }
  }
  return std::accumulate(most.begin(), most.end(), 0.0f, larger<float>) / 127;
}

bool multiplies_bf16(const Tensor& q, const Tensor& k, const Tensor& v, const FlashArgs& args) {
  const bool blocked = args.lists != nullptr || args.weight.defined();
  return in_pairs(q) && in_pairs(k) && in_pairs(v) && args.dropout == 0 && !args.quant.any() &&
         (!blocked || args.block_k % 2 == 0);
}

Operands<float> lay_out(const Tensor& q, const Tensor& k, const Tensor& v, const FlashArgs& args) {
  Operands<float> o;
  o.depth = padded_depth(q.dim(3));
  const bool blocked = args.lists != nullptr || args.weight.defined() || args.quant.any();
  const auto group = [&](int64_t n) {
    o.block = blocked ? args.block_k : 64;
    o.padded = (o.block + n - 1) / n * n;
  };
  if (multiplies_bf16(q, k, v, args)) {
    o.score = Score::bf16, o.value = Value::bf16;
    group(2);
    return o;
  }
  const bool low_k = args.quant.qk == LowBit::int8, low_v = args.quant.pv != LowBit::none;
  const bool pairs =
      low_k && !low_v && v.dtype() == DType::bf16 && v.strides()[3] == 1 && v.dim(3) % 8 == 0;
  o.score = low_k ? Score::s8 : Score::real;
  o.value = low_v ? value_of(args.quant) : pairs ? Value::bf16 : Value::real;
  if (o.value != Value::real) group(o.value == Value::s8 ? 4 : 2);
  o.widen_q = low_k && in_pairs(q);
  return o;
}

KeyBlocks::KeyBlocks(Operands<float>& o, const Tensor& k, const FlashArgs& args)
    : mean_(key_means(k, args)),
      tn_(blocks(k.dim(2), args.block_k)),
      key_rows_(o.block == 0 ? k.dim(2) : tn_ * o.padded),
      row_(o.block == 0 ? args.block_k : o.padded),
      d_(k.dim(3)),
      depth_(o.depth) {
  const int64_t heads = k.dim(0) * k.dim(1);
  o.key_rows = key_rows_;
  o.k_unit = Tensor({heads, tn_}, DType::f32), o.k_start = Tensor({heads, key_rows_}, DType::i32);
  Tensor bytes({heads, key_rows_, depth_}, DType::i8);
  unit_ = o.k_unit.mutable_data<float>(), start_ = o.k_start.mutable_data<int32_t>();
  bytes_ = bytes.mutable_data<int8_t>();
  o.k = contiguous<int8_t>(bytes, k.dim(1), key_rows_ * depth_, depth_ / 4);
}

void KeyBlocks::make(int64_t i, const simd::TokenRows<float>& keys) const {
  const int64_t bh = i / tn_, at = bh * key_rows_ + i % tn_ * row_;
  unit_[i] = simd::pack_kernels().key_bytes(keys.p, keys.stride, keys.count, d_, depth_,
                                            mean_.data<float>() + bh * d_, bytes_ + at * depth_,
                                            start_ + at);
}

void add_rest(Operands<float>& o, const Tensor& q, const Tensor& k, const Tensor& v,
              const FlashArgs& args, const float* v_largest) {
  if (o.score == Score::bf16) {
    o.q = in_place<bf16>(q), o.k = in_place<bf16>(k);
    o.q.stride /= 2, o.k.stride /= 2;
  } else {
    o.q = o.widen_q ? in_place<bf16>(q) : in_place<float>(compute_rows(q));
    if (o.score == Score::real)
      o.k = keys_in_order(o, args.quant.any() ? smoothed(k) : compute_rows(k));
  }
  if (o.value == Value::bf16)
    pair_values(o, v);
  else if (o.value == Value::real)
    o.v = rows<float>(compute_rows(v), o.depth);
  else
    quantize_values(o, v, args.quant.pv, v_largest);
}

// The integers of low-bit products held in f64, the reference that the golden files check.
template <>
Operands<double> operands(const Tensor& q_, const Tensor& k_, const Tensor& v_,
                          const FlashArgs& args) {
  Operands<double> o;
  o.depth = padded_depth(q_.dim(3));
  const Tensor q = compute_rows(q_);
  Tensor k = compute_rows(k_), v = compute_rows(v_);
  const LowBitOperands low = low_bit_operands(q, k, v, args);
  o.score = low.qk() ? Score::s8 : Score::real;
  o.value = value_of(args.quant);
  o.q_unit = low.q_unit, o.k_unit = low.k_unit, o.v_unit = low.v_unit;
  o.q = in_place<double>(q), o.k = rows<double>(k, o.depth), o.v = rows<double>(v, o.depth);
  return o;
}

template <>
Operands<float> operands(const Tensor& q, const Tensor& k, const Tensor& v, const FlashArgs& args) {
  Operands<float> o = lay_out(q, k, v, args);
  if (o.score == Score::s8) {
    const KeyBlocks made(o, k, args);
    const Tokens<float> ks(k);
    const int64_t heads = k.dim(0) * k.dim(1), nk = k.dim(2), d = k.dim(3);
    const int64_t tn = blocks(nk, args.block_k);
    parallel_for(0, heads * tn, grain(8 * args.block_k * d), [&](int64_t b, int64_t e) {
      std::vector<float> room(static_cast<size_t>(std::min(args.block_k, nk) * d));
      for (int64_t i = b; i < e; ++i) {
        const int64_t first = i % tn * args.block_k, count = std::min(args.block_k, nk - first);
        made.make(i, ks.rows(i / tn, first, count, room.data()));
      }
    });
  }
  add_rest(o, q, k, v, args, nullptr);
  return o;
}

}  // namespace tenun::attn
