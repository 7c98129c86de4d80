// merged_flash: one softmax over parts of several sources of keys (LLSA's levels).
#include "tenun/autograd/function.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"
#include "tenun/ops/functors.h"
#include "tenun/ops/map.h"

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
    Tensor y = zeros_like(q);
    Tensor l = Tensor::full({q.dim(0), q.dim(1), q.dim(2)},
                            -std::numeric_limits<double>::infinity(), q.dtype(), q.device());
    for (const KeyPart& p : parts) {
      const FlashResult r = flash_forward(q, range(x[1 + 2 * p.source], p),
                                          range(x[2 + 2 * p.source], p), arguments(p));
      Tensor next = empty_like(l);
      visit<DType::f32, DType::f64>(q.dtype(), name, [&]<class T>() {
        run_rows(q.device(), l.numel(), 8 * q.dim(3), [&] {
          return MergeRows<T>{y.mutable_data<T>(),    l.data<T>(),  r.o.data<T>(), r.lse.data<T>(),
                              next.mutable_data<T>(), p.log_weight, q.dim(3)};
        });
      });
      l = next;
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
      return c.needs[i] ? Tensor::zeros(in[i].get().shape(), q.dtype(), q.device()) : Tensor();
    };
    for (size_t i = 0; i < grads.size(); ++i) grads[i] = zeros(i);
    for (const KeyPart& p : parts) {
      const size_t ik = 1 + 2 * p.source, iv = ik + 1;
      const Tensor k = range(in[ik].get(), p), v = range(in[iv].get(), p);
      // exp(s + w - lse) = exp(s - (lse - w))
      Tensor l = lse.get();
      if (p.log_weight != 0) l = map(fn::AddScalar(-p.log_weight), l);
      const auto room = [&](size_t i, const Tensor& like) {
        return c.needs[i] ? Tensor(like.shape(), q.dtype(), q.device()) : Tensor();
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
