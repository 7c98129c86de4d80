#include "tenun/train/step.h"

#include <algorithm>
#include <cmath>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/ops/elementwise.h"
#include "tenun/train/flow.h"

namespace tenun {
namespace {

// Steps whose numbers the host may leave on the device: one more is being recorded while one runs,
// and each of these saves a wait.
constexpr int64_t kUnread = 64;

std::unique_ptr<DeviceGraph> make_graph(const RunConfig& c, Device device) {
  if (!c.trainer.cuda_graph) return nullptr;
  constexpr const char* kKey = "trainer.cuda_graph";
  check<ConfigError>(device.type != DeviceType::cpu, kKey,
                     "needs a GPU, and this run is on the CPU; set it to false");
  const auto refuse = [&](bool no, const char* what) {
    check<ConfigError>(!no, kKey, "{} reads the device in the middle of a step; set one to false",
                       what);
  };
  check<ConfigError>(autocast_dtype(c.trainer.precision) != DType::f16, kKey,
                     "trainer.precision 16-mixed reads the device in the middle of a step, to see "
                     "whether the gradients overflowed; use bf16-mixed");
  refuse(c.trainer.detect_anomaly, "trainer.detect_anomaly");
  for (const Object& cb : c.trainer.callbacks)
    refuse(cb.is<GradientMonitorOptions>(), "the callback GradientMonitor");
  return make_device_graph(device);
}

Tensor number(const Tensor& row, int64_t i) { return row.select(0, i); }

}  // namespace

TrainStep::TrainStep(const RunConfig& config, Model& model, Optimizer& optimizer, Ema& ema)
    : c_(config),
      flow_(flow_options(config)),
      model_(model),
      optimizer_(optimizer),
      ema_(ema),
      autocast_(autocast_dtype(config.trainer.precision)),
      graph_(make_graph(config, model.device())),
      numbers_({graph_ == nullptr ? 1 : std::min(kUnread, config.trainer.log_every_n_steps), 3},
               DType::f64, model.device()) {}

bool TrainStep::run(std::span<const Batch> batches, const Progress& progress, double lr_factor,
                    const Hooks& hooks) {
  const Tensor numbers = numbers_.select(0, std::ssize(unread_));
  unread_.push_back({progress.step + 1, std::ssize(batches)});
  optimizer_.zero_grad();
  bool updated = true;
  const auto all = [&] { updated = update(batches, progress, lr_factor, hooks, numbers); };
  // The first step is not recorded: in it libraries start, kernels are loaded and state is made.
  if (graph_ == nullptr || steps_++ == 0 || hooks.reads) {
    all();
    return updated;
  }
  ++recorded_;
  try {
    graph_->run(all);
  } catch (const DeviceError& e) {
    fail<DeviceError>("train", "step {}, recorded (trainer.cuda_graph) with attention {}: {}",
                      progress.step + 1, model_.net(Weights::raw).attention(0).options.method,
                      e.what());
  }
  return updated;
}

std::string TrainStep::graph_report() const {
  if (graph_ == nullptr) return "";
  const int64_t made = graph_->instantiations();
  return fmt::format("{} of {} steps were recorded, {} executable graph{} made", recorded_, steps_,
                     made, made == 1 ? " was" : "s were");
}

std::vector<StepNumbers> TrainStep::read() {
  std::vector<StepNumbers> all;
  if (unread_.empty()) return all;
  const std::vector<double> v = numbers_.slice(0, 0, std::ssize(unread_)).values<double>();
  for (size_t i = 0; i < unread_.size(); ++i) {
    const auto n = static_cast<double>(unread_[i].batches);
    all.push_back({unread_[i].step, v[3 * i] / n, v[3 * i + 1] / n, v[3 * i + 2]});
  }
  unread_.clear();
  return all;
}

bool TrainStep::update(std::span<const Batch> batches, const Progress& progress, double lr_factor,
                       const Hooks& hooks, const Tensor& numbers) {
  const bool scaled = autocast_ == DType::f16;
  const double loss_scale = scaled ? progress.loss_scale : 1, scale = 1 / loss_scale;
  Tensor(numbers).fill_(0);
  for (const Batch& b : batches)
    backward(b, loss_scale / static_cast<double>(c_.trainer.accumulate_grad_batches), numbers);
  if (hooks.with_gradients) hooks.with_gradients(scale);
  const Tensor norm = gradient_norm(optimizer_.parameters(), scale);
  number(numbers, 2).copy_(norm);
  if (scaled && !std::isfinite(norm.item())) return false;
  GradientScale gradient_scale{scale};
  if (const auto clip = c_.trainer.gradient_clip_val; clip && *clip > 0) {
    if (c_.trainer.gradient_clip_algorithm == "value")
      clip_values(*clip / scale);
    else
      gradient_scale.factor = clip_factor(norm, *clip);
  }
  optimizer_.step(lr_factor, gradient_scale);
  ema_.update(progress.step + 1);
  return true;
}

void TrainStep::backward(const Batch& b, double factor, const Tensor& numbers) {
  const auto seed = static_cast<uint64_t>(c_.seed_everything);
  const uint64_t round = 0;  // sample numbers never repeat, so they alone tell the draws apart
  const Tensor t = sample_times(b.samples, seed, round, flow_);
  const Tensor y =
      drop_classes(b.y, b.samples, seed, round, flow_.null_condition_p, model_.null_class());
  const Device device = model_.device();
  const Tensor noise = sample_noise(b.x.shape(), b.samples, seed, round, flow_.noise_scale, device);
  const Tensor x = b.x.to(device), x_t = interpolate(x, noise, t);
  SampleKeys keys;
  for (const uint64_t s : b.samples) keys.push_back(RandomKey::derive(seed, Purpose::dropout, s));
  std::optional<AnomalyMode> anomaly;
  if (c_.trainer.detect_anomaly) anomaly.emplace();
  Tape tape;
  Var total;
  {
    const Autocast cast(autocast_);
    // The labels stay on the host: their range is checked there.
    const JiTOutput out = model_.net(Weights::raw)(Var(x_t), t.to(device), y, {.training = &keys});
    total = flow_matching_loss(out.image, x, x_t, t,
                               {flow_.prediction, flow_.t_eps, flow_.clamp_target});
    number(numbers, 0).add_(total.value().to(DType::f64));
    if (out.aux.defined()) {
      const Tensor aux = out.aux.value().to(DType::f64);
      number(numbers, 0).add_(aux);
      number(numbers, 1).add_(aux);
      total = total + out.aux;
    }
  }
  tape.backward(total, Tensor::full({}, factor, total.dtype(), device));
}

void TrainStep::clip_values(double limit) {
  for (Parameter* p : optimizer_.parameters())
    if (p->var.grad().defined()) p->var.set_grad(clamp(Var(p->var.grad()), -limit, limit).value());
}

}  // namespace tenun
