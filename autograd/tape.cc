#include "tenun/autograd/tape.h"

#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "tenun/core/check.h"

namespace tenun {
namespace {

thread_local Tape* t_current = nullptr;
thread_local int t_no_grad = 0;
thread_local int t_anomaly = 0;
thread_local const char* t_backward_op = "backward";
thread_local uint64_t t_generation = 0;

// The backward pass that is running on this thread. A pass inside it (checkpoint) leaves the hooks
// of parameters to it, and under gradients() touches the chosen parameters only.
using Hooked = std::vector<std::pair<std::shared_ptr<Slot>, Tensor>>;
using Chosen = std::unordered_map<const Slot*, Tensor>;
thread_local Hooked* t_hooked = nullptr;
thread_local const Chosen* t_chosen = nullptr;

// Sets a variable for the lifetime of the object.
template <class T>
class Scoped {
 public:
  Scoped(T& variable, T value) : variable_(variable), before_(std::exchange(variable, value)) {}
  ~Scoped() { variable_ = before_; }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;

 private:
  T& variable_;
  T before_;
};

// Adds g to what has arrived in `total`: the first gradient is moved, later ones are added.
void accumulate(Tensor& total, Tensor g) {
  if (!total.defined()) {
    total = std::move(g);
  } else if (total.unique() && total.contiguous_layout()) {
    total.add_(g);
  } else {
    Tensor sum = total.clone();
    sum.add_(g);
    total = std::move(sum);
  }
}

// A parameter's gradient outlives the pass: it gets memory of its own.
void accumulate_leaf(Tensor& total, Tensor g) {
  if (!total.defined() && !(g.unique() && g.contiguous_layout())) g = g.clone();
  accumulate(total, std::move(g));
}

void run_hooks(Slot& slot, Tensor& grad) {
  for (const auto& hook : slot.hooks)
    if (Tensor other = hook(grad); other.defined()) {
      check<AutogradError>(other.shape() == grad.shape() && other.dtype() == grad.dtype(), "hook",
                           "returned {} for a gradient {}", other, grad);
      grad = std::move(other);
    }
}

}  // namespace

thread_local size_t detail::saved_bytes = 0;

void detail::check_finite(const char* op, const char* what, std::span<const Tensor> tensors) {
  for (size_t i = 0; i < tensors.size(); ++i)
    check<AutogradError>(!tensors[i].defined() || tensors[i].all_finite(), op,
                         "produced a NaN or infinity in {} {} ({}); it is the first op to do so",
                         what, i, tensors[i]);
}

Var Var::parameter(Tensor value) {
  check<DTypeError>(is_floating(value.dtype()), "parameter",
                    "needs a floating-point tensor, got {}", value);
  auto slot = std::make_shared<Slot>();
  slot->leaf = true;
  return with_slot(std::move(value), std::move(slot));
}
Var Var::with_slot(Tensor value, std::shared_ptr<Slot> slot) {
  Var v(std::move(value));
  v.slot_ = std::move(slot);
  return v;
}
const Tensor& Var::grad() const {
  static const Tensor none;
  return slot_ ? slot_->grad : none;
}
void Var::zero_grad() {
  if (slot_) slot_->grad = {};
}
void Var::set_grad(Tensor g) {
  check<AutogradError>(slot_ != nullptr, "set_grad", "the variable is a constant");
  check<ShapeError>(!g.defined() || (g.shape() == shape() && g.dtype() == dtype()), "set_grad",
                    "{} for a variable {}", g, value_);
  slot_->grad = std::move(g);
}
void Var::on_grad(std::function<Tensor(const Tensor&)> hook) {
  check<AutogradError>(slot_ != nullptr, "on_grad",
                       "the variable is a constant and gets no gradient");
  slot_->hooks.push_back(std::move(hook));
}

Saved& Saved::operator=(const Tensor& t) {
  tensor_ = t;
  version_ = t.version();
  if (t.defined()) detail::saved_bytes += t.nbytes();
  return *this;
}
const Tensor& Saved::get() const {
  check<AutogradError>(
      tensor_.version() == version_, t_backward_op,
      "a tensor saved for its backward pass ({}) was overwritten after the forward pass; clone it "
      "before writing, or write after backward",
      tensor_);
  return tensor_;
}

Tape::Tape() : outer_(t_current), generation_(++t_generation) { t_current = this; }
Tape::~Tape() {
  // Pop from the end, as backward does: entries die in the reverse of their order of birth.
  while (!entries_.empty()) entries_.pop_back();
  t_current = outer_;
}
void Tape::clear() {
  entries_.clear();
  generation_ = ++t_generation;
}
bool Tape::recorded(const Var& v) const {
  if (!v.requires_grad()) return false;
  for (size_t at = entries_.size(); at-- > 0;)  // losses stand at the end
    for (size_t o = entries_[at].inputs; o < entries_[at].ends.size(); ++o)
      if (entries_[at].ends[o].slot == v.slot()) return true;
  return false;
}
Tape* Tape::current() { return t_no_grad > 0 ? nullptr : t_current; }

void Tape::record(std::unique_ptr<Node> node, std::span<const Var> inputs, std::span<Var> outputs,
                  size_t bytes_kept, double ms) {
  Entry e;
  e.node = std::move(node);
  e.inputs = inputs.size();
  e.bytes_kept = bytes_kept;
  e.ms = ms;
  e.ends.reserve(inputs.size() + outputs.size());
  for (const Var& v : inputs) e.ends.push_back({v.slot(), v.shape(), v.dtype()});
  for (Var& v : outputs) {
    if (v.defined() && is_floating(v.dtype()))
      v = Var::with_slot(v.value(), std::make_shared<Slot>());
    e.ends.push_back({v.slot(), v.shape(), v.dtype()});
  }
  entries_.push_back(std::move(e));
}

// One walk over the tape. With `chosen`, only paths that lead to those slots are followed.
struct Tape::Pass {
  bool keep = false;
  bool choose = false;
  Chosen chosen;                          // filled with the results
  std::unordered_set<const Slot*> reach;  // slots from which a chosen one is reached
};

void Tape::run(Pass& pass) {
  if (pass.choose) {
    for (const auto& [slot, grad] : pass.chosen) pass.reach.insert(slot);
    for (const Entry& e : entries_) {
      bool leads = e.node->always();
      for (size_t i = 0; i < e.inputs && !leads; ++i)
        leads = e.ends[i].slot && pass.reach.contains(e.ends[i].slot.get());
      for (size_t o = e.inputs; o < e.ends.size() && leads; ++o)
        if (e.ends[o].slot) pass.reach.insert(e.ends[o].slot.get());
    }
  }
  try {
    walk(pass);
  } catch (...) {
    // Gradients on their way would be taken for those of a later pass.
    for (const Entry& e : entries_)
      for (const End& end : e.ends)
        if (end.slot && !end.slot->leaf) end.slot->grad = {};
    throw;
  }
  if (!pass.keep) generation_ = ++t_generation;
}

void Tape::walk(Pass& pass) {
  const NoGrad guard;
  const Scoped<const Chosen*> only(t_chosen, pass.choose ? &pass.chosen : t_chosen);
  std::vector<Tensor> dy, dx;
  for (size_t at = entries_.size(); at-- > 0;) {
    Entry popped;
    Entry& e = pass.keep ? entries_[at] : popped;
    if (!pass.keep) {
      popped = std::move(entries_.back());
      entries_.pop_back();
    }
    dy.assign(e.ends.size() - e.inputs, {});
    bool any = false;
    for (size_t o = 0; o < dy.size(); ++o) {
      const auto& slot = e.ends[e.inputs + o].slot;
      if (!slot || !slot->grad.defined()) continue;
      dy[o] = std::move(slot->grad);
      slot->grad = {};
      run_hooks(*slot, dy[o]);
      if (const auto it = pass.chosen.find(slot.get()); it != pass.chosen.end()) it->second = dy[o];
      any = true;
    }
    if (!any) continue;
    Ctx ctx;
    ctx.keep_tape = pass.keep;
    for (size_t i = 0; i < e.inputs; ++i)
      if (e.ends[i].slot && (!pass.choose || pass.reach.contains(e.ends[i].slot.get())))
        ctx.needs.set(i);
    if (!ctx.needs.any() && !e.node->always()) continue;
    dx.assign(e.inputs, {});
    const char* const name = e.node->name();
    {
      const Scoped<const char*> op(t_backward_op, name);
      e.node->backward(ctx, dy, dx);
    }
    if (AnomalyMode::enabled()) detail::check_finite(name, "the gradient of input", dx);
    for (size_t i = 0; i < e.inputs; ++i) {
      const End& end = e.ends[i];
      if (!end.slot || !dx[i].defined() || (pass.choose && !pass.reach.contains(end.slot.get())))
        continue;
      if (end.slot->leaf && t_chosen != nullptr && !t_chosen->contains(end.slot.get())) continue;
      check<AutogradError>(dx[i].shape() == end.shape && dx[i].dtype() == end.dtype, name,
                           "its backward made {} as gradient of input {}, which is {}{}", dx[i], i,
                           tenun::name(end.dtype), end.shape);
      if (end.slot->leaf)
        accumulate_leaf(end.slot->grad, std::move(dx[i]));
      else
        accumulate(end.slot->grad, std::move(dx[i]));
    }
  }
}

namespace {
constexpr const char* kForeign =
    "the loss was not recorded on this tape: no parameter leads to it, it was computed before the "
    "tape or under NoGrad, or backward has already used the tape";
}

void Tape::backward(const Var& loss, const Tensor& seed) {
  check<AutogradError>(recorded(loss) || (loss.requires_grad() && loss.is_leaf()), "backward", "{}",
                       kForeign);
  check<ShapeError>(seed.defined() || loss.numel() == 1, "backward",
                    "a loss {} that is not a scalar needs a seed", loss.value());
  const Tensor start =
      seed.defined() ? seed : Tensor::full(loss.shape(), 1, loss.dtype(), loss.device());
  backward_all({&loss, 1}, {&start, 1});
}

void Tape::backward_all(std::span<const Var> results, std::span<const Tensor> seeds) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].requires_grad() || !seeds[i].defined()) continue;
    check<ShapeError>(
        seeds[i].shape() == results[i].shape() && seeds[i].dtype() == results[i].dtype(),
        "backward", "seed {} for a result {}", seeds[i], results[i].value());
    if (results[i].is_leaf())
      accumulate_leaf(results[i].slot()->grad, seeds[i]);
    else
      accumulate(results[i].slot()->grad, seeds[i]);
  }
  Pass pass;
  if (t_chosen != nullptr) return run(pass);  // inside gradients(), which runs the hooks
  // Leaves collect in place. Their hooks want this pass's gradient alone, so those start from
  // nothing; a pass inside this one adds the leaves that it meets first.
  Hooked own;
  Hooked& hooked = t_hooked != nullptr ? *t_hooked : own;
  std::unordered_set<const Slot*> seen;
  for (const auto& [slot, before] : hooked) seen.insert(slot.get());
  for (const Entry& e : entries_)
    for (size_t i = 0; i < e.inputs; ++i)
      if (const auto& s = e.ends[i].slot;
          s && s->leaf && !s->hooks.empty() && seen.insert(s.get()).second)
        hooked.emplace_back(s, std::exchange(s->grad, {}));
  try {
    const Scoped<Hooked*> scope(t_hooked, &hooked);
    run(pass);
  } catch (...) {
    for (auto& [slot, before] : own)
      if (before.defined()) slot->grad = std::move(before);
    throw;
  }
  for (auto& [slot, before] : own) {
    if (slot->grad.defined()) run_hooks(*slot, slot->grad);
    if (!before.defined()) continue;
    if (slot->grad.defined()) accumulate(before, std::move(slot->grad));
    slot->grad = std::move(before);
  }
}

