// chunk_attention: every token has chunks of keys of its own. For each chunk the queries that chose
// it are gathered into whole panels, plain flash attention runs over the panels' lists (one chunk
// each), and the results of a token's chunks are merged. The queries of some chunks at a time, so
// that the gathered copies stay of the size of q.
#include "tenun/autograd/function.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/merge.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::attn {
namespace {

/// Chunks [begin, end) of one head with the gathered rows of their queries.
struct Gather {
  int64_t head, begin, end, rows = 0;
  std::vector<int64_t> first;  ///< gathered row of each chunk's first query
  BlockLists lists{};          ///< gathered panels and the group's chunks
};

/// Who attends to what: `lists` has tokens as rows and chunks as columns; entry e of a row stands
/// at place[e] of its column.
struct Choice {
  int64_t n, chunk, chunks;
  BlockLists lists;
  Tensor place;

  Choice(const Tensor& selection, int64_t chunk_)
      : n(selection.dim(2)),
        chunk(chunk_),
        chunks(selection.dim(3)),
        lists(block_lists(selection, 1, chunk_)),
        place(lists.row_index.shape(), DType::i64) {
    const int64_t heads = selection.dim(0) * selection.dim(1);
    int64_t* const at = place.mutable_data<int64_t>();
    const int64_t* const start = lists.row_start.data<int64_t>();
    const int32_t* const chunk_of = lists.row_index.data<int32_t>();
    parallel_for(0, heads, 1, [&](int64_t b, int64_t e) {
      std::vector<int64_t> next(static_cast<size_t>(chunks));
      for (int64_t h = b; h < e; ++h) {
        std::fill(next.begin(), next.end(), 0);
        for (int64_t i = start[h * n]; i < start[(h + 1) * n]; ++i)
          at[i] = next[static_cast<size_t>(chunk_of[i])]++;
      }
    });
  }
  [[nodiscard]] int64_t column(int64_t head, int64_t c) const {
    return lists.col_start.data<int64_t>()[head * chunks + c];
  }

  [[nodiscard]] Gather group(int64_t head, int64_t begin) const {
    Gather g{head, begin, begin, 0, {}, {}};
    const int64_t most = std::max<int64_t>(2 * n, 4096);
    for (; g.end < chunks; ++g.end) {
      const int64_t panels = blocks(column(head, g.end + 1) - column(head, g.end), kPanel);
      if (g.end > begin && g.rows + panels * kPanel > most) break;
      g.first.push_back(g.rows);
      g.rows += panels * kPanel;
    }
    g.first.push_back(g.rows);
    const int64_t panels = g.rows / kPanel, cols = g.end - begin;
    g.lists = {kPanel,
               chunk,
               Tensor::arange(panels + 1),
               Tensor({panels}, DType::i32),
               Tensor({cols + 1}, DType::i64),
               Tensor::arange(panels).to(DType::i32)};
    int32_t* const index = g.lists.row_index.mutable_data<int32_t>();
    int64_t* const start = g.lists.col_start.mutable_data<int64_t>();
    for (int64_t c = 0; c <= cols; ++c) start[c] = g.first[static_cast<size_t>(c)] / kPanel;
    for (int64_t c = 0; c < cols; ++c)
      std::fill(index + start[c], index + start[c + 1], static_cast<int32_t>(c));
    return g;
  }
  // Rows of x, [n][width] of the group's head, in gathered order; the rest of a panel is zero.
  template <class T>
  [[nodiscard]] Tensor gathered(const Gather& g, const T* x, int64_t width) const {
    Tensor y({1, 1, g.rows, width}, dtype_of<T>);
    T* const out = y.mutable_data<T>();
    const int32_t* const token = lists.col_index.data<int32_t>();
    parallel_for(g.begin, g.end, grain(chunk * width), [&](int64_t b, int64_t e) {
      for (int64_t c = b; c < e; ++c) {
        T* to = out + g.first[static_cast<size_t>(c - g.begin)] * width;
        T* const end = out + g.first[static_cast<size_t>(c - g.begin + 1)] * width;
        for (int64_t i = column(g.head, c); i < column(g.head, c + 1); ++i, to += width)
          std::copy_n(x + token[i] * width, width, to);
        std::fill(to, end, T(0));
      }
    });
    return y;
  }
  // f(token, gathered row) for the entries of the group, the chunks of a token in order.
  template <class F>
  void each_entry(const Gather& g, int64_t cost, F&& f) const {
    const int64_t* const at = place.data<int64_t>();
    const int64_t* const start = lists.row_start.data<int64_t>() + g.head * n;
    const int32_t* const chunk_of = lists.row_index.data<int32_t>();
    parallel_for(0, n, grain(cost), [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i)
        for (int64_t j = start[i]; j < start[i + 1]; ++j)
          if (const int64_t c = chunk_of[j]; c >= g.begin && c < g.end)
            f(i, g.first[static_cast<size_t>(c - g.begin)] + at[j]);
    });
  }
  // f(group) for all; heads in parallel where there are many of them.
  template <class F>
  void each_group(int64_t heads, F&& f) const {
    parallel_for(0, heads, heads >= 8 ? 1 : heads, [&](int64_t b, int64_t e) {
      for (int64_t h = b; h < e; ++h)
        for (int64_t c = 0; c < chunks;) {
          const Gather g = group(h, c);
          f(g);
          c = g.end;
        }
    });
  }
};

