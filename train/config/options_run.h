// The whole configuration of a run: what `tenun train` reads. Polymorphic parts are `Object`s.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tenun/train/config/options_model.h"
#include "tenun/train/config/options_train.h"
#include "tenun/train/config/schema.h"

namespace tenun {

/// A folder of class folders of images (PixImageNet).
struct ImageFolderOptions {
  std::string root;
  std::int64_t resolution = 256;
  bool random_crop = false;
  bool random_flip = false;
  std::optional<std::string> cache_path;
};
/// The built-in procedural batik images.
struct BatikDatasetOptions {
  std::vector<std::string> classes;  ///< names; empty: the first num_classes of the twenty
  std::int64_t num_classes = 20;
  std::int64_t num_per_class = 1000;
  std::int64_t resolution = 256;
  std::int64_t seed = 0;
  std::int64_t zoom = 1;  ///< the picture is a window of a drawing so many times larger
  bool random_flip = false;
  /// Number of classes that the options select.
  [[nodiscard]] std::int64_t class_count() const {
    return classes.empty() ? num_classes : static_cast<std::int64_t>(classes.size());
  }
};
/// Seeded noise and labels to sample from (RandomNDataset, ClassLabelRandomNDataset).
struct RandomNOptions {
  std::array<std::int64_t, 3> latent_shape{4, 64, 64};
  std::int64_t num_classes = 1000;
  std::optional<std::vector<std::int64_t>> conditions;  ///< null: all classes
  std::optional<std::vector<std::int64_t>> seeds;
  std::int64_t max_num_instances = 50000;
  std::int64_t num_samples_per_instance = -1;
  double noise_scale = 1.0;
};

struct TrainerOptions {
  std::optional<std::string> default_root_dir;
  std::string accelerator = "auto";
  std::string precision = "32-true";
  std::vector<Object> logger;
  std::vector<Object> callbacks;
  std::vector<Object> plugins;
  std::int64_t max_steps = -1;             ///< -1: no limit
  std::optional<std::int64_t> max_epochs;  ///< null: no limit
  std::int64_t accumulate_grad_batches = 1;
  std::optional<double> gradient_clip_val;
  std::string gradient_clip_algorithm = "norm";
  std::int64_t log_every_n_steps = 50;
  bool deterministic = true;
  bool detect_anomaly = false;
  bool cuda_graph = false;  ///< Tenun's own
  bool enable_progress_bar = true;
};

struct ModelOptions {
  Object vae = make_object("pixel.PixelAE", ClassKind::vae);
  Object conditioner;  ///< null: LabelConditioner with the denoiser's classes
  Object denoiser;
  Object diffusion_trainer = make_object("diffusion.JiTTrainer", ClassKind::trainer);
  Object diffusion_sampler = make_object("sampling.HeunSamplerJiT", ClassKind::sampler);
  Object ema_tracker = make_object("simple_ema.SimpleEMA", ClassKind::callback);
  Object optimizer = make_object("optim.AdamW", ClassKind::optimizer);
  Object lr_scheduler;  ///< null: constant
  bool eval_original_model = false;
  std::optional<MuonConfig> muon_cfg;
};

struct DataOptions {
  Object train_dataset;
  Object eval_dataset;
  Object pred_dataset;
  std::int64_t train_batch_size = 64;
  std::int64_t train_num_workers = 16;
  std::int64_t train_prefetch_factor = 8;
  std::int64_t eval_batch_size = 32;
  std::int64_t eval_num_workers = 4;
  std::int64_t pred_batch_size = 32;
  std::int64_t pred_num_workers = 4;
};

struct RunConfig {
  std::int64_t seed_everything = 0;
  StringMap tags;
  std::optional<std::string> run_dir;  ///< Tenun's own: overrides the rule of run_directory()
  std::optional<std::string> torch_hub_dir;
  std::optional<std::string> huggingface_cache_dir;
  std::optional<std::string> ckpt_path;
  TrainerOptions trainer;
  ModelOptions model;
  DataOptions data;

  std::string config_name;  ///< stem of the last file; not a key
};

void describe(Fields& f, RunConfig& o);

}  // namespace tenun
