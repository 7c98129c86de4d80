#include "tenun/autograd/checkpoint.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"

namespace tenun {
namespace {

struct Checkpoint {
  static constexpr const char* name = "checkpoint";
  static constexpr bool records_always = true;  // parameters in the closure are invisible here
  CheckpointFn fn;
  DType autocast = DType::f32;
  std::vector<Saved> saved;

  std::vector<Tensor> forward(const Ctx& c, std::span<const Tensor> x) {
    autocast = Autocast::dtype();
    std::vector<Var> in(x.begin(), x.end());
    if (c.recording) {
      saved.resize(x.size());
      for (size_t i = 0; i < x.size(); ++i) saved[i] = x[i];
    }
    const NoGrad guard;
    std::vector<Tensor> out;
    for (const Var& v : fn(in)) out.push_back(v.value());
    return out;
  }

  std::vector<Tensor> backward(const Ctx& c, std::span<const Tensor> dy) {
    // backward runs under NoGrad; the inner tape must record all the same.
    const detail::GradAgain again;
    Tape tape;
    std::vector<Var> in, out;
    // The inputs collect their gradients as intermediate results do: they are not parameters.
    for (size_t i = 0; i < saved.size(); ++i)
      in.push_back(c.needs[i] && saved[i].defined()
                       ? Var::with_slot(saved[i].get(), std::make_shared<Slot>())
                       : Var(saved[i].get()));
    {
      const Autocast guard(autocast);
      out = fn(in);
    }
    tape.backward_all(out, dy);
    std::vector<Tensor> dx;
    for (const Var& v : in) dx.push_back(v.grad());
    return dx;
  }
};

}  // namespace

std::vector<Var> checkpoint(CheckpointFn fn, std::vector<Var> inputs) {
  if (Tape::current() == nullptr) return fn(inputs);
  return apply_list(Checkpoint{.fn = std::move(fn), .saved = {}}, std::move(inputs));
}

}  // namespace tenun