struct ChunkAttention {
  static constexpr const char* name = "chunk_attention";
  Choice choice;
  double scale;
  Saved q{}, k{}, v{}, o{}, lse{};

  [[nodiscard]] Tensor keys(const Gather& g, const Tensor& x) const {
    const int64_t h = x.dim(1), b = g.head / h, i = g.head % h;
    return x.slice(0, b, b + 1)
        .slice(1, i, i + 1)
        .slice(2, g.begin * choice.chunk, std::min(g.end * choice.chunk, choice.n));
  }
  [[nodiscard]] FlashArgs arguments(const Gather& g) const {
    FlashArgs a;
    a.scale = scale;
    a.lists = &g.lists;
    a.block_q = kPanel, a.block_k = choice.chunk;
    return a;
  }

  std::array<Tensor, 2> forward(const Ctx& c, const Tensor& q_, const Tensor& k_,
                                const Tensor& v_) {
    const Tensor x = compute_rows(q_).contiguous(), ks = compute_rows(k_), vs = compute_rows(v_);
    Tensor y = Tensor::zeros(x.shape(), x.dtype());
    Tensor l = Tensor::full({x.dim(0), x.dim(1), x.dim(2)},
                            -std::numeric_limits<double>::infinity(), x.dtype());
    const int64_t n = choice.n, d = x.dim(3);
    visit<DType::f32, DType::f64>(x.dtype(), name, [&]<class T>() {
      const T* const in = x.data<T>();
      T *const out = y.mutable_data<T>(), *const sum = l.mutable_data<T>();
      choice.each_group(x.dim(0) * x.dim(1), [&](const Gather& g) {
        const FlashResult r = flash_forward(choice.gathered(g, in + g.head * n * d, d), keys(g, ks),
                                            keys(g, vs), arguments(g));
        const T *const po = r.o.data<T>(), *const pl = r.lse.data<T>();
        choice.each_entry(g, 8 * d, [&](int64_t i, int64_t row) {
          merge_row(out + (g.head * n + i) * d, sum[g.head * n + i], po + row * d, pl[row], d);
        });
      });
    });
    const Tensor result = y.to(q_.dtype());
    if (c.recording) q = q_, k = k_, v = v_, o = result, lse = l;
    return {result, l};
  }

  Grads<3> backward(const Ctx& c, const std::array<Tensor, 2>& dy_) {
    if (!dy_[0].defined()) return {};
    const Tensor x = compute_rows(q.get()).contiguous(), ks = compute_rows(k.get()),
                 vs = compute_rows(v.get()), dy = compute_rows(dy_[0]).contiguous(), &l = lse.get();
    const Tensor delta = row_dot(dy, o.get());
    const auto zeros = [&](size_t i) {
      return c.needs[i] ? Tensor::zeros(x.shape(), x.dtype()) : Tensor();
    };
    Grads<3> grads{zeros(0), zeros(1), zeros(2)};  // every chunk has one group: dk, dv need no sum
    const int64_t n = choice.n, d = x.dim(3);
    visit<DType::f32, DType::f64>(x.dtype(), name, [&]<class T>() {
      const T *const in = x.data<T>(), *const up = dy.data<T>(), *const ld = l.data<T>(),
                     *const dd = delta.data<T>();
      const auto memory = [](Tensor& t) { return t.defined() ? t.mutable_data<T>() : nullptr; };
      T *const dq = memory(grads[0]), *const dk = memory(grads[1]), *const dv = memory(grads[2]);
      choice.each_group(x.dim(0) * x.dim(1), [&](const Gather& g) {
        const auto rows = [&](const T* from, int64_t width) {
          return choice.gathered(g, from + g.head * n * width, width);
        };
        const Tensor kg = keys(g, ks), qg = rows(in, d);
        const auto flat = [&](const T* from) { return rows(from, 1).view({1, 1, g.rows}); };
        const auto room = [&](size_t i, const Tensor& like) {
          return c.needs[i] ? Tensor(like.shape(), x.dtype()) : Tensor();
        };
        FlashGrads part{room(0, qg), room(1, kg), room(2, kg), {}};
        kernel::flash_backward(x.device(), part, rows(up, d), qg, kg, keys(g, vs), flat(ld),
                               flat(dd), arguments(g));
        const int64_t at = (g.head * n + g.begin * choice.chunk) * d;
        if (dk != nullptr) std::copy_n(part.dk.data<T>(), part.dk.numel(), dk + at);
        if (dv != nullptr) std::copy_n(part.dv.data<T>(), part.dv.numel(), dv + at);
        if (dq == nullptr) return;
        const T* const from = part.dq.data<T>();
        choice.each_entry(g, 2 * d, [&](int64_t i, int64_t row) {
          for (int64_t j = 0; j < d; ++j) dq[(g.head * n + i) * d + j] += from[row * d + j];
        });
      });
    });
    for (Tensor& t : grads) t = t.to(q.get().dtype());
    return grads;
  }
};

}  // namespace

FlashVars chunk_attention(const Var& q, const Var& k, const Var& v, const Tensor& selection,
                          int64_t chunk, double scale) {
  const auto out =
      apply(ChunkAttention{.choice = Choice(selection, chunk), .scale = scale}, q, k, v);
  return {out[0], out[1].detach()};
}

}  // namespace tenun::attn
