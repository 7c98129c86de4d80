// Forward pass. Queries lie in the vector lanes: a panel of up to 64 queries keeps Q^T and O^T, a
// tile of keys gives S^T = K Q^T, and maximum, sum and exponential run down the columns without any
// horizontal step.

#include "tenun/core/math.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash_detail.h"

namespace tenun::attn {
namespace {

// Keys at a time: O^T is rescaled and reread once for that many.
constexpr int64_t kKeyTile = 96;

template <class T>
struct Forward {
  Heads<T> q, k, v;
  T *o, *lse;
  int64_t nq, nk, d;
  const FlashArgs& args;
  const LowBitOperands<T>& low;
  const T* log_weight;  // of args.weight, or nullptr
  int64_t tile;         // keys at a time

  // A panel's state: lanes are queries first .. first + count of head bh.
  struct Panel {
    int64_t bh, first, count, lanes;
    T *qt, *ot, *s, *m, *l, *next, *bias;
    float* keep;
  };

  [[nodiscard]] int64_t scratch_size() const {
    const int64_t bias = log_weight != nullptr ? blocks(nk, args.block_k) * kPanel : 0;
    return (2 * d + tile + 3) * kPanel + bias + 256 + (args.dropout > 0 ? tile * kPanel : 0);
  }

  void open(Panel& p, Scratch<T>& memory) const {
    p.lanes = padded<T>(p.count);
    p.qt = memory.take(d * kPanel), p.ot = memory.take(d * kPanel);
    p.s = memory.take(tile * kPanel);
    p.m = memory.take(kPanel), p.l = memory.take(kPanel), p.next = memory.take(kPanel);
    p.keep = nullptr;
    if (args.dropout > 0) p.keep = reinterpret_cast<float*>(memory.take(tile * kPanel));
    const Rows<T> rows = q[p.bh];
    if (low.qk()) {
      const T unit = low.q_scale[p.bh * blocks(nq, args.block_q) + p.first / args.block_q];
      pack_transposed(rows.row(p.first), rows.stride, p.count, d, T(1), p.qt, kPanel);
      for (int64_t i = 0; i < d * kPanel; ++i)
        p.qt[i] = unit > 0 ? std::rint(p.qt[i] / unit) : T(0);
    } else {
      pack_transposed(rows.row(p.first), rows.stride, p.count, d, T(args.scale), p.qt, kPanel);
    }
    std::fill_n(p.ot, d * kPanel, T(0));
    std::fill_n(p.l, kPanel, T(0));
    std::fill_n(p.m, kPanel, -std::numeric_limits<T>::infinity());
    p.bias = nullptr;
    if (log_weight == nullptr) return;
    const int64_t tn = blocks(nk, args.block_k), tm = blocks(nq, args.block_q);
    p.bias = memory.take(tn * kPanel);
    for (int64_t w = 0; w < p.lanes; ++w) {
      const int64_t i = std::min(p.first + w, p.first + p.count - 1);
      const T* const line = log_weight + (p.bh * tm + i / args.block_q) * tn;
      for (int64_t j = 0; j < tn; ++j) p.bias[j * kPanel + w] = line[j];
    }
  }

  void visit(Panel& p, int64_t begin, int64_t end) const {
    const Rows<T> kr = k[p.bh], vr = v[p.bh];
    const int64_t n = end - begin, lanes = p.lanes;
    tile_product<T>(n, lanes, d, {kr.row(begin), kr.stride, 1}, p.qt, kPanel, p.s, kPanel,
                    Into::set);
    if (low.qk()) {
      const T unit = low.q_scale[p.bh * blocks(nq, args.block_q) + p.first / args.block_q] *
                     low.k_scale[p.bh * blocks(nk, args.block_k) + begin / args.block_k] *
                     T(args.scale);
      for (int64_t j = 0; j < n; ++j)
        for (int64_t w = 0; w < lanes; ++w) p.s[j * kPanel + w] *= unit;
    }
    if (p.bias != nullptr)
      for (int64_t j = 0; j < n; ++j) {
        const T* __restrict const add = p.bias + (begin + j) / args.block_k * kPanel;
        T* __restrict const s = p.s + j * kPanel;
        for (int64_t w = 0; w < lanes; ++w) s[w] += add[w];
      }
    softmax(p, n);
    if (o == nullptr) return;
    if (p.keep != nullptr) {
      keep_factors(p.keep, kPanel, 1, args, p.bh, nq, nk, p.first, p.count, begin, n);
      for (int64_t j = 0; j < n; ++j)
        for (int64_t w = 0; w < p.count; ++w) p.s[j * kPanel + w] *= T(p.keep[j * kPanel + w]);
    }
    if (low.pv())
      for (int64_t j = 0; j < n; ++j)
        for (int64_t w = 0; w < lanes; ++w)
          p.s[j * kPanel + w] = std::rint(p.s[j * kPanel + w] * T(127));
    tile_product<T>(d, lanes, n, {vr.row(begin), 1, vr.stride}, p.s, kPanel, p.ot, kPanel,
                    Into::add);
  }

