// merged_flash: one softmax over parts of several sources of keys (LLSA's levels).
#include "tenun/autograd/function.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/merge.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::attn {
namespace {

struct MergedFlash {
  static constexpr const char* name = "merged_attention";
  double scale;
  std::vector<KeyPart> parts;
  std::vector<Saved> in{};  // q, then k and v of every source
  Saved o{}, lse{};

  [[nodiscard]] FlashArgs arguments(const KeyPart& p) const {
    FlashArgs a;
    a.scale = scale;
    if (p.lists) a.lists = &*p.lists, a.block_q = p.lists->block_q, a.block_k = p.lists->block_k;
    return a;
  }
  static Tensor range(const Tensor& x, const KeyPart& p) {
    return compute_rows(x.slice(2, p.first, p.first + p.count));
  }

  std::vector<Tensor> forward(const Ctx& c, std::span<const Tensor> x) {
    const Tensor q = compute_rows(x[0]);
    Tensor y = Tensor::zeros(q.shape(), q.dtype());
    Tensor l = Tensor::full({q.dim(0), q.dim(1), q.dim(2)},
                            -std::numeric_limits<double>::infinity(), q.dtype());
    for (const KeyPart& p : parts) {
      const FlashResult r = flash_forward(q, range(x[1 + 2 * p.source], p),
                                          range(x[2 + 2 * p.source], p), arguments(p));
      visit<DType::f32, DType::f64>(q.dtype(), name, [&]<class T>() {
        T *const out = y.mutable_data<T>(), *const sum = l.mutable_data<T>();
        const T *const po = r.o.data<T>(), *const pl = r.lse.data<T>();
        const int64_t d = q.dim(3);
        parallel_for(0, l.numel(), grain(8 * d), [&](int64_t b, int64_t e) {
          for (int64_t i = b; i < e; ++i)
            merge_row(out + i * d, sum[i], po + i * d, pl[i] + static_cast<T>(p.log_weight), d);
        });
      });
    }
    const Tensor result = y.to(x[0].dtype());
    if (c.recording) {
      for (const Tensor& t : x) in.emplace_back() = t;
      o = result, lse = l;
    }
    return {result, l};
  }

  std::vector<Tensor> backward(const Ctx& c, std::span<const Tensor> dy) {
    std::vector<Tensor> grads(in.size());
    if (!dy[0].defined()) return grads;
    const Tensor q = compute_rows(in[0].get());
    const Tensor delta = row_dot(dy[0], o.get());
    const auto zeros = [&](size_t i) {
      return c.needs[i] ? Tensor::zeros(in[i].get().shape(), q.dtype()) : Tensor();
    };
    for (size_t i = 0; i < grads.size(); ++i) grads[i] = zeros(i);
    for (const KeyPart& p : parts) {
      const size_t ik = 1 + 2 * p.source, iv = ik + 1;
      const Tensor k = range(in[ik].get(), p), v = range(in[iv].get(), p);
      // exp(s + w - lse) = exp(s - (lse - w))
      Tensor l = lse.get();
      if (p.log_weight != 0) l = l.clone().add_(Tensor::full(l.shape(), -p.log_weight, l.dtype()));
      const auto room = [&](size_t i, const Tensor& like) {
        return c.needs[i] ? Tensor(like.shape(), q.dtype()) : Tensor();
      };
      FlashGrads g{room(0, q), room(ik, k), room(iv, v), {}};
      kernel::flash_backward(q.device(), g, dy[0], q, k, v, l, delta, arguments(p));
      if (g.dq.defined()) grads[0].add_(g.dq);
      if (g.dk.defined()) grads[ik].slice(2, p.first, p.first + p.count).add_(g.dk);
      if (g.dv.defined()) grads[iv].slice(2, p.first, p.first + p.count).add_(g.dv);
    }
    for (size_t i = 0; i < grads.size(); ++i)
      if (grads[i].defined()) grads[i] = grads[i].to(in[i].get().dtype());
    return grads;
  }
};

}  // namespace

FlashVars merged_flash(const Var& q, const std::vector<KeySource>& sources,
                       std::vector<KeyPart> parts, double scale) {
  std::vector<Var> in{q};
  for (const KeySource& s : sources) in.push_back(s.k), in.push_back(s.v);
  const auto out =
      apply_list(MergedFlash{.scale = scale, .parts = std::move(parts)}, std::move(in));
  return {out[0], out[1].detach()};
}

}  // namespace tenun::attn
