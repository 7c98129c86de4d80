// Backward pass: cuts the keys into columns of up to 64, each with its list of query tiles, and
// hands them to the kernel (kernels/backward.h). f32 and f64 in their own type, bf16 as bf16
// products with f32 sums; other types in f32.
#include <optional>
#include <vector>

#include "tenun/core/math.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash_detail.h"
#include "tenun/ops/attention/flash_operands.h"
#include "tenun/ops/simd/isa.h"

namespace tenun::attn {
namespace {

using simd::BackwardColumn;
using simd::kPanel;
using simd::Tile;

// Rows of heads that a kernel reads: elements of E, counted in `group`s of them.
struct Matrix {
  const char* base = nullptr;
  int64_t heads = 1, batch = 0, head = 0, row = 0, size = 0, group = 1;
  template <class E>
  static Matrix of(const Tensor& x, int64_t group) {
    const Shape& s = x.strides();
    return {reinterpret_cast<const char*>(x.data<E>()),
            x.dim(1),
            s[0],
            s[1],
            s[2],
            static_cast<int64_t>(sizeof(E)),
            group};
  }
  [[nodiscard]] const void* at(int64_t bh, int64_t i) const {
    return base == nullptr ? nullptr
                           : base + (bh / heads * batch + bh % heads * head + i * row) * size;
  }
  [[nodiscard]] int64_t stride() const { return row / group; }
};

template <class T>
struct Backward {
  void (*kernel)(const BackwardColumn<T>&);
  Matrix q, k, v, dy;
  Tensor q_pairs, dy_pairs;  // bf16
  const T *lse, *delta;      // lse in units of log 2
  T *dq, *dk, *dv, *dweight;
  int64_t heads, nq, nk, d;
  const FlashArgs& args;
  const T* log_weight;

  [[nodiscard]] int64_t wide() const { return simd::pad<T>(d); }

  struct Dropout {
    const FlashArgs& args;
    int64_t bh, nq, nk, first, count;
    static void fill(const void* context, T* out, int64_t query, int64_t queries) {
      const auto& c = *static_cast<const Dropout*>(context);
      std::vector<float> factor(static_cast<size_t>(kPanel * kPanel));
      keep_factors(factor.data(), 1, kPanel, c.args, c.bh, c.nq, c.nk, query, queries, c.first,
                   c.count);
      std::copy(factor.begin(), factor.end(), out);
    }
  };

  // Queries of a tile: 64 at most, within a query block where blocks differ in bias.
  void add_tiles(std::vector<Tile>& tiles, int64_t begin, int64_t end) const {
    for (int64_t at = begin; at < end;) {
      const int64_t block = log_weight != nullptr ? at / args.block_q : 0;
      const int64_t edge = log_weight != nullptr ? std::min((block + 1) * args.block_q, end) : end;
      const int64_t count = std::min(kPanel, edge - at);
      tiles.push_back({at, count, block});
      at += count;
    }
  }