  // S -> P = exp(S - running maximum); sums and O^T follow the maximum.
  void softmax(Panel& p, int64_t n) const {
    const int64_t lanes = p.lanes;
    T* __restrict const next = p.next;
    std::copy_n(p.m, kPanel, next);
    for (int64_t j = 0; j < n; ++j) {
      const T* __restrict const s = p.s + j * kPanel;
      for (int64_t w = 0; w < lanes; ++w) next[w] = s[w] > next[w] ? s[w] : next[w];
    }
    bool moved = false;
    for (int64_t w = 0; w < lanes; ++w) moved = moved || next[w] != p.m[w];
    if (moved) {
      T* __restrict const old = p.m;
      T* __restrict const l = p.l;
      for (int64_t w = 0; w < lanes; ++w) old[w] = math::exp(old[w] - next[w]);
      for (int64_t w = 0; w < lanes; ++w) l[w] *= old[w];
      for (int64_t c = 0; c < d; ++c) {
        T* __restrict const o_line = p.ot + c * kPanel;
        for (int64_t w = 0; w < lanes; ++w) o_line[w] *= old[w];
      }
      std::copy_n(next, kPanel, p.m);
    }
    T* __restrict const l = p.l;
    for (int64_t j = 0; j < n; ++j) {
      T* __restrict const s = p.s + j * kPanel;
      for (int64_t w = 0; w < lanes; ++w) {
        const T e = math::exp_below_zero(s[w] - next[w]);
        s[w] = e;
        l[w] += e;
      }
    }
  }

  void close(Panel& p) const {
    for (int64_t w = 0; w < p.lanes; ++w) {
      p.next[w] = p.l[w] > 0 ? T(1) / p.l[w] : p.l[w] == 0 ? T(0) : p.l[w];  // NaN stays NaN
      p.m[w] = p.l[w] == 0 ? -std::numeric_limits<T>::infinity() : p.m[w] + math::log(p.l[w]);
    }
    std::copy_n(p.m, p.count, lse + p.bh * nq + p.first);
    if (o == nullptr) return;
    T* const out = o + (p.bh * nq + p.first) * d;
    for (int64_t c = 0; c < d; ++c) {
      const T unit = low.pv() ? low.v_scale[p.bh * d + c] / T(127) : T(1);
      T* __restrict const line = p.ot + c * kPanel;
      const T* __restrict const inverse = p.next;
      for (int64_t w = 0; w < p.lanes; ++w) line[w] = line[w] * inverse[w] * unit;
    }
    transpose(p.ot, kPanel, d, p.count, out, d);
  }

  void run(int64_t heads) const {
    const BlockLists* const lists = args.lists;
    // Panels do not cross query blocks where these differ in what they visit or in scale.
    const int64_t block = lists != nullptr || args.quant.any() ? args.block_q : nq;
    const int64_t per_block = blocks(std::min(block, nq), kPanel), rows = blocks(nq, block);
    parallel_for(0, heads * rows * per_block, grain(4 * std::min({kPanel, block, nq}) * nk * d),
                 [&](int64_t b, int64_t e) {
                   for (int64_t i = b; i < e; ++i) {
                     const int64_t row = i / per_block, bh = row / rows, at = row % rows * block;
                     Panel p{};
                     p.bh = bh;
                     p.first = at + i % per_block * kPanel;
                     p.count = std::min({kPanel, at + block - p.first, nq - p.first});
                     if (p.count <= 0) continue;
                     Scratch<T> memory(scratch_size());
                     open(p, memory);
                     if (lists == nullptr)
                       for (int64_t j = 0; j < nk; j += tile) visit(p, j, std::min(j + tile, nk));
                     else
                       for_each_run(lists->row_start, lists->row_index, row, args.block_k, nk,
                                    args.quant.any() ? 1 : nk, [&](int64_t begin, int64_t end) {
                                      for (int64_t j = begin; j < end; j += tile)
                                        visit(p, j, std::min(j + tile, end));
                                    });
                     close(p);
                   }
                 });
  }
};

void flash_forward_cpu(Tensor& o, Tensor& lse, const Tensor& q_, const Tensor& k_, const Tensor& v_,
                       const FlashArgs& args_) {
  FlashArgs args = args_;
  if (args.lists != nullptr) args.block_q = args.lists->block_q, args.block_k = args.lists->block_k;
  const Tensor q = compute_rows(q_);
  Tensor k = compute_rows(k_), v = compute_rows(v_);
  if (q.numel() == 0) return;
  Tensor wide = !o.defined() || o.dtype() == q.dtype() ? o : Tensor(o.shape(), q.dtype());
  visit<DType::f32, DType::f64>(q.dtype(), "attention", [&]<class T>() {
    const LowBitOperands<T> low = low_bit_operands<T>(q, k, v, args);
    const Tensor bias = log_of(args.weight);
    const Forward<T> f{Heads<T>(q),
                       Heads<T>(k),
                       Heads<T>(v),
                       wide.defined() ? wide.mutable_data<T>() : nullptr,
                       lse.mutable_data<T>(),
                       q.dim(2),
                       k.dim(2),
                       q.dim(3),
                       args,
                       low,
                       bias.defined() ? bias.data<T>() : nullptr,
                       args.quant.any() ? std::min(args.block_k, k.dim(2)) : kKeyTile};
    f.run(q.dim(0) * q.dim(1));
  });
  if (o.defined() && o.dtype() != q.dtype()) o.copy_(wide);
}

}  // namespace

constinit Kernel<void(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                      const FlashArgs& args)>
    kernel::flash_forward{"flash attention forward", flash_forward_cpu};

}  // namespace tenun::attn
