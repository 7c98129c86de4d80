// Backward pass, one pass over the key columns with five products a tile. Keys lie in the vector
// lanes: a column of up to 64 keys keeps K^T, V^T, dK^T and dV^T; every tile of queries that sees
// it forms P and dS again and adds its part of dQ.
#include <optional>

#include "tenun/core/math.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash_detail.h"

namespace tenun::attn {
namespace {

template <class T>
struct Backward {
  Heads<T> q, k, v;
  std::optional<Heads<T>> dy;  // none: zero
  const T *lse, *delta;
  T *dq, *dk, *dv, *dweight;  // nullptr: not wanted
  int64_t nq, nk, d;
  const FlashArgs& args;
  const T* log_weight;

  struct Column {
    int64_t bh, first, count, lanes;
    T *kt, *vt, *kr, *dkt, *dvt, *s, *dp, *bias, *dw;
    float* keep;
  };

  [[nodiscard]] int64_t width() const { return padded<T>(d); }
  [[nodiscard]] int64_t scratch_size() const {
    return (4 * d + width() + 4 * kPanel + 2) * kPanel + 256;
  }
  [[nodiscard]] bool wants_scores() const {
    return dq != nullptr || dk != nullptr || dweight != nullptr;
  }

  void open(Column& c, Scratch<T>& memory) const {
    c.lanes = padded<T>(c.count);
    c.kt = memory.take(d * kPanel), c.vt = memory.take(d * kPanel);
    c.kr = memory.take(kPanel * width());
    c.dkt = memory.take(d * kPanel), c.dvt = memory.take(d * kPanel);
    c.s = memory.take(kPanel * kPanel), c.dp = memory.take(kPanel * kPanel);
    c.bias = memory.take(kPanel), c.dw = memory.take(kPanel);
    c.keep = args.dropout > 0 ? reinterpret_cast<float*>(memory.take(kPanel * kPanel)) : nullptr;
    const Rows<T> kr = k[c.bh], vr = v[c.bh];
    pack_transposed(kr.row(c.first), kr.stride, c.count, d, T(args.scale), c.kt, kPanel);
    pack_transposed(vr.row(c.first), vr.stride, c.count, d, T(1), c.vt, kPanel);
    for (int64_t j = 0; j < c.count; ++j) {
      std::copy_n(kr.row(c.first + j), d, c.kr + j * width());
      std::fill_n(c.kr + j * width() + d, width() - d, T(0));
    }
    std::fill_n(c.dkt, d * kPanel, T(0));
    std::fill_n(c.dvt, d * kPanel, T(0));
  }

  // P into c.s, dS into c.dp, for queries first .. first + n.
  void probabilities(const Column& c, int64_t first, int64_t n) const {
    const int64_t row0 = c.bh * nq + first;
    if (c.keep != nullptr)
      keep_factors(c.keep, 1, kPanel, args, c.bh, nq, nk, first, n, c.first, c.count);
    int64_t block = -1;
    for (int64_t i = 0; i < n; ++i) {
      T* __restrict const s = c.s + i * kPanel;
      T* __restrict const dp = c.dp + i * kPanel;
      const T l = lse[row0 + i];
      const T shift = l == -std::numeric_limits<T>::infinity() ? -l : l;  // no keys: P = 0
      const T dot = delta[row0 + i];
      if (log_weight == nullptr) {
        for (int64_t w = 0; w < c.lanes; ++w) s[w] = math::exp(s[w] - shift);
      } else {
        if ((first + i) / args.block_q != block) {
          flush(c, block);
          block = (first + i) / args.block_q;
          load_bias(c, block);
        }
        const T* __restrict const add = c.bias;
        for (int64_t w = 0; w < c.lanes; ++w) s[w] = math::exp(s[w] + add[w] - shift);
      }
      if (c.keep != nullptr) {
        const float* __restrict const keep = c.keep + i * kPanel;
        for (int64_t w = 0; w < c.count; ++w) {
          dp[w] = s[w] * (dp[w] * T(keep[w]) - dot);
          s[w] *= T(keep[w]);
        }
      } else {
        for (int64_t w = 0; w < c.lanes; ++w) dp[w] = s[w] * (dp[w] - dot);
      }
      for (int64_t w = c.count; w < c.lanes; ++w) s[w] = 0, dp[w] = 0;
      if (dweight != nullptr) {
        T* __restrict const dw = c.dw;
        for (int64_t w = 0; w < c.lanes; ++w) dw[w] += dp[w];
      }
    }
    if (log_weight != nullptr) flush(c, block);
  }

