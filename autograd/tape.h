// Tape: the list of recorded operations, in forward order. backward() walks it from the end; each
// entry dies after use, so activations free themselves on the way. No graph, no recursion, no
// sorting.
//
//   Tape tape;                           // current for this thread until it is destroyed; tapes
//   nest Var loss = model(x); fmt::print("{}", tape.str());        // a listing: op, shapes, bytes
//   kept tape.backward(loss);                 // gradients are added to the parameters' grad()
//
// Accumulation policy: the first gradient that reaches a variable is moved there, later ones are
// added; the gradient of an intermediate result is consumed by the op that made it. The gradient of
// a parameter is contiguous and shares its memory with nothing else. A tape belongs to its thread.
// Without a current tape, or under NoGrad, nothing is recorded. If backward throws, the gradients
// of intermediate results are dropped, and what had reached parameters stays (gradients() puts
// everything back).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tenun/autograd/var.h"

namespace tenun {

/// Which inputs want a gradient: bit i for input i (inputs past 63 always count as wanted).
class Needs {
 public:
  constexpr Needs() = default;
  void set(size_t i) { bits_ |= i < 63 ? uint64_t{1} << i : uint64_t{1} << 63; }
  [[nodiscard]] bool operator[](size_t i) const { return (bits_ >> (i < 63 ? i : 63) & 1u) != 0; }
  [[nodiscard]] bool any() const { return bits_ != 0; }

 private:
  uint64_t bits_ = 0;
};

/// What an op is told in forward and backward.
struct Ctx {
  Needs needs;             ///< which inputs want a gradient
  bool recording = false;  ///< forward: will there be a backward pass?
  bool keep_tape = false;  ///< backward: it may run again, so what was saved must not be consumed
};

/// A recorded op. Function structs (autograd/function.h) are wrapped in one of these.
struct Node {
  virtual ~Node() = default;
  [[nodiscard]] virtual const char* name() const = 0;
  /// Fills `dx` (one per input; undefined means none) from the gradients `dy` of the outputs, where
  /// an output that received no gradient is undefined.
  virtual void backward(const Ctx& ctx, std::span<const Tensor> dy, std::span<Tensor> dx) = 0;
  /// Does backward run even if no input wants a gradient (because parameters hide in a closure)?
  [[nodiscard]] virtual bool always() const { return false; }
};

class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;
  [[nodiscard]] static Tape* current();  ///< nullptr: none, or under NoGrad

  /// Adds the gradients of `loss` (its `seed`; ones for a scalar) to every parameter it depends on,
  /// and empties the tape. AutogradError if the loss was not recorded here.
  void backward(const Var& loss, const Tensor& seed = {});
  /// The same for several results at once; those without a seed are passed over.
  void backward_all(std::span<const Var> results, std::span<const Tensor> seeds);

  enum class Keep { no, yes };
  /// The gradients of sum_i <losses[i], seeds[i]> for the chosen inputs (parameters or intermediate
  /// results; undefined where there is none). Parameters' grad() is left alone. With Keep::yes the
  /// tape stays and can be used again, with the same bits as result.
  [[nodiscard]] std::vector<Tensor> gradients(std::span<const Var> losses,
                                              std::span<const Var> inputs, Keep keep,
                                              std::span<const Tensor> seeds = {});
  [[nodiscard]] std::vector<Tensor> gradients(const Var& loss, std::span<const Var> inputs,
                                              Keep keep) {
    return gradients({&loss, 1}, inputs, keep);
  }

  struct Line {
    std::string op, inputs, outputs;  ///< "f32[2, 3]" lists
    size_t bytes_kept = 0;  ///< of tensors saved for backward, views counted by their own size
    double forward_ms = 0;  ///< with time_ops(true)
  };
  [[nodiscard]] std::vector<Line> listing() const;
  [[nodiscard]] std::string str() const;
  [[nodiscard]] size_t size() const { return entries_.size(); }
  void clear();
  /// Changes when a tape is made and when its entries go: what was recorded under another number is
  /// not on this tape.
  [[nodiscard]] uint64_t generation() const { return generation_; }
  void time_ops(bool on) { timing_ = on; }
  [[nodiscard]] bool timing() const { return timing_; }

  /// For function.h: appends an entry; the outputs become variables of this tape.
  void record(std::unique_ptr<Node> node, std::span<const Var> inputs, std::span<Var> outputs,
              size_t bytes_kept, double ms);

 private:
  struct End {  // one input or output of an entry
    std::shared_ptr<Slot> slot;
    Shape shape;
    DType dtype = DType::f32;
  };
  struct Entry {
    std::unique_ptr<Node> node;
    std::vector<End> ends;  // inputs, then outputs
    size_t inputs = 0, bytes_kept = 0;
    double ms = 0;
  };
  struct Pass;
  void run(Pass& pass);
  void walk(Pass& pass);
  [[nodiscard]] bool recorded(const Var& v) const;

  std::vector<Entry> entries_;
  Tape* outer_ = nullptr;
  uint64_t generation_ = 0;
  bool timing_ = false;
};

/// While one lives, nothing is recorded on this thread.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;
};

namespace detail {
/// Runs f with recording allowed again: for backward code that needs a tape of its own.
class GradAgain {
 public:
  GradAgain();
  ~GradAgain();
  GradAgain(const GradAgain&) = delete;
  GradAgain& operator=(const GradAgain&) = delete;

 private:
  int before_;
};
}  // namespace detail

/// While one lives, every op's outputs and gradients are checked, and AutogradError names the op
/// that first produced a NaN or infinity on this thread. Slow; for debugging.
class AnomalyMode {
 public:
  AnomalyMode();
  ~AnomalyMode();
  AnomalyMode(const AnomalyMode&) = delete;
  AnomalyMode& operator=(const AnomalyMode&) = delete;
  [[nodiscard]] static bool enabled();
};

/// A tensor kept for the backward pass. get() throws AutogradError if its memory was written since.
class Saved {
 public:
  Saved() = default;
  Saved& operator=(const Tensor& t);
  [[nodiscard]] const Tensor& get() const;
  [[nodiscard]] bool defined() const { return tensor_.defined(); }

 private:
  Tensor tensor_;
  uint64_t version_ = 0;
};

namespace detail {
/// Bytes put into Saved on this thread since it was last reset: the tape's memory listing.
extern thread_local size_t saved_bytes;
void check_finite(const char* op, const char* what, std::span<const Tensor> tensors);
}  // namespace detail

}  // namespace tenun
