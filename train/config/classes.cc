// The table of everything that `class_path` can name, in the order of the reference.
#include "tenun/train/config/describe.h"
#include "tenun/train/config/registry.h"

namespace tenun {
namespace {

const char* const kPerceptual =
    "it arrives with the perceptual losses; use PixelFlowMatchingTrainer or JiTTrainer meanwhile";

std::string src(const char* path) { return std::string("src.") + path; }

void denoisers(ClassRegistry& r) {
  constexpr auto kind = ClassKind::denoiser;
  r.add<JiTOptions>(kind, src("models.transformer.JiT.JiT"), "the plain JiT network");
  const auto preset = [&](const char* name, const char* doc, JiTOptions (*make)()) {
    r.add<JiTOptions>(kind, src("models.transformer.JiT.") + name, doc, make);
  };
  preset("JiT_B_16", "JiT-B, patch 16, 256 px", [] { return jit_preset('B', 16); });
  preset("JiT_B_32", "JiT-B, patch 32, 512 px", [] { return jit_preset('B', 32); });
  preset("JiT_L_16", "JiT-L, patch 16, 256 px", [] { return jit_preset('L', 16); });
  preset("JiT_L_32", "JiT-L, patch 32, 512 px", [] { return jit_preset('L', 32); });
  preset("JiT_H_16", "JiT-H, patch 16, 256 px", [] { return jit_preset('H', 16); });
  preset("JiT_H_32", "JiT-H, patch 32, 512 px", [] { return jit_preset('H', 32); });
  const auto sla2 = [&](const char* name, const char* doc, JiTOptions (*make)()) {
    r.add<JiTOptions>(kind, src("models.transformer.JiT_SLA2.") + name, doc, make,
                      describe_jit_sla2);
  };
  sla2("JiTSLA2", "JiT with SLA2 attention", [] { return JiTOptions{}; });
  sla2("JiTSLA2_B_16", "JiTSLA2 with the sizes of JiT_B_16", [] { return jit_preset('B', 16); });
  sla2("JiTSLA2_L_16", "JiTSLA2 with the sizes of JiT_L_16", [] { return jit_preset('L', 16); });
  sla2("JiTSLA2_H_16", "JiTSLA2 with the sizes of JiT_H_16", [] { return jit_preset('H', 16); });
  for (const char* path :
       {"models.transformer.dit_c2i_baseline.FlattenDiT", "models.transformer.JiT_T2I.JiT_T2I"})
    r.add<OpenOptions>(kind, src(path), "latent and text-to-image networks of the original")
        .unavailable = "it is not planned for this release; use JiT or JiTSLA2";
}

void trainers(ClassRegistry& r) {
  constexpr auto kind = ClassKind::trainer;
  r.add<FlowTrainerOptions>(kind, "tenun.diffusion.JiTTrainer",
                            "flow matching with image prediction, exactly as in the JiT paper", [] {
                              FlowTrainerOptions o;
                              o.lognorm_t = true;
                              o.P_mean = -0.8;
                              o.P_std = 0.8;
                              o.clamp_target = true;
                              return o;
                            });
  r.add<FlowTrainerOptions>(
      kind, src("diffusion.flow_matching.training_pixel.PixelFlowMatchingTrainer"),
      "flow matching with image prediction; only the prediction's denominator is clamped",
      [] { return FlowTrainerOptions{}; }, describe_pixel_trainer);
  r.add<FlowTrainerOptions>(
      kind, src("diffusion.flow_matching.training.FlowMatchingTrainer"),
      "flow matching with velocity prediction",
      [] {
        FlowTrainerOptions o;
        o.prediction = Prediction::velocity;
        return o;
      },
      describe_flow_trainer);
  const auto repa = [&]<RepaLosses losses>(const char* module, const char* doc) {
    r.add<RepaTrainerOptions>(
         kind, src("diffusion.flow_matching.") + module + ".REPATrainer", doc,
         [] {
           RepaTrainerOptions o;
           if (losses == RepaLosses::features) {
             o.flow.prediction = Prediction::velocity;
           } else {
             o.flow.P_mean = -0.8;
             o.flow.P_std = 0.8;
             o.flow.clamp_target = true;
           }
           return o;
         },
         [](Fields& f, RepaTrainerOptions& o) { describe_repa(f, o, losses); })
        .unavailable = kPerceptual;
  };
  repa.template operator()<RepaLosses::features>("training_repa", "velocity prediction + REPA");
  repa.template operator()<RepaLosses::jit>("training_repa_JiT", "image prediction + REPA");
  repa.template operator()<RepaLosses::lpips>("training_repa_JiT_LPIPS", "the same + LPIPS");
  repa.template operator()<RepaLosses::dino>("training_repa_JiT_LPIPS_DINO",
                                             "the same + LPIPS + DINO features");
  repa.template operator()<RepaLosses::gated>("training_repa_JiT_LPIPS_DINO_NoiseGating",
                                              "the same, both only for t above a threshold");
  for (const char* name : {"VPTrainer", "DDPMTrainer"})
    r.add<OpenOptions>(kind, src("diffusion.ddpm.training.") + name, "noise prediction, legacy")
        .unavailable = "it is not planned; use PixelFlowMatchingTrainer";
}

void samplers(ClassRegistry& r) {
  constexpr auto kind = ClassKind::sampler;
  const std::string module = src("diffusion.flow_matching.");
  r.add<HeunSamplerOptions>(kind, module + "sampling.HeunSamplerJiT",
                            "second order, for networks that predict the image");
  r.add<EulerSamplerOptions>(kind, module + "sampling.EulerSamplerJiT",
                             "first order, for networks that predict the image");
  r.add<AdamLMSamplerOptions>(kind, module + "adam_sampling.AdamLMSamplerJiT",
                              "Adams-Bashforth, for networks that predict the image")
      .aliases = {module + "sampling.AdamLMSamplerJiT"};
  r.add<HeunSamplerOptions>(kind, module + "sampling.HeunSampler",
                            "second order, for networks that predict the velocity", [] {
                              HeunSamplerOptions o;
                              o.prediction = Prediction::velocity;
                              return o;
                            });
  r.add<EulerSamplerOptions>(kind, module + "sampling.EulerSampler",
                             "first order, for networks that predict the velocity", [] {
                               EulerSamplerOptions o;
                               o.prediction = Prediction::velocity;
                               return o;
                             });
  r.add<AdamLMSamplerOptions>(kind, module + "adam_sampling.AdamLMSampler",
                              "Adams-Bashforth, for networks that predict the velocity",
                              [] {
                                AdamLMSamplerOptions o;
                                o.prediction = Prediction::velocity;
                                return o;
                              })
      .aliases = {module + "sampling.AdamLMSampler"};
  r.add<OpenOptions>(kind, module + "sampling.EulerSamplerJiTAutoGuidance",
                     "guidance by a weaker network")
      .unavailable = "it arrives with a later release; use EulerSamplerJiT";
}

void functions(ClassRegistry& r) {
  const std::string flow = src("diffusion.flow_matching.");
  r.add<NoOptions>(ClassKind::scheduler, flow + "scheduling.LinearScheduler",
                   "x_t = t x + (1 - t) noise");
  for (const char* name :
       {"GVPScheduler", "ConstScheduler", "GammaScheduler", "VPScheduler", "VPBetaScheduler"})
    r.add<OpenOptions>(ClassKind::scheduler, flow + "scheduling." + name,
                       "another path between noise and data")
        .unavailable = "it is not planned; use LinearScheduler";
  const std::string guidance = src("diffusion.base.guidance.");
  r.add<NoOptions>(ClassKind::guidance_fn, guidance + "simple_guidance_fn",
                   "v_uncond + guidance (v_cond - v_uncond)");
  r.add<NoOptions>(ClassKind::guidance_fn, guidance + "c3_guidance_fn",
                   "guides the first three channels only")
      .unavailable = "use simple_guidance_fn: images have three channels";
  r.add<NoOptions>(ClassKind::guidance_fn, guidance + "guidance_fn_with_rescale",
                   "guidance with the variance of the conditional prediction")
      .unavailable = "it arrives with a later release; use simple_guidance_fn";
  r.add<NoOptions>(ClassKind::lms_transform_fn, flow + "adam_sampling.nop", "the time itself");
  r.add<NoOptions>(ClassKind::step_fn, flow + "sampling.ode_step_fn", "x + v dt");
  for (const char* name :
       {"sde_step_fn", "sde_mean_step_fn", "sde_preserve_step_fn", "sid2_step_fn"})
    r.add<NoOptions>(ClassKind::step_fn, flow + "sampling." + name, "a stochastic step")
        .unavailable = "stochastic steps arrive with a later release; use ode_step_fn";
  const auto weight = [&](const std::string& name, const char* doc) {
    auto& info = r.add<NoOptions>(ClassKind::loss_weight_fn, flow + "training." + name, doc);
    for (const char* module :
         {"training_pixel", "training_repa", "training_repa_JiT", "training_repa_JiT_LPIPS",
          "training_repa_JiT_LPIPS_DINO", "training_repa_JiT_LPIPS_DINO_NoiseGating"})
      info.aliases.push_back(flow + module + "." + name);
    if (name != "constant")
      info.unavailable = "weights over t arrive with a later release; use constant";
  };
  weight("constant", "1");
  weight("inverse_sigma", "1 / sigma^2");
  weight("snr", "alpha / sigma");
  weight("minsnr", "alpha / sigma, at least 5");
  weight("maxsnr", "alpha / sigma, at most 5");
}

void parts(ClassRegistry& r) {
  r.add<LabelConditionerOptions>(ClassKind::conditioner,
                                 src("models.conditioner.class_label.LabelConditioner"),
                                 "class labels");
  r.add<PlaceHolderConditionerOptions>(
       ClassKind::conditioner, src("models.conditioner.place_holder.PlaceHolderConditioner"),
       "random labels")
      .unavailable = "it is not planned; use LabelConditioner";
  r.add<OpenOptions>(ClassKind::conditioner,
                     src("models.conditioner.qwen3_text_encoder.Qwen3TextEncoder"), "text prompts")
      .unavailable = "text conditions are not planned; use LabelConditioner";
  r.add<PixelAEOptions>(ClassKind::vae, src("models.autoencoder.pixel.PixelAE"),
                        "no autoencoder: the network works on pixels");
  r.add<LatentAEOptions>(ClassKind::vae, src("models.autoencoder.latent.LatentAE"),
                         "Stable Diffusion's autoencoder")
      .unavailable = "latent diffusion is not planned; use PixelAE";
  r.add<DinoEncoderOptions>(ClassKind::encoder, src("models.encoder.DINOv2"), "DINOv2 ViT-B/14")
      .unavailable = "it arrives with the perceptual losses";
  r.add<NoOptions>(ClassKind::encoder, src("models.encoder.IndentityMapping"), "no encoder")
      .unavailable = "it arrives with the perceptual losses";

  r.add<AdamWOptions>(ClassKind::optimizer, "torch.optim.AdamW", "Adam, decoupled weight decay")
      .aliases = {"torch.optim.adamw.AdamW"};
  r.add<SgdOptions>(ClassKind::optimizer, "torch.optim.SGD", "gradient descent with momentum")
      .aliases = {"torch.optim.sgd.SGD"};
  r.add<OpenOptions>(ClassKind::optimizer, "torch.optim.Adam", "Adam with L2 penalty").unavailable =
      "use torch.optim.AdamW, with weight_decay 0 it is the same";
  r.add<OpenOptions>(ClassKind::optimizer, "muon.MuonWithAuxAdam", "Muon for matrices, else Adam")
      .unavailable = "it arrives with a later release; use torch.optim.AdamW meanwhile";
  r.add<ConstantWithWarmupOptions>(ClassKind::lr_scheduler,
                                   src("utils.lr_scheduler.ConstantWithWarmup"),
                                   "linear rise, then constant");
  r.add<CosineWithWarmupOptions>(ClassKind::lr_scheduler, "tenun.lr_scheduler.CosineWithWarmup",
                                 "linear rise, then half a cosine");
}

void callbacks(ClassRegistry& r) {
  constexpr auto kind = ClassKind::callback;
  r.add<CheckpointOptions>(kind, src("callbacks.model_checkpoint.CheckpointHook"),
                           "saves checkpoints")
      .aliases = {"lightning.pytorch.callbacks.ModelCheckpoint",
                  "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint"};
  r.add<EmaOptions>(kind, src("callbacks.simple_ema.SimpleEMA"),
                    "exponential moving average of the weights");
  r.add<SampleGridOptions>(kind, "tenun.callbacks.SampleGrid",
                           "a picture with samples every so many steps");
  r.add<SaveImagesOptions>(kind, src("callbacks.save_images.SaveImagesHook"),
                           "writes the images of validation and prediction");
  r.add<MidTrainingSamplerOptions>(kind, src("callbacks.mid_training_sampler.MidTrainingSampler"),
                                   "samples with few steps while training");
  r.add<GradientMonitorOptions>(kind, src("callbacks.grad.GradientMonitor"),
                                "logs gradient norms before clipping");
  r.add<LRResyncOptions>(kind, src("callbacks.lr_resume.LRResyncCallback"),
                         "sets schedules to the resumed step");
  r.add<OpenOptions>(kind, "lightning.pytorch.callbacks.LearningRateMonitor",
                     "the learning rate is always logged");
  r.add<Sla2TwoStageOptions>(kind, src("utils.sla2_training.SLA2TwoStageScheduler"),
                             "soft routing first, then hard");
  r.add<RouterScheduleOptions>(kind, src("utils.sla2_training.RouterParameterScheduler"),
                               "changes the top-k ratio linearly");
  r.add<Sla2QatOptions>(kind, src("utils.sla2_training.SLA2QATCallback"),
                        "logs sparsity and mixing weights");
  r.add<AttentionMonitorOptions>(kind, src("utils.sla2_training.QuantizedAttentionMonitor"),
                                 "logs mean mixing weights");

  auto& wandb = r.add<WandbLoggerOptions>(
      ClassKind::logger, "lightning.pytorch.loggers.WandbLogger", "Weights & Biases");
  wandb.aliases = {"lightning.pytorch.loggers.wandb.WandbLogger"};
  wandb.notice =
      "WandbLogger: nothing is sent anywhere; metrics.jsonl and TensorBoard events are written";
  r.add<TensorBoardLoggerOptions>(ClassKind::logger, "lightning.pytorch.loggers.TensorBoardLogger",
                                  "TensorBoard event files")
      .aliases = {"lightning.pytorch.loggers.tensorboard.TensorBoardLogger"};
  auto& csv = r.add<OpenOptions>(ClassKind::logger, "lightning.pytorch.loggers.CSVLogger", "CSV");
  csv.notice = "CSVLogger: metrics.jsonl is written instead";
  r.add<NoOptions>(ClassKind::plugin, src("plugins.bd_env.BDEnvironment"),
                   "of the original's cluster; without effect");
}

void datasets(ClassRegistry& r) {
  constexpr auto kind = ClassKind::dataset;
  r.add<ImageFolderOptions>(kind, src("data.dataset.imagenet.PixImageNet"),
                            "a folder of class folders of images");
  r.add<BatikDatasetOptions>(kind, "tenun.data.BatikDataset",
                             "procedural batik images in twenty classes, no files needed");
  r.add<RandomNOptions>(kind, src("data.dataset.randn.ClassLabelRandomNDataset"),
                        "seeded noise with class labels, to sample from");
  r.add<RandomNOptions>(kind, src("data.dataset.randn.RandomNDataset"), "the same");
  r.add<OpenOptions>(kind, src("data.dataset.imagenet.LocalCachedDataset"), "stored latents")
      .unavailable = "latent diffusion is not planned; use PixImageNet";
  for (const char* path :
       {"data.dataset.image_txt.ImageText", "data.dataset.geneval.GenEvalDataset",
        "data.dataset.dpg.DPGDataset", "data.dataset.blip3o_dataset.WebDatasetPackedDataset"})
    r.add<OpenOptions>(kind, src(path), "text and images").unavailable =
        "text conditions are not planned; use PixImageNet";
}

}  // namespace

void register_config_classes(ClassRegistry& r) {
  denoisers(r);
  trainers(r);
  samplers(r);
  functions(r);
  parts(r);
  datasets(r);
  callbacks(r);
}

}  // namespace tenun
