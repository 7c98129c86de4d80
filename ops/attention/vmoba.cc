// chunk_attention: every token has chunks of keys of its own. For each chunk the queries that chose
// it are gathered into whole panels, plain flash attention runs over the panels' lists (one chunk
// each), and the results of a token's chunks are merged. The queries of some chunks at a time, so
// that the gathered copies stay of the size of q.
#include "tenun/autograd/function.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::attn {
namespace {

/// Chunks [begin, end) of one head with the gathered rows of their queries.
struct Gather {
  int64_t head, begin, end, rows = 0;
  std::vector<int64_t> first;  ///< gathered row of each chunk's first query
  BlockLists lists{};          ///< gathered panels and the group's chunks
  Tensor source{};      ///< i32 [rows]: the token of a gathered row, -1 in the rest of a panel
  Tensor first_rows{};  ///< `first`, with source and lists on the device of the tokens
};

/// Who attends to what: `lists` has tokens as rows and chunks as columns; entry e of a row stands
/// at place[e] of its column. The numbers are made on the host.
struct Choice {
  int64_t n, chunk, chunks;
  Device device;
  BlockLists lists;   // on the host
  BlockLists rows{};  // on the device
  Tensor place;

  Choice(const Tensor& selection, int64_t chunk_)
      : n(selection.dim(2)),
        chunk(chunk_),
        chunks(selection.dim(3)),
        device(selection.device()),
        lists(block_lists(selection.to(cpu()), 1, chunk_)) {
    Tensor at_({lists.row_index.numel()}, DType::i64);
    const int64_t heads = selection.dim(0) * selection.dim(1);
    int64_t* const at = at_.mutable_data<int64_t>();
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
    place = at_.to(device);
    rows = lists.to(device);
  }
  [[nodiscard]] int64_t column(int64_t head, int64_t c) const {
    return lists.col_start.data<int64_t>()[head * chunks + c];
  }

  [[nodiscard]] Gather group(int64_t head, int64_t begin) const {
    Gather g{head, begin, begin, 0, {}};
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
    Tensor source = Tensor::full({g.rows}, -1, DType::i32);
    int32_t* const from = source.mutable_data<int32_t>();
    const int32_t* const token = lists.col_index.data<int32_t>();
    for (int64_t c = begin; c < g.end; ++c)
      std::copy(token + column(head, c), token + column(head, c + 1),
                from + g.first[static_cast<size_t>(c - begin)]);
    g.source = source.to(device);
    g.first_rows = Tensor::from(g.first, {std::ssize(g.first)}).to(device);
    g.lists = g.lists.to(device);
    return g;
  }
  // Rows of x [heads][n][width] of the group's head, in gathered order; the rest of a panel is 0.
  template <class T>
  [[nodiscard]] Tensor gathered(const Gather& g, const Tensor& x, int64_t width) const {
    Tensor y({1, 1, g.rows, width}, dtype_of<T>, device);
    run_rows(device, g.rows, 2 * width, [&] {
      return GatherRows<T>{x.data<T>() + g.head * n * width, g.source.data<int32_t>(),
                           y.mutable_data<T>(), width};
    });
    return y;
  }
  // The gathered rows of a token, its chunks in order.
  [[nodiscard]] PartRows parts(const Gather& g) const {
    return {rows.row_start.data<int64_t>() + g.head * n,
            rows.row_index.data<int32_t>(),
            place.data<int64_t>(),
            g.first_rows.data<int64_t>(),
            g.begin,
            g.end};
  }
  // f(group) for all.
  template <class F>
  void each_group(int64_t heads, F&& f) const {
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t c = 0; c < chunks;) {
        const Gather g = group(h, c);
        f(g);
        c = g.end;
      }
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
    Tensor y = zeros_like(x);
    Tensor l = Tensor::full({x.dim(0), x.dim(1), x.dim(2)},
                            -std::numeric_limits<double>::infinity(), x.dtype(), x.device());
    const int64_t n = choice.n, d = x.dim(3), h = x.dim(1);
    visit<DType::f32, DType::f64>(x.dtype(), name, [&]<class T>() {
      Tensor merged({n}, x.dtype(), x.device());
      choice.each_group(x.dim(0) * h, [&](const Gather& g) {
        const FlashResult r =
            flash_forward(choice.gathered<T>(g, x, d), keys(g, ks), keys(g, vs), arguments(g));
        run_rows(x.device(), n, 8 * d, [&] {
          return MergeRows<T>{y.mutable_data<T>() + g.head * n * d,
                              l.data<T>() + g.head * n,
                              r.o.data<T>(),
                              r.lse.data<T>(),
                              merged.mutable_data<T>(),
                              0,
                              d,
                              choice.parts(g)};
        });
        l.select(0, g.head / h).select(0, g.head % h).copy_(merged);
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
    const auto zeros = [&](size_t i) { return c.needs[i] ? zeros_like(x) : Tensor(); };
    Grads<3> grads{zeros(0), zeros(1), zeros(2)};  // every chunk has one group: dk, dv need no sum
    const int64_t n = choice.n, d = x.dim(3), h = x.dim(1);
    visit<DType::f32, DType::f64>(x.dtype(), name, [&]<class T>() {
      choice.each_group(x.dim(0) * h, [&](const Gather& g) {
        const Tensor kg = keys(g, ks), qg = choice.gathered<T>(g, x, d);
        const auto flat = [&](const Tensor& from) {
          return choice.gathered<T>(g, from, 1).view({1, 1, g.rows});
        };
        const auto room = [&](size_t i, const Tensor& like) {
          return c.needs[i] ? Tensor(like.shape(), x.dtype(), x.device()) : Tensor();
        };
        FlashGrads part{room(0, qg), room(1, kg), room(2, kg), {}};
        kernel::flash_backward(x.device(), part, choice.gathered<T>(g, dy, d), qg, kg, keys(g, vs),
                               flat(l), flat(delta), arguments(g));
        const auto put = [&](Tensor& all, const Tensor& piece) {
          if (!all.defined()) return;
          const int64_t from = g.begin * choice.chunk;
          all.select(0, g.head / h)
              .select(0, g.head % h)
              .slice(0, from, from + kg.dim(2))
              .copy_(piece.view({kg.dim(2), d}));
        };
        put(grads[1], part.dk), put(grads[2], part.dv);
        if (!grads[0].defined()) return;
        run_rows(x.device(), n, 2 * d, [&] {
          return AddRows<T>{part.dq.data<T>(), grads[0].mutable_data<T>() + g.head * n * d, d,
                            choice.parts(g)};
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
