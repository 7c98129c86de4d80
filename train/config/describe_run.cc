// Keys of the top level, `trainer:` and `data:`.
#include <fmt/core.h>

#include "tenun/train/batik/batik.h"
#include "tenun/train/config/describe.h"

namespace tenun {
namespace {

Rule dataset() { return object_of(ClassKind::dataset) | nullable(); }

}  // namespace

void describe(Fields& f, ImageFolderOptions& o) {
  f.add("root", o.root, "folder with one folder of images per class",
        is_path() | required() | synonym("path") | synonym("data_dir"));
  f.add("resolution", o.resolution, "images are cropped and resized to this many pixels",
        at_least(1) | synonym("image_size") | synonym("size"));
  f.add("random_crop", o.random_crop, "random instead of centre crop");
  f.add("random_flip", o.random_flip, "mirror every other image");
  f.add("cache_path", o.cache_path, "folder of precomputed latents; null: images", is_path());
}
void describe(Fields& f, BatikDatasetOptions& o) {
  f.add("classes", o.classes, "motifs by name; empty: the first num_classes",
        choices(batik_class_names()));
  f.add("num_classes", o.num_classes, "motifs in alphabetical order", in_range(1, 20));
  f.add("num_per_class", o.num_per_class, "images per motif", at_least(1));
  f.add("resolution", o.resolution, "pixels per side", in_range(8, 4096) | synonym("image_size"));
  f.add("seed", o.seed, "seed of the generator", at_least(0));
  f.add("zoom", o.zoom, "draw so many times larger and cut out a window: larger motifs",
        in_range(1, 8));
  f.add("random_flip", o.random_flip, "mirror every other image");
}
void describe(Fields& f, RandomNOptions& o) {
  f.add("latent_shape", o.latent_shape, "channels, height, width of the noise", at_least(1));
  f.add("num_classes", o.num_classes, "labels 0 to num_classes - 1", at_least(1));
  f.add("conditions", o.conditions, "labels to draw; null: all", at_least(0));
  f.add("seeds", o.seeds, "seeds per label; null: consecutive ones", at_least(0));
  f.add("max_num_instances", o.max_num_instances, "images in all", at_least(1));
  f.add("num_samples_per_instance", o.num_samples_per_instance,
        "images per label; -1: as max_num_instances says", at_least(-1));
  f.add("noise_scale", o.noise_scale, "standard deviation of the noise", positive());
}

void describe(Fields& f, TrainerOptions& o) {
  f.add("default_root_dir", o.default_root_dir,
        "parent of the run folder; null: ./workdirs with tags.exp, else runs", is_path());
  f.add("accelerator", o.accelerator, "where to compute",
        choices({"auto", "cpu", "cuda", "emulated"}) | rewrites({{"gpu", "cuda"}}));
  f.add("precision", o.precision, "arithmetic of the forward and backward pass",
        choices({"32-true", "bf16-mixed", "16-mixed"}) |
            rewrites({{"32", "32-true"}, {"bf16", "bf16-mixed"}, {"16", "16-mixed"}}));
  f.add("max_steps", o.max_steps, "optimizer steps; -1: no limit", at_least(-1) | synonym("steps"));
  f.add("max_epochs", o.max_epochs, "passes over the data; null or -1: no limit",
        at_least(-1) | synonym("epochs"));
  f.add("accumulate_grad_batches", o.accumulate_grad_batches, "batches per optimizer step",
        at_least(1) | synonym("gradient_accumulation_steps"));
  f.add("gradient_clip_val", o.gradient_clip_val, "clip gradients to this; null: no clipping",
        at_least(0) | synonym("grad_clip"));
  f.add("gradient_clip_algorithm", o.gradient_clip_algorithm, "by total norm, or each value",
        choices({"norm", "value"}) | nullable());
  f.add("log_every_n_steps", o.log_every_n_steps, "steps between log entries", at_least(1));
  f.add("deterministic", o.deterministic, "same seed, same bits",
        nullable() | rewrites({{"warn", "true"}}));
  f.add("detect_anomaly", o.detect_anomaly, "name the operation that first yields a NaN");
  f.add("cuda_graph", o.cuda_graph,
        "start a step on the GPU as one task graph (Tenun's key); losses are read when they are "
        "logged");
  f.add("enable_progress_bar", o.enable_progress_bar, "show progress on a terminal", nullable());
  f.add("logger", o.logger, "loggers; metrics.jsonl is always written",
        object_of(ClassKind::logger) | list_like() | rewrites({{"true", ""}, {"false", ""}}));
  f.add("callbacks", o.callbacks, "callbacks, in order",
        object_of(ClassKind::callback) | list_like());
  f.add("plugins", o.plugins, "accepted; none has an effect",
        object_of(ClassKind::plugin) | list_like());
  f.ignored({"strategy"}, "string or null", "one process");
  f.ignored({"devices", "num_nodes"}, "int or string or list or null", "one process, one device");
  f.ignored({"num_sanity_val_steps", "check_val_every_n_epoch", "min_epochs", "min_steps",
             "reload_dataloaders_every_n_epochs"},
            "int or null", "there is no validation loop");
  f.ignored({"val_check_interval", "limit_train_batches", "limit_val_batches", "limit_test_batches",
             "limit_predict_batches", "overfit_batches"},
            "number or null", "there is no validation loop; data is used whole");
  f.ignored({"enable_checkpointing", "enable_model_summary", "benchmark", "inference_mode",
             "use_distributed_sampler", "barebones", "sync_batchnorm", "enable_autolog_hparams"},
            "bool or null", "no equivalent is needed");
  f.ignored({"fast_dev_run"}, "bool or int or null", "use --dry-run");
  f.ignored({"max_time", "profiler", "model_registry"}, "any", "no equivalent");
}

void describe(Fields& f, ModelOptions& o) {
  f.add("vae", o.vae, "autoencoder around the network", object_of(ClassKind::vae));
  f.add("conditioner", o.conditioner, "labels to conditions; null: LabelConditioner",
        object_of(ClassKind::conditioner) | nullable());
  f.add("denoiser", o.denoiser, "the network",
        object_of(ClassKind::denoiser) | required() | synonym("network") | synonym("net"));
  f.add("diffusion_trainer", o.diffusion_trainer, "loss", object_of(ClassKind::trainer));
  f.add("diffusion_sampler", o.diffusion_sampler, "sampler", object_of(ClassKind::sampler));
  f.add("ema_tracker", o.ema_tracker, "average of the weights",
        object_of(ClassKind::callback) | nullable());
  f.add("optimizer", o.optimizer, "optimizer", object_of(ClassKind::optimizer));
  f.add("lr_scheduler", o.lr_scheduler, "learning rate schedule; null: constant",
        object_of(ClassKind::lr_scheduler) | nullable());
  f.add("eval_original_model", o.eval_original_model, "sample from the weights, not their average");
  f.add("muon_cfg", o.muon_cfg, "groups of MuonWithAuxAdam");
}

void describe(Fields& f, DataOptions& o) {
  f.add("train_dataset", o.train_dataset, "training images", dataset());
  f.add("eval_dataset", o.eval_dataset, "noise and labels for validation", dataset());
  f.add("pred_dataset", o.pred_dataset, "noise and labels for prediction", dataset());
  f.add("train_batch_size", o.train_batch_size, "images per batch",
        at_least(1) | synonym("batch_size"));
  f.add("train_num_workers", o.train_num_workers, "loading threads",
        in_range(0, 1024) | synonym("num_workers"));
  f.add("train_prefetch_factor", o.train_prefetch_factor, "batches loaded ahead per thread",
        at_least(1));
  f.add("eval_batch_size", o.eval_batch_size, "images per batch", at_least(1));
  f.add("eval_num_workers", o.eval_num_workers, "loading threads", in_range(0, 1024));
  f.add("pred_batch_size", o.pred_batch_size, "images per batch", at_least(1));
  f.add("pred_num_workers", o.pred_num_workers, "loading threads", in_range(0, 1024));
}

void describe(Fields& f, RunConfig& o) {
  f.add("seed_everything", o.seed_everything, "seed of everything random",
        at_least(0) | rewrites({{"true", "0"}, {"false", "0"}}) | synonym("seed"));
  f.add("tags", o.tags, "names; `exp` names the run folder");
  f.add("run_dir", o.run_dir, "run folder, instead of the rule (Tenun's key)", is_path());
  f.add("torch_hub_dir", o.torch_hub_dir, "folder with pretrained weights", is_path());
  f.add("huggingface_cache_dir", o.huggingface_cache_dir, "folder with pretrained weights",
        is_path());
  f.add("ckpt_path", o.ckpt_path, "checkpoint to resume from", is_path());
  f.ignored({"weights_only"}, "bool or null", "checkpoints never execute code");
  f.nest("trainer", o.trainer, "the training loop");
  f.nest("model", o.model, "network, loss, sampler, optimizer");
  f.nest("data", o.data, "data sets and loading");
}

}  // namespace tenun
