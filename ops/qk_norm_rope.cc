#include "tenun/ops/qk_norm_rope.h"

#include <vector>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/norm_row.h"
#include "tenun/ops/rows.h"

namespace tenun {
namespace {

using namespace detail;

constexpr int64_t kTokens = 16;  // of one task: its reads and writes stay in the second-level cache

// Positions in qkv [B, N, 3, H, D] and in q, k, v [B, H, N, D].
struct Places {
  int64_t batch, tokens, heads, d;

  Places(const Tensor& qkv, const Tensor& rstd)
      : batch(qkv.dim(0)), tokens(qkv.dim(1)), heads(rstd.dim(2)), d(qkv.dim(2) / (3 * heads)) {}
  [[nodiscard]] int64_t packed(int64_t sample, int64_t token, int64_t part, int64_t head) const {
    return (((sample * tokens + token) * 3 + part) * heads + head) * d;
  }
  [[nodiscard]] int64_t row(int64_t sample, int64_t token, int64_t head) const {
    return (sample * heads + head) * tokens + token;
  }
  [[nodiscard]] int64_t blocks() const { return (tokens + kTokens - 1) / kTokens; }
  // Calls f(sample, token, head) for the rows of block number `block`.
  template <class F>
  void each(int64_t block, F&& f) const {
    const int64_t sample = block / blocks(), first = block % blocks() * kTokens;
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t t = first; t < std::min(tokens, first + kTokens); ++t) f(sample, t, head);
  }
};

void qk_norm_rope_cpu(Tensor& q, Tensor& k, Tensor& v, Tensor& rstd, const Tensor& qkv,
                      const Tensor& weights, const RopeTable& table, double eps) {
  const Places at(qkv, rstd);
  const int64_t d = at.d, rows = at.batch * at.heads * at.tokens;
  by_compute({&qkv}, [&]<class C>() {
    const RowReader<C> in(qkv);
    const std::array<RowWriter<C>, 3> out{RowWriter<C>(q), RowWriter<C>(k), RowWriter<C>(v)};
    C* const rstds = rstd.mutable_data<C>();
    const C* const w = weights.data<C>();
    const C* const cos = table.cos.data<C>();
    const C* const sin = table.sin.data<C>();
    parallel_for(0, at.batch * at.blocks(), 1, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(d), b(d), normal(d);
      for (int64_t block = begin; block < end; ++block)
        at.each(block, [&](int64_t sample, int64_t t, int64_t head) {
          const int64_t row = at.row(sample, t, head);
          for (int64_t part = 0; part < 3; ++part) {
            const RowWriter<C>& writer = out[static_cast<size_t>(part)];
            const C* __restrict x = in.at(at.packed(sample, t, part, head), d, a);
            C* __restrict y = writer.at(row * d, b);
            if (part == 2) {
              for (int64_t i = 0; i < d; ++i) y[i] = x[i];
            } else {
              const C r = rstds[part * rows + row] = inverse_deviation(x, C(0), d, eps);
              const C* __restrict g = w + part * d;
              C* __restrict n = normal;
              for (int64_t i = 0; i < d; ++i) n[i] = x[i] * r * g[i];
              turn_row<C>(y, n, cos + t * (d / 2), sin + t * (d / 2), C(1), d);
            }
            writer.done(row * d, d, y);
          }
        });
    });
  });
}

void qk_norm_rope_backward_cpu(Tensor& dqkv, Tensor& dweights, const Tensor& dq, const Tensor& dk,
                               const Tensor& dv, const Tensor& qkv, const Tensor& rstd,
                               const Tensor& weights, const RopeTable& table) {
  const Places at(qkv, rstd);
  const int64_t d = at.d, rows = at.batch * at.heads * at.tokens, blocks = at.batch * at.blocks();
  by_compute({&qkv}, [&]<class C>() {
    const RowReader<C> in(qkv);
    const std::array<const Tensor*, 3> gradients{&dq, &dk, &dv};
    std::vector<RowReader<C>> grads;
    for (const Tensor* g : gradients) grads.emplace_back(g->defined() ? *g : qkv);
    const RowWriter<C> out(dqkv);
    const C* const rstds = rstd.data<C>();
    const C* const w = weights.data<C>();
    const C* const cos = table.cos.data<C>();
    const C* const sin = table.sin.data<C>();
    std::vector<C> part_dw(static_cast<size_t>(blocks * 2 * d));
    parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(d), b(d), c(d), turned(d);
      for (int64_t block = begin; block < end; ++block)
        at.each(block, [&](int64_t sample, int64_t t, int64_t head) {
          const int64_t row = at.row(sample, t, head);
          for (int64_t part = 0; part < 3; ++part) {
            const auto p = static_cast<size_t>(part);
            const int64_t place = at.packed(sample, t, part, head);
            C* const dx = out.at(place, c);
            if (!gradients[p]->defined()) {
              std::fill_n(dx, d, C(0));
            } else {
              const C* __restrict dy = grads[p].at(row * d, d, a);
              if (part == 2) {
                for (int64_t i = 0; i < d; ++i) dx[i] = dy[i];
              } else {
                turn_row<C>(turned, dy, cos + t * (d / 2), sin + t * (d / 2), C(-1), d);
                const BackwardRow<C> one{.dy = turned,
                                         .x = in.at(place, d, b),
                                         .gain = w + part * d,
                                         .sum = nullptr,
                                         .product = part_dw.data() + (block * 2 + part) * d,
                                         .mean = 0,
                                         .rstd = rstds[part * rows + row],
                                         .n = d};
                one.run(dx, RowNorm::rms);
              }
            }
            out.done(place, d, dx);
          }
        });
    });
    C* const dw = dweights.mutable_data<C>();
    for (int64_t i = 0; i < 2 * d; ++i) {
      double sum = 0;
      for (int64_t block = 0; block < blocks; ++block)
        sum += static_cast<double>(part_dw[static_cast<size_t>(block * 2 * d + i)]);
      dw[i] = static_cast<C>(sum);
    }
  });
}