  // Keys first .. first + count of head bh; dq_head: [nq][wide()].
  void column(int64_t bh, int64_t first, int64_t count, const std::vector<Tile>& tiles,
              T* dq_head) const {
    const int64_t tm = log_weight != nullptr ? blocks(nq, args.block_q) : 0;
    const int64_t work = 384 * wide() + 20480;
    Scratch<T> memory(work + 2 * tm * kPanel + 64);
    BackwardColumn<T> c{};
    c.keys = count, c.channels = d;
    c.k = k.at(bh, first), c.k_stride = k.stride();
    c.v = v.at(bh, first), c.v_stride = v.stride();
    c.q = q.at(bh, 0), c.q_stride = q.stride();
    c.dy = dy.at(bh, 0), c.dy_stride = dy.stride();
    if (q_pairs.defined()) {
      const int64_t size = q_pairs.numel() / heads;
      c.q_pairs = reinterpret_cast<const simd::Group*>(q_pairs.data<int32_t>() + bh * size);
      if (dy_pairs.defined())
        c.dy_pairs = reinterpret_cast<const simd::Group*>(dy_pairs.data<int32_t>() + bh * size);
    }
    c.lse = lse + bh * nq, c.delta = delta + bh * nq;
    c.tiles = tiles.data(), c.tile_count = static_cast<int64_t>(tiles.size());
    c.scale = static_cast<T>(args.scale * 1.4426950408889634);
    c.unscaled = static_cast<T>(args.scale);
    const Dropout dropout{args, bh, nq, nk, first, count};
    const simd::Keep<T> keep{Dropout::fill, &dropout};
    if (args.dropout > 0) c.keep = &keep;
    T *bias = nullptr, *dw = nullptr;
    if (log_weight != nullptr) {
      bias = memory.take(tm * kPanel), dw = memory.take(tm * kPanel);
      load_bias(bh, first, count, bias);
      std::fill_n(dw, tm * kPanel, T(0));
      c.bias = bias;
      if (dweight != nullptr) c.dweight = dw;
    }
    c.dq = dq_head;
    if (dk != nullptr) c.dk = dk + (bh * nk + first) * d;
    if (dv != nullptr) c.dv = dv + (bh * nk + first) * d;
    c.scratch = memory.take(work);
    kernel(c);
    if (c.dweight != nullptr) add_weight_gradients(bh, first, count, bias, dw);
  }
  void load_bias(int64_t bh, int64_t first, int64_t count, T* bias) const {
    const int64_t tn = blocks(nk, args.block_k), tm = blocks(nq, args.block_q);
    for (int64_t i = 0; i < tm; ++i)
      for (int64_t w = 0; w < kPanel; ++w)
        bias[i * kPanel + w] =
            log_weight[(bh * tm + i) * tn + (first + std::min(w, count - 1)) / args.block_k];
  }
  // dS summed over a pair of blocks is m dm.
  void add_weight_gradients(int64_t bh, int64_t first, int64_t count, const T* bias,
                            const T* dw) const {
    const int64_t tn = blocks(nk, args.block_k), tm = blocks(nq, args.block_q);
    for (int64_t i = 0; i < tm; ++i)
      for (int64_t w = 0; w < count; ++w)
        dweight[(bh * tm + i) * tn + (first + w) / args.block_k] +=
            dw[i * kPanel + w] * std::exp2(-bias[i * kPanel + w]);
  }

  // Key blocks [begin, end) of one head.
  void columns(int64_t bh, int64_t begin, int64_t end, int64_t block, T* dq_head,
               const std::vector<Tile>& all) const {
    std::vector<Tile> own;
    for (int64_t j = begin; j < end; ++j) {
      if (args.lists != nullptr) {
        own.clear();
        for_each_run(args.lists->col_start, args.lists->col_index, bh * blocks(nk, block) + j,
                     args.lists->block_q, nq, nq,
                     [&](int64_t from, int64_t to) { add_tiles(own, from, to); });
      }
      const int64_t last = std::min((j + 1) * block, nk);
      for (int64_t first = j * block; first < last; first += kPanel)
        column(bh, first, std::min(kPanel, last - first), args.lists != nullptr ? own : all,
               dq_head);
    }
  }