std::vector<Tensor> Tape::gradients(std::span<const Var> losses, std::span<const Var> inputs,
                                    Keep keep, std::span<const Tensor> seeds) {
  check(seeds.empty() || seeds.size() == losses.size(), "gradients", "{} seeds for {} losses",
        seeds.size(), losses.size());
  Pass pass;
  pass.keep = keep == Keep::yes;
  pass.choose = true;
  // What parameters held is put back at the end, whatever happens.
  struct Held {
    std::unordered_map<std::shared_ptr<Slot>, Tensor> grads;
    ~Held() {
      for (auto& [slot, grad] : grads) slot->grad = std::move(grad);
    }
  } held;
  for (const Var& v : inputs) {
    check<AutogradError>(v.requires_grad(), "gradients", "an input ({}) is a constant", v.value());
    pass.chosen[v.slot().get()] = {};
    if (v.is_leaf() && !held.grads.contains(v.slot()))
      held.grads[v.slot()] = std::exchange(v.slot()->grad, {});
  }
  std::vector<Tensor> starts;
  for (size_t i = 0; i < losses.size(); ++i) {
    const Var& loss = losses[i];
    check<AutogradError>(loss.requires_grad() && (loss.is_leaf() || recorded(loss)), "gradients",
                         "{}", kForeign);
    const bool given = !seeds.empty() && seeds[i].defined();
    check<ShapeError>(given || loss.numel() == 1, "gradients",
                      "a loss {} that is not a scalar needs a seed", loss.value());
    starts.push_back(given ? seeds[i] : Tensor::full(loss.shape(), 1, loss.dtype(), loss.device()));
    check<ShapeError>(starts[i].shape() == loss.shape() && starts[i].dtype() == loss.dtype(),
                      "gradients", "seed {} for a loss {}", starts[i], loss.value());
  }
  for (size_t i = 0; i < losses.size(); ++i)
    if (!losses[i].is_leaf() || pass.chosen.contains(losses[i].slot().get()))
      accumulate(losses[i].slot()->grad, starts[i]);
  run(pass);
  for (const Var& v : inputs)
    if (v.is_leaf() && v.slot()->grad.defined()) {
      Tensor g = std::exchange(v.slot()->grad, {});
      run_hooks(*v.slot(), g);
      pass.chosen[v.slot().get()] = std::move(g);
    }
  std::vector<Tensor> out;
  for (const Var& v : inputs) out.push_back(pass.chosen[v.slot().get()]);
  return out;
}