  void load_bias(const Column& c, int64_t block) const {
    const int64_t tn = blocks(nk, args.block_k), tm = blocks(nq, args.block_q);
    const T* const line = log_weight + (c.bh * tm + block) * tn;
    for (int64_t w = 0; w < c.lanes; ++w)
      c.bias[w] = T(0.6931471805599453) * line[(c.first + std::min(w, c.count - 1)) / args.block_k];
    std::fill_n(c.dw, kPanel, T(0));
  }
  // dS summed over a block is m dm: add it to the blocks that this column touches.
  void flush(const Column& c, int64_t block) const {
    if (dweight == nullptr || block < 0) return;
    const int64_t tn = blocks(nk, args.block_k), tm = blocks(nq, args.block_q);
    T* const line = dweight + (c.bh * tm + block) * tn;
    for (int64_t w = 0; w < c.count; ++w)
      line[(c.first + w) / args.block_k] += c.dw[w] * math::exp(-c.bias[w]);
  }

  // dq_head: [nq][width()]
  void visit(Column& c, int64_t first, int64_t n, T* dq_head) const {
    const Rows<T> qr = q[c.bh], yr = dy ? (*dy)[c.bh] : Rows<T>{};
    tile_product<T>(n, c.lanes, d, {qr.row(first), qr.stride, 1}, c.kt, kPanel, c.s, kPanel,
                    Into::set);
    if (dy && wants_scores())
      tile_product<T>(n, c.lanes, d, {yr.row(first), yr.stride, 1}, c.vt, kPanel, c.dp, kPanel,
                      Into::set);
    else
      std::fill_n(c.dp, n * kPanel, T(0));
    probabilities(c, first, n);
    if (dy && dv != nullptr)
      tile_product<T>(d, c.lanes, n, {yr.row(first), 1, yr.stride}, c.s, kPanel, c.dvt, kPanel,
                      Into::add);
    if (dk != nullptr)
      tile_product<T>(d, c.lanes, n, {qr.row(first), 1, qr.stride}, c.dp, kPanel, c.dkt, kPanel,
                      Into::add);
    if (dq_head != nullptr)
      tile_product<T>(n, width(), c.count, {c.dp, kPanel, 1}, c.kr, width(),
                      dq_head + first * width(), width(), Into::add);
  }

  void close(const Column& c) const {
    const int64_t at = (c.bh * nk + c.first) * d;
    if (dv != nullptr) transpose(c.dvt, kPanel, d, c.count, dv + at, d);
    if (dk == nullptr) return;
    transpose(c.dkt, kPanel, d, c.count, dk + at, d);
    for (int64_t i = at; i < at + c.count * d; ++i) dk[i] *= T(args.scale);
  }

  // Key blocks [begin, end) of one head.
  void columns(int64_t bh, int64_t begin, int64_t end, int64_t block, T* dq_head) const {
    for (int64_t j = begin; j < end; ++j)
      for (int64_t first = j * block; first < std::min((j + 1) * block, nk); first += kPanel) {
        Scratch<T> memory(scratch_size());
        Column c{};
        c.bh = bh, c.first = first;
        c.count = std::min({kPanel, (j + 1) * block - first, nk - first});
        open(c, memory);
        const auto rows = [&](int64_t from, int64_t to) {
          for (int64_t i = from; i < to; i += kPanel)
            visit(c, i, std::min(kPanel, to - i), dq_head);
        };
        if (args.lists == nullptr)
          rows(0, nq);
        else
          for_each_run(args.lists->col_start, args.lists->col_index, bh * blocks(nk, block) + j,
                       args.lists->block_q, nq, nq, rows);
        close(c);
      }
  }