  // A task owns some columns of a head, and a dQ of its own; these are added in order. How many
  // tasks a head has depends on the sizes alone; for lists, where the products are few, fewer.
  void run() const {
    // Columns that share an element of dweight stay in one task.
    const int64_t block = args.lists != nullptr ? args.lists->block_k
                          : dweight != nullptr
                              ? std::max<int64_t>(kPanel / args.block_k, 1) * args.block_k
                              : kPanel;
    const int64_t cols = blocks(nk, block), most = args.lists != nullptr ? 4 : 8;
    int64_t parts = std::clamp<int64_t>(most / heads, 1, std::max<int64_t>(cols, 1));
    const int64_t step = blocks(cols, parts), size = nq * wide();
    parts = std::max<int64_t>(blocks(cols, std::max<int64_t>(step, 1)), 1);
    // Where the rows need no padding and no sum, the output itself is the accumulator.
    const bool direct = parts == 1 && wide() == d;
    Tensor memory;
    T* part = dq;
    if (dq != nullptr && !direct) {
      memory = Tensor({heads * parts, size}, dtype_of<T>);
      part = memory.mutable_data<T>();
    }
    std::vector<Tile> all;
    if (args.lists == nullptr) add_tiles(all, 0, nq);
    parallel_for(0, heads * parts, grain(10 * nq * nk * d / parts), [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        T* const dq_head = dq != nullptr ? part + i * size : nullptr;
        if (dq_head != nullptr) std::fill_n(dq_head, size, T(0));
        const int64_t first = i % parts * step;
        columns(i / parts, first, std::min(first + step, cols), block, dq_head, all);
      }
    });
    if (dq == nullptr) return;
    parallel_for(0, heads * nq, grain(4 * d), [&](int64_t b, int64_t e) {
      for (int64_t r = b; r < e; ++r) {
        const T* const from = part + (r / nq * parts * nq + r % nq) * wide();
        T* const to = dq + r * d;
        for (int64_t i = 0; i < d; ++i) {
          T sum = from[i];
          for (int64_t g = 1; g < parts; ++g) sum += from[g * size + i];
          to[i] = sum * T(args.scale);
        }
      }
    });
  }
};

// lse in units of log 2; +inf for a row without keys, whose P is then 0.
template <class T>
Tensor base2(const Tensor& lse) {
  Tensor y(lse.shape(), lse.dtype());
  const T* const in = lse.data<T>();
  T* const out = y.mutable_data<T>();
  for (int64_t i = 0; i < lse.numel(); ++i) {
    const T l = in[i] * T(1.4426950408889634);
    out[i] = l == -std::numeric_limits<T>::infinity() ? -l : l;
  }
  return y;
}

void flash_backward_cpu(FlashGrads& g, const Tensor& dy, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& lse, const Tensor& delta,
                        const FlashArgs& args) {
  if (g.dweight.defined()) g.dweight.fill_(0);
  if (q.numel() == 0 || k.numel() == 0) {
    for (Tensor* t : {&g.dq, &g.dk, &g.dv})
      if (t->defined()) t->fill_(0);
    return;
  }
  const simd::FlashBackwardKernels& kernels = simd::flash_backward_kernels();
  visit<DType::f32, DType::f64>(compute_dtype(q.dtype()), "attention", [&]<class T>() {
    const Tensor bias = log2_of(args.weight), lse2 = base2<T>(lse);
    const auto out = [](Tensor& t) { return t.defined() ? t.mutable_data<T>() : nullptr; };
    Backward<T> b{{},
                  {},
                  {},
                  {},
                  {},
                  {},
                  {},
                  lse2.data<T>(),
                  delta.data<T>(),
                  out(g.dq),
                  out(g.dk),
                  out(g.dv),
                  out(g.dweight),
                  q.dim(0) * q.dim(1),
                  q.dim(2),
                  k.dim(2),
                  q.dim(3),
                  args,
                  bias.defined() ? bias.data<T>() : nullptr};
    if constexpr (std::is_same_v<T, float>) {
      const bool blocked = args.lists != nullptr || args.weight.defined();
      const int64_t block = args.lists != nullptr ? args.lists->block_q : args.block_q;
      if (in_pairs(q) && in_pairs(k) && in_pairs(v) && (!dy.defined() || in_pairs(dy)) &&
          args.dropout == 0 && (!blocked || block % 2 == 0)) {
        b.kernel = kernels.bf16;
        b.q = Matrix::of<bf16>(q, 2), b.k = Matrix::of<bf16>(k, 2), b.v = Matrix::of<bf16>(v, 2);
        b.q_pairs = token_pairs(q, 64);
        if (dy.defined()) b.dy = Matrix::of<bf16>(dy, 2), b.dy_pairs = token_pairs(dy, 64);
        b.run();
        return;
      }
      b.kernel = kernels.f32;
    } else {
      b.kernel = kernels.f64;
    }
    const Tensor rows[] = {compute_rows(q), compute_rows(k), compute_rows(v),
                           dy.defined() ? compute_rows(dy) : dy};
    b.q = Matrix::of<T>(rows[0], 1), b.k = Matrix::of<T>(rows[1], 1);
    b.v = Matrix::of<T>(rows[2], 1);
    if (dy.defined()) b.dy = Matrix::of<T>(rows[3], 1);
    b.run();
  });
}

}  // namespace

constinit Kernel<void(FlashGrads& grads, const Tensor& dy, const Tensor& q, const Tensor& k,
                      const Tensor& v, const Tensor& lse, const Tensor& delta,
                      const FlashArgs& args)>
    kernel::flash_backward{"flash attention backward", flash_backward_cpu};

}  // namespace tenun::attn
