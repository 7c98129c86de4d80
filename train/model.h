// The parts of a run that a configuration describes: the network, its average, and what to sample
// with.
//
//   Model m(config);                         // network and EMA copy, freshly initialised
//   m.load_weights("runs/a/checkpoints/last");
//   Tensor x = m.denoise(...)
#pragma once
#include <memory>
#include <string>

#include "tenun/models/jit.h"
#include "tenun/train/config/options_run.h"
#include "tenun/train/samplers.h"

namespace tenun {

enum class Weights : uint8_t { raw, average };

struct WeightsReport {
  std::string text;                   ///< for the log
  std::vector<std::string> remapped;  ///< "attn.qkv.weight -> attn.sla2.qkv.weight"
};

class Model {
 public:
  /// Parameters on `device`; pictures that it makes are on the CPU.
  explicit Model(const RunConfig& config, Device device = cpu());

  [[nodiscard]] const JiT& net(Weights w) const { return w == Weights::raw ? *raw_ : *average_; }
  [[nodiscard]] JiT& net(Weights w) { return w == Weights::raw ? *raw_ : *average_; }
  [[nodiscard]] ParameterStore& parameters() { return raw_store_; }
  [[nodiscard]] ParameterStore& average() { return average_store_; }
  [[nodiscard]] const JiTOptions& options() const { return raw_->options(); }
  [[nodiscard]] Device device() const { return raw_store_.device(); }
  [[nodiscard]] int64_t null_class() const { return raw_->options().num_classes; }

  /// Reads weights from a checkpoint folder, a .safetensors, or a PyTorch .ckpt/.pth (PixelGen's or
  /// JiT's names: `denoiser.`, `ema_denoiser.`, `net.`, `model_ema1`). Dense attention keys are
  /// mapped to the model's method and back. IoError if less than all parameters can be filled.
  WeightsReport load_weights(const std::string& path);

  /// One picture for each label from seeded noise: sample i of seed s is always the same picture.
  struct Request {
    std::vector<int64_t> labels;
    uint64_t seed = 0;
    Weights weights = Weights::average;
    DType autocast = DType::f32;
    int64_t batch = 16;
    SampleOptions options{};
  };
  [[nodiscard]] SampleResult sample(const Object& sampler, const Request& r) const;

 private:
  ParameterStore raw_store_, average_store_;
  std::unique_ptr<JiT> raw_, average_;
  double noise_scale_ = 1, t_eps_ = 0.05;
};

/// The trainer's options, whatever its class (ConfigError if it has none that train here).
[[nodiscard]] const FlowTrainerOptions& flow_options(const RunConfig& config);
/// Where trainer.accelerator says: `auto` is the GPU where there is one. ConfigError if it is not
/// there.
[[nodiscard]] Device run_device(const RunConfig& config);
/// f32 for 32-true, else the 16-bit type of a mixed precision; ConfigError for others.
[[nodiscard]] DType autocast_dtype(const std::string& precision);

}  // namespace tenun
