// Options of optimizers, learning rate schedules, callbacks and loggers. Steps are optimizer steps.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tenun {

struct AdamWOptions {
  double lr = 1e-3;
  std::array<double, 2> betas{0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.01;  ///< decoupled
};
struct SgdOptions {
  double lr = 1e-3;
  double momentum = 0.0;
  double dampening = 0.0;
  double weight_decay = 0.0;
  bool nesterov = false;
};

struct MuonGroupOptions {
  double lr = 0.02;
  double weight_decay = 0.01;
  double momentum = 0.95;
  bool nesterov = true;
  std::int64_t ns_steps = 5;
};
struct MuonAuxOptions {
  double lr = 3e-4;
  double weight_decay = 0.01;
  std::array<double, 2> betas{0.9, 0.95};
  double eps = 1e-10;
};
struct MuonConfig {
  MuonGroupOptions muon_group;
  MuonAuxOptions aux_group;
};

struct ConstantWithWarmupOptions {
  std::int64_t num_warmup_steps = 0;
};
struct CosineWithWarmupOptions {
  std::int64_t num_warmup_steps = 0;
  std::optional<std::int64_t> num_training_steps;  ///< null: trainer.max_steps
  double min_lr_ratio = 0.0;                       ///< final rate as a share of the first
};

/// Lightning's ModelCheckpoint.
struct CheckpointOptions {
  std::optional<std::string> dirpath;  ///< null: the run folder
  std::optional<std::string> monitor;  ///< metric that ranks checkpoints; null: the newest
  std::string mode = "min";
  bool save_last = false;
  std::int64_t save_top_k = 1;  ///< -1 keeps all, 0 none
  std::optional<std::int64_t> every_n_train_steps;
  std::optional<std::int64_t> every_n_epochs;
  bool save_on_exception = false;
  bool save_weights_only = false;
};
struct SaveImagesOptions {
  std::string save_dir = "val";
  bool save_compressed = false;
};
struct EmaOptions {
  double decay = 0.9999;
  std::int64_t every_n_steps = 1;
  bool warmup = false;  ///< decay grows as (1 + n) / (10 + n) up to `decay`
};
struct GradientMonitorOptions {
  double norm_type = 2.0;
};
struct LRResyncOptions {
  bool adjust_t_max = false;
};
struct MidTrainingSamplerOptions {
  std::int64_t sample_every_n_steps = 1000;
  std::int64_t num_samples = 4;
  std::string save_dir = "mid_training_samples";
  std::int64_t fast_steps = 12;
  double fast_guidance = 1.0;
  bool async_mode = false;
};
/// A grid of samples of fixed noise, one picture per event (Tenun's own).
struct SampleGridOptions {
  std::int64_t every_n_steps = 1000;
  std::int64_t num_samples = 16;
  std::vector<std::int64_t> classes;  ///< empty: round robin over all
  std::string save_dir = "samples";
  std::optional<std::int64_t> num_steps;  ///< null: the sampler's
  std::optional<double> guidance;         ///< null: the sampler's
  std::int64_t seed = 0;
  bool ema = true;
};
struct Sla2QatOptions {
  bool log_sparsity = true;
  bool log_alpha_stats = true;
};
struct RouterScheduleOptions {
  std::int64_t router_warmup_steps = 5000;
  double initial_topk_ratio = 0.2;
  double final_topk_ratio = 0.05;
};
struct Sla2TwoStageOptions {
  std::int64_t warmup_steps = 10000;
  double soft_topk_ratio = 0.2;
  double hard_topk_ratio = 0.1;
  double soft_topk_tau = 1.0;
  std::int64_t soft_topk_iters = 8;
  double router_aux_weight_stage1 = 1.0;
  double router_aux_weight_stage2 = 0.0;
};
struct AttentionMonitorOptions {
  std::int64_t monitor_frequency = 1000;
};

struct WandbLoggerOptions {
  std::optional<std::string> project;
  std::optional<std::string> name;
};
struct TensorBoardLoggerOptions {
  std::optional<std::string> save_dir;  ///< null: the run folder
  std::optional<std::string> name;
  std::optional<std::string> version;
};

}  // namespace tenun
