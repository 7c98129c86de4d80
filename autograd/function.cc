#include "tenun/autograd/function.h"

#include <unordered_map>

#include "tenun/core/check.h"

namespace tenun {
namespace {

thread_local Autocast* t_autocast = nullptr;

struct CastOp {
  static constexpr const char* name = "cast";
  DType to = DType::f32, from = DType::f32;
  Tensor forward(const Ctx&, const Tensor& x) {
    from = x.dtype();
    return x.to(to);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {dy.to(from)}; }
};

}  // namespace

Var cast(const Var& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  return apply(CastOp{.to = dtype}, x);
}

// A cast serves again only on the tape that holds it and while the parameter is as it was. The
// cache keeps the parameter's slot too: an address alone could be reused by another variable.
struct Autocast::Cache {
  struct Item {
    std::shared_ptr<Slot> slot;
    Var cast;
    uint64_t tape;
    uint64_t version;
  };
  std::unordered_map<const Slot*, Item> items;
};

Autocast::Autocast(DType dtype)
    : cache_(std::make_unique<Cache>()), outer_(t_autocast), dtype_(dtype) {
  check<DTypeError>(dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f32, "autocast",
                    "takes bf16, f16 or f32 (off), got {}", name(dtype));
  t_autocast = this;
}
Autocast::~Autocast() { t_autocast = outer_; }
DType Autocast::dtype() { return t_autocast != nullptr ? t_autocast->dtype_ : DType::f32; }

Var Autocast::cached(const Var& parameter, DType dtype) {
  if (t_autocast == nullptr || !parameter.requires_grad() || !parameter.is_leaf())
    return tenun::cast(parameter, dtype);
  auto& items = t_autocast->cache_->items;
  const uint64_t tape = Tape::current() != nullptr ? Tape::current()->generation() : 0;
  const uint64_t version = parameter.value().version();
  const auto it = items.find(parameter.slot().get());
  if (it != items.end() && it->second.tape == tape && it->second.version == version &&
      it->second.cast.dtype() == dtype)
    return it->second.cast;
  Var made = tenun::cast(parameter, dtype);
  items[parameter.slot().get()] = {parameter.slot(), made, tape, version};
  return made;
}

void detail::apply_cast_policy(Cast policy, std::span<Var> inputs) {
  if (policy == Cast::keep) return;
  const DType low = Autocast::dtype();
  if (policy == Cast::widest) {
    // Order of widths: f64 > f32 > (bf16 and f16 mixed: f32).
    DType widest = DType::i8;
    bool mixed = false;
    for (const Var& v : inputs) {
      if (!v.defined() || !is_floating(v.dtype())) continue;
      if (!is_floating(widest))
        widest = v.dtype();
      else if (v.dtype() != widest) {
        mixed = true;
        widest = widest == DType::f64 || v.dtype() == DType::f64 ? DType::f64 : DType::f32;
      }
    }
    if (!mixed) return;
    for (Var& v : inputs)
      if (v.defined() && is_floating(v.dtype())) v = tenun::cast(v, widest);
    return;
  }
  if (low == DType::f32) {
    if (policy == Cast::f32) return;
    // Without a guard, a product of mixed types still needs one type.
    apply_cast_policy(Cast::widest, inputs);
    return;
  }
  const DType to = policy == Cast::low ? low : DType::f32;
  for (const Var& v : inputs)
    if (v.defined() && v.dtype() == DType::f64) return apply_cast_policy(Cast::widest, inputs);
  for (Var& v : inputs)
    if (v.defined() && is_floating(v.dtype()) && v.dtype() != to) v = Autocast::cached(v, to);
}

namespace detail {

Recorder::Recorder(const char* name, Cast cast, bool always, std::span<Var> inputs) : name_(name) {
  apply_cast_policy(cast, inputs);
  tape_ = Tape::current();
  if (tape_ != nullptr) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].requires_grad()) ctx_.needs.set(i);
    ctx_.recording = ctx_.needs.any() || always;
    saved_bytes = 0;
    if (tape_->timing()) start_ = std::chrono::steady_clock::now();
  }
}

void Recorder::finish(std::span<const Tensor> outputs) {
  if (AnomalyMode::enabled()) check_finite(name_, "output", outputs);
}

void Recorder::record(std::unique_ptr<Node> node, std::span<const Var> inputs,
                      std::span<Var> outputs) {
  const double ms =
      tape_->timing()
          ? std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
                .count()
          : 0;
  tape_->record(std::move(node), inputs, outputs, saved_bytes, ms);
}

}  // namespace detail
}  // namespace tenun