struct QkNormRope {
  static constexpr const char* name = "qk_norm_rope";
  QkNormRopeOptions options{};
  Saved qkv{}, rstd{}, weights{};
  DType q_dtype = DType::f32, k_dtype = DType::f32;

  [[nodiscard]] RopeTable table(const Tensor& x) const {
    return rope_table(options.rope, x.dim(2) / (3 * options.heads), x.dtype(), x.device());
  }

  std::array<Tensor, 3> forward(const Ctx& c, const Tensor& qkv_, const Tensor& q_weight,
                                const Tensor& k_weight) {
    const Tensor x = qkv_.contiguous();
    const int64_t batch = x.dim(0), tokens = x.dim(1), heads = options.heads,
                  d = x.dim(2) / (3 * heads);
    const DType compute = compute_dtype(x.dtype());
    Tensor w({2, d}, compute, x.device());
    w.select(0, 0).copy_(q_weight);
    w.select(0, 1).copy_(k_weight);
    std::array<Tensor, 3> out;
    for (Tensor& t : out) t = Tensor({batch, heads, tokens, d}, x.dtype(), x.device());
    Tensor r({2, batch, heads, tokens}, compute, x.device());
    kernel::qk_norm_rope(x.device(), out[0], out[1], out[2], r, x, w, table(x), options.eps);
    if (c.recording)
      qkv = x, rstd = r, weights = w, q_dtype = q_weight.dtype(), k_dtype = k_weight.dtype();
    return out;
  }
  Grads<3> backward(const Ctx& c, const std::array<Tensor, 3>& dy) {
    const Tensor& x = qkv.get();
    const auto whole = [](const Tensor& t) { return t.defined() ? t.contiguous() : t; };
    Tensor dx = empty_like(x), dw = empty_like(weights.get());
    kernel::qk_norm_rope_backward(x.device(), dx, dw, whole(dy[0]), whole(dy[1]), whole(dy[2]), x,
                                  rstd.get(), weights.get(), table(x));
    Grads<3> g;
    if (c.needs[0]) g[0] = dx;
    if (c.needs[1]) g[1] = dw.select(0, 0).to(q_dtype).contiguous();
    if (c.needs[2]) g[2] = dw.select(0, 1).to(k_dtype).contiguous();
    return g;
  }
};

}  // namespace

constinit Kernel<void(Tensor& q, Tensor& k, Tensor& v, Tensor& rstd, const Tensor& qkv,
                      const Tensor& weights, const RopeTable& table, double eps)>
    kernel::qk_norm_rope{"qk_norm_rope", qk_norm_rope_cpu};
constinit Kernel<void(Tensor& dqkv, Tensor& dweights, const Tensor& dq, const Tensor& dk,
                      const Tensor& dv, const Tensor& qkv, const Tensor& rstd,
                      const Tensor& weights, const RopeTable& table)>
    kernel::qk_norm_rope_backward{"qk_norm_rope_backward", qk_norm_rope_backward_cpu};

Qkv qk_norm_rope(const Var& qkv, const Var& q_weight, const Var& k_weight,
                 const QkNormRopeOptions& o) {
  const char* const op = "qk_norm_rope";
  check<DTypeError>(is_floating(qkv.dtype()), op, "needs a floating type, got {}", qkv.value());
  check_rope(op, o.rope);
  check<ShapeError>(qkv.rank() == 3 && o.heads >= 1 && qkv.dim(2) % (12 * o.heads) == 0 &&
                        qkv.dim(1) == o.rope.tokens(),
                    op,
                    "qkv {} must be [B, {}, 3 C]: {} prefix tokens and a grid of {} x {}, C "
                    "divisible by 4 x {} heads",
                    qkv.value(), o.rope.tokens(), o.rope.prefix, o.rope.grid, o.rope.grid, o.heads);
  const Shape table{qkv.dim(2) / (3 * o.heads)};
  check<ShapeError>(q_weight.shape() == table && k_weight.shape() == table, op,
                    "weights {} and {} for heads of {} channels", q_weight.value(),
                    k_weight.value(), table[0]);
  auto out = apply(QkNormRope{.options = o}, qkv, q_weight, k_weight);
  return {out[0], out[1], out[2]};
}

}  // namespace tenun
