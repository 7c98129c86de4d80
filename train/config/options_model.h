// Options of the parts under `model:` other than the network (models/jit_options.h): trainers,
// noise schedules, samplers, VAE, conditioner, encoder. Names and defaults are those of PixelGen's
// constructors. t runs from 0 (noise) to 1 (data).
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "tenun/models/jit_options.h"
#include "tenun/train/config/registry.h"

namespace tenun {

/// Classes and functions without settings.
struct NoOptions {};

/// Settings of a class that is known but not available yet: kept as they were written.
struct OpenOptions {
  YamlNode arguments = YamlNode::map();
};

/// What the network's output means.
enum class Prediction { image, velocity };

/// FlowMatchingTrainer, PixelFlowMatchingTrainer and JiTTrainer.
struct FlowTrainerOptions {
  Object scheduler = make_object("scheduling.LinearScheduler", ClassKind::scheduler);
  Object loss_weight_fn = make_object("training.constant", ClassKind::loss_weight_fn);
  bool lognorm_t = false;  ///< t = sigmoid(N(P_mean, P_std^2)) instead of uniform
  double P_mean = 0.0;
  double P_std = 1.0;
  double timeshift = 1.0;
  double t_eps = 0.05;  ///< lower bound of 1 - t in the velocity
  double noise_scale = 1.0;
  double null_condition_p = 0.1;
  // Set by the class, not by keys.
  Prediction prediction = Prediction::image;
  bool clamp_target = false;  ///< t_eps also bounds the denominator of the target
};

/// The five REPATrainer classes, told apart by their module.
struct RepaTrainerOptions {
  FlowTrainerOptions flow;
  Object encoder;
  double feat_loss_weight = 0.5;
  std::int64_t align_layer = 8;
  std::int64_t proj_denoiser_dim = 256;
  std::int64_t proj_hidden_dim = 256;
  std::int64_t proj_encoder_dim = 256;
  double lpips_weight = 1.0;
  double dino_weight = 1.0;
  double percept_t_threshold = 0.0;
  double percept_ratio = 1.0;
  std::int64_t patch_size = 16;
};

struct SamplerOptions {
  Object scheduler = make_object("scheduling.LinearScheduler", ClassKind::scheduler);
  Object w_scheduler;
  Object guidance_fn = make_object("guidance.simple_guidance_fn", ClassKind::guidance_fn);
  Object step_fn = make_object("sampling.ode_step_fn", ClassKind::step_fn);
  Object last_step_fn = make_object("sampling.ode_step_fn", ClassKind::step_fn);
  std::int64_t num_steps = 250;
  double guidance = 1.0;
  double guidance_interval_min = 0.0;  ///< guidance acts for min < t <= max
  double guidance_interval_max = 1.0;
  double timeshift = 1.0;
  std::optional<double> last_step;            ///< length of the last interval; null: 1 / num_steps
  Prediction prediction = Prediction::image;  ///< set by the class
};
struct EulerSamplerOptions : SamplerOptions {};
struct HeunSamplerOptions : SamplerOptions {
  bool exact_henu = false;  ///< two evaluations per interval instead of one
};
struct AdamLMSamplerOptions : SamplerOptions {
  std::int64_t order = 2;
  Object lms_transform_fn;
};

struct PixelAEOptions {
  double scale = 1.0;
  double shift = 0.0;
};
struct LatentAEOptions {
  bool precompute = false;
  std::string weight_path;
};
struct LabelConditionerOptions {
  std::int64_t num_classes = 1000;
};
struct PlaceHolderConditionerOptions {
  std::int64_t null_class = 1000;
};
struct DinoEncoderOptions {
  std::optional<std::string> weight_path;
  std::int64_t base_patch_size = 16;
};

}  // namespace tenun