  // A task owns some columns of a head, and a dQ of its own; these are added in order. How many
  // tasks a head has depends on the sizes alone.
  void run(int64_t heads) const {
    // Columns that share an element of dweight stay in one task.
    const int64_t block = args.lists != nullptr ? args.lists->block_k
                          : dweight != nullptr
                              ? std::max<int64_t>(kPanel / args.block_k, 1) * args.block_k
                              : kPanel;
    const int64_t cols = blocks(nk, block);
    int64_t parts =
        std::clamp<int64_t>(16 / std::max<int64_t>(heads, 1), 1, std::max<int64_t>(cols, 1));
    const int64_t step = blocks(cols, parts), size = nq * width();
    parts = std::max<int64_t>(blocks(cols, std::max<int64_t>(step, 1)), 1);
    // Where the rows need no padding and no sum, the output itself is the accumulator.
    const bool direct = parts == 1 && width() == d;
    Tensor memory;
    T* part = dq;
    if (dq != nullptr && !direct) {
      memory = Tensor({heads * parts, size}, dtype_of<T>);
      part = memory.mutable_data<T>();
    }
    parallel_for(0, heads * parts, grain(10 * nq * nk * d / parts), [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        T* const dq_head = dq != nullptr ? part + i * size : nullptr;
        if (dq_head != nullptr) std::fill_n(dq_head, size, T(0));
        const int64_t first = i % parts * step;
        columns(i / parts, first, std::min(first + step, cols), block, dq_head);
      }
    });
    if (dq == nullptr) return;
    parallel_for(0, heads * nq, grain(4 * d), [&](int64_t b, int64_t e) {
      for (int64_t r = b; r < e; ++r) {
        const T* const from = part + (r / nq * parts * nq + r % nq) * width();
        for (int64_t i = 0; i < d; ++i) {
          T sum = from[i];
          for (int64_t g = 1; g < parts; ++g) sum += from[g * size + i];
          dq[r * d + i] = sum * T(args.scale);
        }
      }
    });
  }
};

void flash_backward_cpu(FlashGrads& g, const Tensor& dy_, const Tensor& q_, const Tensor& k_,
                        const Tensor& v_, const Tensor& lse, const Tensor& delta,
                        const FlashArgs& args) {
  const Tensor q = compute_rows(q_), k = compute_rows(k_), v = compute_rows(v_),
               dy = dy_.defined() ? compute_rows(dy_) : dy_;
  visit<DType::f32, DType::f64>(q.dtype(), "attention", [&]<class T>() {
    const Tensor bias = log2_of(args.weight);
    const auto out = [](Tensor& t) { return t.defined() ? t.mutable_data<T>() : nullptr; };
    if (g.dweight.defined()) g.dweight.fill_(0);
    const Backward<T> b{Heads<T>(q),
                        Heads<T>(k),
                        Heads<T>(v),
                        dy.defined() ? std::optional<Heads<T>>(dy) : std::nullopt,
                        lse.data<T>(),
                        delta.data<T>(),
                        out(g.dq),
                        out(g.dk),
                        out(g.dv),
                        out(g.dweight),
                        q.dim(2),
                        k.dim(2),
                        q.dim(3),
                        args,
                        bias.defined() ? bias.data<T>() : nullptr};
    b.run(q.dim(0) * q.dim(1));
  });
}

}  // namespace

constinit Kernel<void(FlashGrads& grads, const Tensor& dy, const Tensor& q, const Tensor& k,
                      const Tensor& v, const Tensor& lse, const Tensor& delta,
                      const FlashArgs& args)>
    kernel::flash_backward{"flash attention backward", flash_backward_cpu};

}  // namespace tenun::attn
