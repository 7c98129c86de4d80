// Keys of optimizers, schedules, callbacks and loggers.
#include "tenun/train/config/describe.h"

namespace tenun {
namespace {

const char* const kOnlyTorch = "of the original's implementation; without effect";

Rule learning_rate() { return at_least(0) | synonym("learning_rate"); }

Rule every() { return at_least(1); }

}  // namespace

void describe(Fields& f, AdamWOptions& o) {
  f.add("lr", o.lr, "learning rate", learning_rate());
  f.add("betas", o.betas, "decay of the first and second moment", in_range(0, 1) | synonym("beta"));
  f.add("eps", o.eps, "added to the root of the second moment", at_least(0));
  f.add("weight_decay", o.weight_decay, "decoupled weight decay", at_least(0) | synonym("wd"));
  f.ignored({"amsgrad", "maximize"}, "false", "only false is supported");
  f.ignored({"foreach", "capturable", "differentiable", "fused"}, "bool or null", kOnlyTorch);
}
void describe(Fields& f, SgdOptions& o) {
  f.add("lr", o.lr, "learning rate", learning_rate());
  f.add("momentum", o.momentum, "momentum", in_range(0, 1));
  f.add("dampening", o.dampening, "dampening of the momentum", in_range(0, 1));
  f.add("weight_decay", o.weight_decay, "L2 penalty", at_least(0) | synonym("wd"));
  f.add("nesterov", o.nesterov, "Nesterov momentum");
  f.ignored({"maximize"}, "false", "only false is supported");
  f.ignored({"foreach", "differentiable", "fused"}, "bool or null", kOnlyTorch);
  f.check([&o]() -> std::optional<Complaint> {
    if (o.nesterov && (o.momentum <= 0 || o.dampening != 0))
      return Complaint{"nesterov", "Nesterov momentum needs a momentum and no dampening",
                       "set momentum above 0 and dampening to 0"};
    return std::nullopt;
  });
}

void describe(Fields& f, MuonGroupOptions& o) {
  f.add("lr", o.lr, "learning rate of matrices", learning_rate());
  f.add("weight_decay", o.weight_decay, "decoupled weight decay", at_least(0));
  f.add("momentum", o.momentum, "momentum", in_range(0, 1));
  f.add("nesterov", o.nesterov, "Nesterov momentum");
  f.add("ns_steps", o.ns_steps, "Newton-Schulz iterations", at_least(1));
}
void describe(Fields& f, MuonAuxOptions& o) {
  f.add("lr", o.lr, "learning rate of everything else", learning_rate());
  f.add("weight_decay", o.weight_decay, "decoupled weight decay", at_least(0));
  f.add("betas", o.betas, "decay of the first and second moment", in_range(0, 1));
  f.add("eps", o.eps, "added to the root of the second moment", at_least(0));
}
void describe(Fields& f, MuonConfig& o) {
  f.nest("muon_group", o.muon_group, "parameters with two or more dimensions");
  f.nest("aux_group", o.aux_group, "all others, by Adam");
}

void describe(Fields& f, ConstantWithWarmupOptions& o) {
  f.add("num_warmup_steps", o.num_warmup_steps, "steps from 0 to the full rate",
        at_least(0) | required() | synonym("warmup_steps"));
}
void describe(Fields& f, CosineWithWarmupOptions& o) {
  f.add("num_warmup_steps", o.num_warmup_steps, "steps from 0 to the full rate",
        at_least(0) | synonym("warmup_steps"));
  f.add("num_training_steps", o.num_training_steps, "end of the cosine; null: trainer.max_steps",
        at_least(1));
  f.add("min_lr_ratio", o.min_lr_ratio, "last rate as a share of the full rate", in_range(0, 1));
}

void describe(Fields& f, CheckpointOptions& o) {
  f.add("every_n_train_steps", o.every_n_train_steps, "save every so many steps",
        at_least(0) | synonym("every_n_steps") | synonym("save_every"));
  f.add("every_n_epochs", o.every_n_epochs, "save every so many epochs", at_least(0));
  f.add("save_top_k", o.save_top_k, "how many to keep: -1 all, 0 none", at_least(-1));
  f.add("save_last", o.save_last, "keep `last` up to date");
  f.add("monitor", o.monitor, "metric that ranks them; null: the newest are kept");
  f.add("mode", o.mode, "whether a low or a high metric is good", choices({"min", "max"}));
  f.add("dirpath", o.dirpath, "folder; null: the run folder", is_path());
  f.add("save_on_exception", o.save_on_exception, "also save when training fails");
  f.add("save_weights_only", o.save_weights_only, "leave out the optimizer state");
  f.ignored({"filename"}, "string or null", "checkpoints are named step-N");
  f.ignored({"verbose", "auto_insert_metric_name", "enable_version_counter"}, "bool",
            "concerns names and messages of the original");
  f.ignored({"save_on_train_epoch_end"}, "bool or null", "steps decide when to save");
  f.ignored({"train_time_interval"}, "null", "steps decide when to save");
}
void describe(Fields& f, SaveImagesOptions& o) {
  f.add("save_dir", o.save_dir, "folder inside the run folder", is_path());
  f.add("save_compressed", o.save_compressed, "write output.npz and only a few PNG files");
}
void describe(Fields& f, EmaOptions& o) {
  f.add("decay", o.decay, "share of the old average kept per update", in_range(0, 1));
  f.add("every_n_steps", o.every_n_steps, "steps between updates", every());
  f.add("warmup", o.warmup, "grow the decay as (1 + n) / (10 + n) up to `decay` (Tenun's key)");
}
void describe(Fields& f, GradientMonitorOptions& o) {
  f.add("norm_type", o.norm_type, "order of the norm", positive());
}
void describe(Fields& f, LRResyncOptions& o) {
  f.add("adjust_t_max", o.adjust_t_max, "also set the end of the schedule to max_steps");
}
void describe(Fields& f, MidTrainingSamplerOptions& o) {
  f.add("sample_every_n_steps", o.sample_every_n_steps, "steps between samples", every());
  f.add("num_samples", o.num_samples, "images per event", at_least(1));
  f.add("save_dir", o.save_dir, "folder inside the run folder", is_path());
  f.add("fast_steps", o.fast_steps, "integration steps", at_least(1));
  f.add("fast_guidance", o.fast_guidance, "guidance scale", at_least(0));
  f.add("async_mode", o.async_mode, "accepted; sampling happens between steps");
}
void describe(Fields& f, SampleGridOptions& o) {
  f.add("every_n_steps", o.every_n_steps, "steps between pictures", every());
  f.add("num_samples", o.num_samples, "images per picture", at_least(1));
  f.add("classes", o.classes, "labels; empty: round robin over all classes", at_least(0));
  f.add("save_dir", o.save_dir, "folder inside the run folder", is_path());
  f.add("num_steps", o.num_steps, "integration steps; null: the sampler's", at_least(1));
  f.add("guidance", o.guidance, "guidance scale; null: the sampler's", at_least(0));
  f.add("seed", o.seed, "seed of the noise, the same every time", at_least(0));
  f.add("ema", o.ema, "sample from the averaged weights");
}
void describe(Fields& f, Sla2QatOptions& o) {
  f.add("log_sparsity", o.log_sparsity, "log the sparsity of each layer every 100 steps");
  f.add("log_alpha_stats", o.log_alpha_stats, "log the mixing weights of each layer");
  f.ignored({"router_lr_scale"}, "number", "without effect in the original too");
  f.ignored({"gradient_clip_val"}, "number or null", "set trainer.gradient_clip_val");
}
void describe(Fields& f, RouterScheduleOptions& o) {
  f.add("router_warmup_steps", o.router_warmup_steps, "steps of the linear change", at_least(1));
  f.add("initial_topk_ratio", o.initial_topk_ratio, "ratio at the first step", in_range(0, 1));
  f.add("final_topk_ratio", o.final_topk_ratio, "ratio at the end", in_range(0, 1));
}
void describe(Fields& f, Sla2TwoStageOptions& o) {
  f.add("warmup_steps", o.warmup_steps, "soft steps, counted from the first step of the run",
        at_least(0));
  f.add("soft_topk_ratio", o.soft_topk_ratio, "ratio of the soft stage", in_range(0, 1));
  f.add("hard_topk_ratio", o.hard_topk_ratio, "ratio of the hard stage", in_range(0, 1));
  f.add("soft_topk_tau", o.soft_topk_tau, "temperature", positive());
  f.add("soft_topk_iters", o.soft_topk_iters, "bisection steps", in_range(1, 200));
  f.add("router_aux_weight_stage1", o.router_aux_weight_stage1, "weight of the error, soft stage",
        at_least(0));
  f.add("router_aux_weight_stage2", o.router_aux_weight_stage2, "weight of the error, hard stage",
        at_least(0));
}
void describe(Fields& f, AttentionMonitorOptions& o) {
  f.add("monitor_frequency", o.monitor_frequency, "steps between log entries", every());
}

void describe(Fields& f, WandbLoggerOptions& o) {
  f.add("project", o.project, "recorded with the run");
  f.add("name", o.name, "recorded with the run");
  f.ignored({"save_dir",
             "version",
             "offline",
             "dir",
             "id",
             "anonymous",
             "log_model",
             "experiment",
             "prefix",
             "checkpoint_name",
             "add_file_policy",
             "entity",
             "notes",
             "tags",
             "config",
             "config_exclude_keys",
             "config_include_keys",
             "allow_val_change",
             "group",
             "job_type",
             "mode",
             "force",
             "reinit",
             "resume",
             "resume_from",
             "fork_from",
             "save_code",
             "tensorboard",
             "sync_tensorboard",
             "monitor_gym",
             "settings"},
            "any", "of the Weights & Biases service");
}
void describe(Fields& f, TensorBoardLoggerOptions& o) {
  f.add("save_dir", o.save_dir, "folder of the event files; null: the run folder", is_path());
  f.add("name", o.name, "subfolder");
  f.add("version", o.version, "subfolder of the subfolder");
  f.ignored({"log_graph", "default_hp_metric", "prefix", "sub_dir"}, "any",
            "of the original's implementation; without effect");
}

}  // namespace tenun