std::vector<Tape::Line> Tape::listing() const {
  std::vector<Line> lines;
  for (const Entry& e : entries_) {
    Line l;
    l.op = e.node->name();
    for (size_t i = 0; i < e.ends.size(); ++i) {
      std::string& s = i < e.inputs ? l.inputs : l.outputs;
      s +=
          fmt::format("{}{}{}", s.empty() ? "" : " ", name(e.ends[i].dtype), e.ends[i].shape.str());
    }
    l.bytes_kept = e.bytes_kept;
    l.forward_ms = e.ms;
    lines.push_back(std::move(l));
  }
  return lines;
}

std::string Tape::str() const {
  std::string s;
  size_t i = 0, total = 0;
  for (const Line& l : listing()) {
    s += fmt::format("{:4}  {:<20} {} <- {}", i++, l.op, l.outputs, l.inputs);
    if (l.bytes_kept > 0) s += fmt::format("  keeps {} B", l.bytes_kept);
    if (timing_) s += fmt::format("  {:.3f} ms", l.forward_ms);
    s += "\n";
    total += l.bytes_kept;
  }
  return s + fmt::format("{} ops, {} B kept for backward\n", i, total);
}

detail::GradAgain::GradAgain() : before_(std::exchange(t_no_grad, 0)) {}
detail::GradAgain::~GradAgain() { t_no_grad = before_; }
NoGrad::NoGrad() { ++t_no_grad; }
NoGrad::~NoGrad() { --t_no_grad; }
AnomalyMode::AnomalyMode() { ++t_anomaly; }
AnomalyMode::~AnomalyMode() { --t_anomaly; }
bool AnomalyMode::enabled() { return t_anomaly > 0; }

}  // namespace tenun
