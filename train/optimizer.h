// Optimizers over named parameters. They own their state, which is saved and loaded by name.
//
//   auto opt = make_optimizer(config.model.optimizer, {store parameters});
//   opt->step(lr_factor, gradient_scale);        // uses grad() of every parameter that has one
//
// A parameter without a gradient is left alone (its state too), as in PyTorch.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tenun/nn/parameters.h"
#include "tenun/ops/update.h"
#include "tenun/train/config/options_train.h"
#include "tenun/train/config/registry.h"

namespace tenun {

class Optimizer {
 public:
  explicit Optimizer(std::vector<Parameter*> parameters);
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update with learning rate `lr() * lr_factor`; gradients are multiplied by
  /// `gradient_scale`.
  void step(double lr_factor = 1, const GradientScale& gradient_scale = {});
  [[nodiscard]] virtual double lr() const = 0;
  [[nodiscard]] int64_t steps() const { return steps_; }
  void zero_grad();
  [[nodiscard]] const std::vector<Parameter*>& parameters() const { return parameters_; }

  /// State tensors as "exp_avg.<parameter>", and "step.<parameter>" counts.
  [[nodiscard]] std::vector<NamedTensor> state() const;
  /// IoError naming the tensor if the file's state does not fit these parameters.
  void load_state(const TensorFile& file, int64_t steps);

 protected:
  struct State {
    int64_t step = 0;
    std::vector<Tensor> tensors;
  };
  /// A parameter that takes part in a step.
  struct Moved {
    Parameter& p;
    Tensor grad;  ///< contiguous
    State& state;
  };
  [[nodiscard]] virtual std::vector<std::string> state_names() const = 0;
  virtual void update(std::span<const Moved> all, double lr, const GradientScale& scale) = 0;

 private:
  std::vector<Parameter*> parameters_;
  std::vector<State> states_;
  int64_t steps_ = 0;
};

class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<Parameter*> parameters, const AdamWOptions& o)
      : Optimizer(std::move(parameters)), o_(o) {}
  [[nodiscard]] double lr() const override { return o_.lr; }

 private:
  [[nodiscard]] std::vector<std::string> state_names() const override {
    return {"exp_avg", "exp_avg_sq"};
  }
  void update(std::span<const Moved> all, double lr, const GradientScale& scale) override;
  AdamWOptions o_;
};

class Sgd final : public Optimizer {
 public:
  Sgd(std::vector<Parameter*> parameters, const SgdOptions& o)
      : Optimizer(std::move(parameters)), o_(o) {}
  [[nodiscard]] double lr() const override { return o_.lr; }

 private:
  [[nodiscard]] std::vector<std::string> state_names() const override {
    return o_.momentum > 0 ? std::vector<std::string>{"momentum_buffer"}
                           : std::vector<std::string>{};
  }
  void update(std::span<const Moved> all, double lr, const GradientScale& scale) override;
  SgdOptions o_;
};

[[nodiscard]] std::unique_ptr<Optimizer> make_optimizer(const Object& config,
                                                        std::vector<Parameter*> parameters);

/// The 2-norm of all gradients (times `gradient_scale`): an f64 scalar beside them.
[[nodiscard]] Tensor gradient_norm(std::span<Parameter* const> parameters,
                                   double gradient_scale = 1);
/// What brings gradients of this norm to `limit`, if they are larger, else 1: min(1, limit / (norm
/// + 1e-6)), as in PyTorch.
[[nodiscard]] Tensor clip_factor(const Tensor& norm, double limit);

/// Learning-rate factor of a step (counted from 0): constant, linear warm-up, cosine.
class Schedule {
 public:
  /// `config` may be empty: constant. `max_steps`: the end of a cosine that states none.
  Schedule(const Object& config, int64_t max_steps);
  [[nodiscard]] double factor(int64_t step) const;

 private:
  int64_t warmup_ = 0, end_ = 0;  // end 0: no cosine
  double floor_ = 0;
};

/// Exponential moving average of parameters (Polyak averaging): e <- d e + (1 - d) w after a step.
class Ema {
 public:
  /// Averages `from` into the equally named parameters of `into`, which start as a copy.
  Ema(ParameterStore& into, const ParameterStore& from, const EmaOptions& o)
      : into_(into), from_(from), o_(o) {}
  void copy();                       ///< averages = weights
  void update(int64_t global_step);  ///< a step that was counted already does nothing
  [[nodiscard]] double decay_at(int64_t updates) const;
  [[nodiscard]] int64_t updates() const { return updates_; }
  void restore(int64_t updates, int64_t last_step) { updates_ = updates, last_step_ = last_step; }

 private:
  ParameterStore& into_;
  const ParameterStore& from_;
  EmaOptions o_;
  int64_t updates_ = 0, last_step_ = 0;
};

}  // namespace tenun
