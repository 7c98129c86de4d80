#include <algorithm>
#include <cmath>

#include "tenun/autograd/tape.h"
#include "tenun/core/allocator.h"
#include "tenun/core/check.h"
#include "tenun/core/profile.h"
#include "tenun/tools/attention_inputs.h"
#include "tenun/tools/bench_attention.h"

namespace tenun::tools {
namespace {

AttentionParams on(Device device, AttentionParams p) {
  for (const Learned& l : kLearned)
    if (Var& v = p.*l.at; v.defined()) v = Var(v.value().to(device));
  if (p.mask.defined()) p.mask = p.mask.to(device);
  return p;
}

// A case in the dtype that is measured: operands that want gradients, learned values too.
struct Ready {
  Var q, k, v;
  AttentionSpec spec;
  AttentionParams params;
  Tensor dy;

  Ready(const AttentionCase& c, Passes d) : spec(c.spec), params(on(c.device, c.params)) {
    const auto make = [&](const Tensor& t) {
      const Tensor x = t.to(c.dtype).to(c.device);
      return d == Passes::both ? Var::parameter(x) : Var(x);
    };
    q = make(c.q), k = make(c.k), v = make(c.v);
    for (const Learned& l : kLearned)
      if (Var& p = params.*l.at; p.defined() && d == Passes::both) p = Var::parameter(p.value());
    if (d == Passes::both) {
      dy = Tensor(c.q.shape(), DType::f32);
      fill_normal(dy, RandomKey::derive(3, Purpose::test, 9));
      dy = dy.to(c.dtype).to(c.device);
    }
  }
  [[nodiscard]] AttentionOutput forward() const { return attention(q, k, v, spec, params); }
  void zero_grad() {
    for (Var* x : {&q, &k, &v}) x->zero_grad();
    for (const Learned& l : kLearned)
      if (Var& p = params.*l.at; p.defined()) p.zero_grad();
  }
  void both() {
    zero_grad();
    Tape tape;
    const AttentionOutput out = forward();
    tape.backward(out.o, dy);
  }
};

void run(Ready& r, Passes d) {
  if (d == Passes::both) return r.both();
  const NoGrad guard;
  (void)r.forward();
}

struct Difference {
  double cos = 1, rel_l1 = 0;
};
Difference difference(const Tensor& got, const Tensor& want) {
  const auto a = got.values<double>(), b = want.values<double>();
  double ab = 0, aa = 0, bb = 0, off = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
    off += std::abs(a[i] - b[i]), size += std::abs(b[i]);
  }
  // Equal zeros have no angle; NaN anywhere stays NaN.
  return {aa == 0 && bb == 0 ? 1 : ab / std::sqrt(aa * bb), off == 0 && size == 0 ? 0 : off / size};
}

// The first head of a learned tensor that has an axis of heads.
Var first_head(const Var& v) { return v.defined() ? Var(v.value().slice(0, 0, 1)) : v; }

AttentionParams wide(AttentionParams p) {
  for (const Learned& l : kLearned)
    if (Var& v = p.*l.at; v.defined()) v = Var(v.value().to(DType::f64));
  return p;
}

struct Outcome {
  Tensor o, dq, dk, dv;  // gradients only if dy is defined
};
Outcome outcome(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionSpec& spec,
                const AttentionParams& params, const Tensor& dy) {
  if (!dy.defined()) {
    const NoGrad guard;
    return {attention(q, k, v, spec, params).o.value(), {}, {}, {}};
  }
  const Var vars[] = {Var::parameter(q), Var::parameter(k), Var::parameter(v)};
  Tape tape;
  const Var o = attention(vars[0], vars[1], vars[2], spec, params).o;
  tape.backward(o, dy);
  return {o.value(), vars[0].grad(), vars[1].grad(), vars[2].grad()};
}

AttentionAccuracy compare(const AttentionCase& c, Passes d, int64_t queries, int64_t keys) {
  const auto head = [&](const Tensor& t, int64_t n) {
    return t.slice(0, 0, 1).slice(1, 0, 1).slice(2, 0, n).contiguous().to(c.dtype);
  };
  const Tensor q = head(c.q, queries), k = head(c.k, keys), v = head(c.v, keys);
  AttentionParams p = c.params;
  const int64_t width = q.dim(3), tm = (queries + c.spec.block_q - 1) / c.spec.block_q,
                tn = (keys + c.spec.block_k - 1) / c.spec.block_k;
  p.alpha = first_head(p.alpha);
  p.q_step = first_head(p.q_step), p.k_step = first_head(p.k_step);
  if (p.alpha.defined() && p.alpha.rank() == 2) p.alpha = Var(p.alpha.value().slice(1, 0, tm));
  if (p.gate_c.defined())
    p.gate_c = Var(p.gate_c.value().slice(0, 0, 1).slice(1, 0, 1).slice(2, 0, queries));
  if (p.proj_l.defined()) p.proj_l = Var(p.proj_l.value().slice(0, 0, width).slice(1, 0, width));
  if (p.mask.defined())
    p.mask = p.mask.slice(0, 0, 1).slice(1, 0, 1).slice(2, 0, tm).slice(3, 0, tn);
  Tensor dy;
  if (d == Passes::both) {
    dy = Tensor(q.shape(), DType::f32);
    fill_normal(dy, RandomKey::derive(3, Purpose::test, 9));
    dy = dy.to(c.dtype);
  }
  const auto there = [&](const Tensor& t) { return t.defined() ? t.to(c.device) : t; };
  const Outcome got = outcome(there(q), there(k), there(v), c.spec, on(c.device, p), there(dy));
  // The reference gets the same operands, as they were rounded.
  const auto exactly = [](const Tensor& t) { return t.defined() ? t.to(DType::f64) : t; };
  AttentionSpec exact = c.spec;
  exact.quant = {};
  if (exact.method == AttentionMethod::sage) exact.method = AttentionMethod::dense;
  const Outcome own = outcome(exactly(q), exactly(k), exactly(v), exact, wide(p), exactly(dy));
  const Outcome dense = outcome(exactly(q), exactly(k), exactly(v), {}, {}, {});
  const Difference a = difference(got.o, own.o), b = difference(got.o, dense.o);
  AttentionAccuracy r{.cos = a.cos,
                      .rel_l1 = a.rel_l1,
                      .cos_dense = b.cos,
                      .rel_l1_dense = b.rel_l1,
                      .queries = queries,
                      .keys = keys};
  for (const auto grad : {&Outcome::dq, &Outcome::dk, &Outcome::dv}) {
    if (!dy.defined()) break;
    const Difference g = difference(got.*grad, own.*grad);
    if (std::isnan(r.cos_grad)) break;  // the worst there is
    if (!(g.cos >= r.cos_grad)) r.cos_grad = g.cos;
    if (!(g.rel_l1 <= r.rel_l1_grad)) r.rel_l1_grad = g.rel_l1;
  }
  return r;
}

}  // namespace

