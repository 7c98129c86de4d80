#include "tenun/train/optimizer.h"

#include <cmath>
#include <numbers>

#include "tenun/core/check.h"
#include "tenun/ops/elementwise.h"

namespace tenun {

Optimizer::Optimizer(std::vector<Parameter*> parameters)
    : parameters_(std::move(parameters)), states_(parameters_.size()) {}

void Optimizer::zero_grad() {
  for (Parameter* p : parameters_) p->var.zero_grad();
}

void Optimizer::step(double lr_factor, const GradientScale& gradient_scale) {
  ++steps_;
  const size_t count = state_names().size();
  std::vector<Moved> all;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& p = *parameters_[i];
    if (!p.var.grad().defined()) continue;
    State& s = states_[i];
    while (s.tensors.size() < count) s.tensors.push_back(zeros_like(p.var.value()));
    ++s.step;
    all.push_back({p, p.var.grad().contiguous(), s});
  }
  if (!all.empty()) update(all, lr() * lr_factor, gradient_scale);
}

std::vector<NamedTensor> Optimizer::state() const {
  std::vector<NamedTensor> out;
  const auto names = state_names();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (states_[i].step == 0) continue;
    out.push_back({"step." + parameters_[i]->name,
                   Tensor::scalar(static_cast<double>(states_[i].step), DType::i64)});
    for (size_t k = 0; k < names.size(); ++k)
      out.push_back({names[k] + "." + parameters_[i]->name, states_[i].tensors[k]});
  }
  return out;
}

void Optimizer::load_state(const TensorFile& file, int64_t steps) {
  const auto names = state_names();
  steps_ = steps;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = *parameters_[i];
    State& s = states_[i];
    s = {};
    const Tensor* step = file.find("step." + p.name);
    if (step == nullptr) continue;
    s.step = static_cast<int64_t>(step->item());
    for (const std::string& n : names) {
      const Tensor& t = file.at(n + "." + p.name);
      check<IoError>(t.shape() == p.var.shape(), "optimizer",
                     "the saved {} of '{}' is {}, the parameter {}", n, p.name, t, p.var.value());
      s.tensors.push_back(t.to(p.var.dtype()).to(p.var.device()));
    }
  }
}

void AdamW::update(std::span<const Moved> all, double lr, const GradientScale& scale) {
  std::vector<AdamWItem> items;
  for (const Moved& m : all)
    items.push_back(
        {m.p.var.mutable_value(), m.grad, m.state.tensors[0], m.state.tensors[1], m.state.step});
  kernel::adamw(items[0].p.device(), items, {lr, o_.betas[0], o_.betas[1], o_.eps, o_.weight_decay},
                scale);
}

void Sgd::update(std::span<const Moved> all, double lr, const GradientScale& scale) {
  std::vector<SgdItem> items;
  for (const Moved& m : all)
    items.push_back({m.p.var.mutable_value(), m.grad,
                     m.state.tensors.empty() ? Tensor() : m.state.tensors[0], m.state.step == 1});
  kernel::sgd(items[0].p.device(), items,
              {lr, o_.momentum, o_.dampening, o_.weight_decay, o_.nesterov}, scale);
}

std::unique_ptr<Optimizer> make_optimizer(const Object& config,
                                          std::vector<Parameter*> parameters) {
  if (config.is<AdamWOptions>())
    return std::make_unique<AdamW>(std::move(parameters), config.as<AdamWOptions>());
  if (config.is<SgdOptions>())
    return std::make_unique<Sgd>(std::move(parameters), config.as<SgdOptions>());
  fail<ConfigError>("optimizer",
                    "'{}' is not available in this build; use torch.optim.AdamW or torch.optim.SGD",
                    config.class_path());
}

Tensor gradient_norm(std::span<Parameter* const> parameters, double gradient_scale) {
  std::vector<Tensor> gradients;
  for (const Parameter* p : parameters)
    if (p->var.grad().defined()) gradients.push_back(p->var.grad());
  if (gradients.empty()) return Tensor::scalar(0, DType::f64);
  return (sqrt(Var(square_sum(gradients))) * std::abs(gradient_scale)).value();
}

Tensor clip_factor(const Tensor& norm, double limit) {
  return clamp(limit / (Var(norm) + 1e-6), 0, 1).value();
}

Schedule::Schedule(const Object& config, int64_t max_steps) {
  if (config.empty()) return;
  if (config.is<ConstantWithWarmupOptions>()) {
    warmup_ = config.as<ConstantWithWarmupOptions>().num_warmup_steps;
  } else if (config.is<CosineWithWarmupOptions>()) {
    const auto& o = config.as<CosineWithWarmupOptions>();
    warmup_ = o.num_warmup_steps;
    end_ = o.num_training_steps.value_or(max_steps);
    floor_ = o.min_lr_ratio;
    check<ConfigError>(end_ > 0, "lr_scheduler",
                       "the cosine needs num_training_steps, or trainer.max_steps");
  } else {
    fail<ConfigError>("lr_scheduler", "'{}' is not available in this build", config.class_path());
  }
}

double Schedule::factor(int64_t step) const {
  const auto s = static_cast<double>(step);
  if (step < warmup_) return s / static_cast<double>(warmup_);
  if (end_ == 0) return 1;
  if (step >= end_) return floor_;
  const double done = (s - static_cast<double>(warmup_)) /
                      static_cast<double>(std::max<int64_t>(end_ - warmup_, 1));
  return floor_ + (1 - floor_) * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

void Ema::copy() {
  for (const Parameter& p : from_)
    if (Parameter* e = into_.find(p.name)) e->var.mutable_value().copy_(p.var.value());
}

double Ema::decay_at(int64_t updates) const {
  const auto n = static_cast<double>(updates);
  return o_.warmup ? std::min(o_.decay, (1 + n) / (10 + n)) : o_.decay;
}

void Ema::update(int64_t global_step) {
  if (global_step == last_step_ || global_step % std::max<int64_t>(o_.every_n_steps, 1) != 0)
    return;
  last_step_ = global_step;
  ++updates_;
  const double d = decay_at(updates_);
  std::vector<EmaItem> items;
  for (const Parameter& p : from_)
    if (Parameter* e = into_.find(p.name)) items.push_back({e->var.mutable_value(), p.var.value()});
  if (!items.empty()) kernel::ema(items[0].p.device(), items, d);
}

}  // namespace tenun