double AttentionCase::dense_flops(Passes d) const {
  const double forward = 4.0 * static_cast<double>(q.numel()) * static_cast<double>(k.dim(2));
  return d == Passes::both ? 3.5 * forward : forward;
}

bool has_sparsity(AttentionMethod m) {
  return m != AttentionMethod::dense && m != AttentionMethod::sage && m != AttentionMethod::linear;
}

bool has_low_bit(AttentionMethod m) {
  return m == AttentionMethod::sage || m == AttentionMethod::sla2 || m == AttentionMethod::sla ||
         m == AttentionMethod::vsa || m == AttentionMethod::sparge;
}

bool is_branch(const std::string& section) {
  return section.starts_with("flash attention") || section.starts_with("linear attention") ||
         section.starts_with("sparse linear attention");
}

Timing time_attention(const AttentionCase& c, Passes d, double seconds) {
  Ready r(c, d);
  return time_call([&] { run(r, d); }, seconds, 50, c.device);
}

AttentionParts attention_parts(const AttentionCase& c, Passes d) {
  Ready r(c, d);
  AttentionParts parts;
  const Profile profile(c.device);
  Event begin(c.device), end(c.device);
  begin.record();
  run(r, d);
  end.record();
  const double total = end.ms_since(begin);
  double inside = 0;
  for (const Profile::Entry& e : profile.entries()) {
    if (e.name == "attention") continue;  // what its own code takes is the rest
    parts.ms.emplace_back(e.name, e.ms);
    inside += e.ms;
    if (is_branch(e.name)) parts.kernels += e.ms;
  }
  parts.ms.emplace_back("rest", std::max(0.0, total - inside));
  return parts;
}

AttentionMemory attention_memory(const AttentionCase& c, Passes d) {
  Ready r(c, d);
  const DeviceType where = c.device.type;
  const auto live = [where] { return static_cast<int64_t>(memory_stats(where).live); };
  const auto peak = [where] { return static_cast<int64_t>(memory_stats(where).peak); };
  const auto reset = [where] { allocator(where).reset_peak(); };
  const int64_t before = live();
  reset();
  AttentionMemory m;
  if (d == Passes::forward) {
    const NoGrad guard;
    const AttentionOutput out = r.forward();
    m.peak = peak(), m.scratch = peak() - live();
    return m;
  }
  Tape tape;
  const AttentionOutput out = r.forward();
  const int64_t between = live(), forward_peak = peak();
  m.saved = between - before - static_cast<int64_t>(out.o.value().nbytes());
  reset();
  tape.backward(out.o, r.dy);
  int64_t grads = 0;
  const auto count = [&](const Var& x) {
    if (x.defined() && x.grad().defined()) grads += static_cast<int64_t>(x.grad().nbytes());
  };
  count(r.q), count(r.k), count(r.v);
  for (const Learned& l : kLearned) count(r.params.*l.at);
  m.peak = std::max(forward_peak, peak());
  m.scratch = std::max(forward_peak - between, peak() - between - grads);
  return m;
}

AttentionAccuracy attention_accuracy(const AttentionCase& c, Passes d) {
  constexpr int64_t kQueries = 1024;
  const int64_t n = std::min(c.q.dim(2), kQueries);
  try {
    return compare(c, d, n, c.k.dim(2));
  } catch (const ShapeError&) {  // the method wants as many keys as queries
    return compare(c, d, n, std::min(c.k.dim(2), n));
  }
}

double measured_sparsity(const AttentionCase& c) {
  if (!has_sparsity(c.spec.method)) return c.spec.method == AttentionMethod::linear ? 1 : 0;
  const NoGrad guard;
  return 1 - Ready(c, Passes::forward).forward().stats.density;
}

}  // namespace tenun::tools
