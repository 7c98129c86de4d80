// Configuration schema: classes, defaults, typed values, shipped configurations, documentation.
#include <doctest/doctest.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "tenun/train/config/config.h"
#include "tenun/train/config/describe.h"

namespace {

namespace fs = std::filesystem;
using namespace tenun;

const fs::path kSource = TENUN_SOURCE_DIR;

struct Folder {
  fs::path path = fs::temp_directory_path() / fmt::format("tenun-config-schema-{}", ::getpid());
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
};

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> all_configs() {
  std::vector<std::string> out;
  for (const auto& e : fs::recursive_directory_iterator(kSource / "configs"))
    if (e.path().extension() == ".yaml") out.push_back(e.path().string());
  return out;
}

}  // namespace

TEST_SUITE("train_config_schema") {
  TEST_CASE("classes: longest suffix, kinds, presets") {
    const auto& r = ClassRegistry::instance();
    const auto path = [&](const char* name, ClassKind kind) {
      const auto match = r.find(name, kind);
      return match.info != nullptr ? match.info->path : "";
    };
    const std::string flow = "src.diffusion.flow_matching.";
    CHECK(path("x.y.training_repa_JiT.REPATrainer", ClassKind::trainer) ==
          flow + "training_repa_JiT.REPATrainer");
    CHECK(path("training_repa.REPATrainer", ClassKind::trainer) ==
          flow + "training_repa.REPATrainer");
    CHECK(path("REPATrainer", ClassKind::trainer).empty());
    CHECK(path("AdamW", ClassKind::optimizer) == "torch.optim.AdamW");
    CHECK(path("my.own.AdamW", ClassKind::optimizer).empty());
    CHECK(path("AdamW", ClassKind::sampler).empty());
    CHECK(path("training_repa_JiT_LPIPS_DINO_NoiseGating.constant", ClassKind::loss_weight_fn) ==
          flow + "training.constant");
    for (const auto& info : r.all()) {  // every class finds itself, in full, short and alias form
      CAPTURE(info.path);
      CHECK(r.find(info.path, info.kind).info == &info);
      CHECK(r.find(info.short_name(), info.kind).info == &info);
      for (const auto& other : info.aliases) CHECK(r.find(other, info.kind).info == &info);
    }
    const RunConfig c = parse_config("model: {denoiser: JiT_L_32}", "x.yaml");
    const auto& o = c.model.denoiser.as<JiTOptions>();
    CHECK(o.depth == 24);
    CHECK(o.input_size == 512);
    CHECK(o.in_context_start == 8);
    CHECK(c.model.denoiser.class_name() == "JiT_L_32");
    CHECK_THROWS_AS(static_cast<void>(c.model.denoiser.as<AdamWOptions>()), ConfigError);
    CHECK_THROWS_AS(static_cast<void>(Object().as<AdamWOptions>()), ConfigError);
    CHECK_THROWS_AS(static_cast<void>(Object().info()), ConfigError);
  }

  TEST_CASE("defaults of a minimal configuration") {
    const RunConfig c = parse_config("model: {denoiser: {type: JiT, num_classes: 7}}", "run.yaml");
    CHECK(c.model.conditioner.as<LabelConditionerOptions>().num_classes == 7);
    CHECK(c.model.optimizer.as<AdamWOptions>().lr == 1e-3);
    CHECK(c.model.diffusion_sampler.is<HeunSamplerOptions>());
    CHECK(c.model.diffusion_trainer.as<FlowTrainerOptions>().clamp_target);
    CHECK(c.model.lr_scheduler.empty());
    CHECK(run_directory(c) == "runs/run");
    CHECK(c.trainer.deterministic);
    require_available(c);
  }

  TEST_CASE("values of every kind arrive in their members") {
    const RunConfig c = parse_config(R"(
seed_everything: true
tags: {exp: one, size: 3}
trainer:
  default_root_dir: /tmp/x
  logger: false
  callbacks: simple_ema.SimpleEMA
  precision: bf16
  deterministic: null
  max_epochs: 3
model:
  denoiser:
    class_path: JiT_SLA2.JiTSLA2_B_16
    init_args:
      use_sla2: yes
      num_classes: 2
      sla2_impl: native
      sla2_router_mode: soft
      sla2_start_layer: 6
      attention: {quant: {qk: int8}, tile: 8x8, alpha_per: head_block, block_q: 32}
  diffusion_sampler: {type: AdamLMSamplerJiT, order: 3, last_step: 0.04}
  optimizer: {type: torch.optim.AdamW, betas: [0.9, 0.95], lr: 1e-4, amsgrad: false}
  ema_tracker: null
data:
  train_dataset: {type: data.BatikDataset, classes: [kawung, parang]}
)",
                                     "run.yaml");
    CHECK(c.seed_everything == 0);
    CHECK(c.tags == StringMap{{"exp", "one"}, {"size", "3"}});
    CHECK(run_directory(c) == "/tmp/x/exp_one");
    CHECK(c.trainer.logger.empty());
    REQUIRE(c.trainer.callbacks.size() == 1);
    CHECK(c.trainer.callbacks[0].as<EmaOptions>().decay == 0.9999);
    CHECK(c.trainer.precision == "bf16-mixed");
    CHECK(c.trainer.deterministic);
    CHECK(c.trainer.max_epochs.value() == 3);
    const auto& net = c.model.denoiser.as<JiTOptions>();
    CHECK(net.use_sla2);
    CHECK(net.sla2_impl == Sla2Impl::native);
    CHECK(net.attention.quant.qk == LowBit::int8);
    CHECK(net.attention.tile == TokenOrder::tile_8x8);
    CHECK(net.attention_of(5).method == "dense");
    CHECK(net.attention_of(6).method == "sla2");
    CHECK(net.attention_of(6).block_q == 32);
    CHECK(net.attention_of(6).topk_ratio == 0.05);
    CHECK(net.attention_of(6).mode == RouterMode::soft);
    CHECK(c.model.diffusion_sampler.as<AdamLMSamplerOptions>().order == 3);
    CHECK(c.model.diffusion_sampler.as<AdamLMSamplerOptions>().last_step.value() == 0.04);
    CHECK(c.model.optimizer.as<AdamWOptions>().betas[1] == 0.95);
    CHECK(c.model.ema_tracker.empty());
    CHECK(c.data.train_dataset.as<BatikDatasetOptions>().class_count() == 2);
  }

  TEST_CASE("the SLA2 configuration resolves in full, and trains with the plain trainer") {
    const std::string file = (kSource / "configs/pixelgen/jit_b_sla2.yaml").string();
    const RunConfig c = load_config({file});
    CHECK(c.seed_everything == 1234);
    CHECK(c.trainer.max_steps == 1050000);
    REQUIRE(c.trainer.callbacks.size() == 3);
    CHECK(c.trainer.callbacks[0].as<CheckpointOptions>().every_n_train_steps.value() == 50000);
    CHECK(c.trainer.callbacks[0].as<CheckpointOptions>().save_top_k == -1);
    CHECK(c.trainer.callbacks[2].as<Sla2TwoStageOptions>().hard_topk_ratio == 0.1);
    const auto& net = c.model.denoiser.as<JiTOptions>();
    CHECK(net.sla2_topk_ratio == 0.15);
    const AttentionOptions a = net.attention_of(0);
    CHECK(a.method == "pixelgen_sla2");
    CHECK(a.block_q == 8);
    CHECK(a.mode == RouterMode::soft);
    CHECK(a.linear_range == LinearRange::global);
    const auto& repa = c.model.diffusion_trainer.as<RepaTrainerOptions>();
    CHECK(repa.align_layer == 4);
    CHECK(repa.flow.P_mean == -0.8);
    CHECK(repa.lpips_weight == 0.1);
    CHECK(repa.percept_t_threshold == 0.3);
    CHECK(repa.encoder.is<DinoEncoderOptions>());
    const auto& heun = c.model.diffusion_sampler.as<HeunSamplerOptions>();
    CHECK(heun.exact_henu);
    CHECK(heun.guidance == 2.0);
    CHECK(heun.guidance_interval_max == 0.9);
    CHECK(c.model.optimizer.as<AdamWOptions>().lr == 1e-4);
    CHECK(c.model.optimizer.as<AdamWOptions>().weight_decay == 0.0);
    CHECK(c.data.train_batch_size == 32);
    CHECK(run_directory(c) == "./universal_pix_workdirs/exp_jit_b_pixel_repa_4_sla2_lpips_pdino");
    CHECK(config_notices(c).size() == 1);
    CHECK_THROWS_AS(require_available(c), ConfigError);

    const RunConfig plain =
        load_config({file}, parse_overrides({"--model.diffusion_trainer.class_path="
                                             "src.diffusion.flow_matching.training_pixel."
                                             "PixelFlowMatchingTrainer",
                                             "--model.diffusion_trainer.init_args.lognorm_t=true",
                                             "--trainer.max_steps", "10"}));
    require_available(plain);
    CHECK(plain.model.diffusion_trainer.as<FlowTrainerOptions>().lognorm_t);
    CHECK(!plain.model.diffusion_trainer.as<FlowTrainerOptions>().clamp_target);
    CHECK(plain.trainer.max_steps == 10);
  }

  TEST_CASE("every configuration that ships resolves, and its resolved form parses to the same") {
    const auto files = all_configs();
    CHECK(files.size() >= 11);
    const Folder folder;
    for (const auto& file : files) {
      CAPTURE(file);
      const RunConfig c = load_config({file});
      const std::string text = resolved_yaml(c);
      const RunConfig again = load_config({folder.write(fs::path(file).filename().string(), text)});
      CHECK(resolved_yaml(again) == text);
      CHECK(run_directory(again) == run_directory(c));
      if (file.find("pixelgen") == std::string::npos ||
          file.find("jit_b.yaml") != std::string::npos)
        require_available(c);
    }
    for (const auto& [name, ratio, block] :
         {std::tuple("max_speed", 0.05, 16), std::tuple("balanced", 0.15, 8),
          std::tuple("high_quality", 0.25, 4)}) {
      const RunConfig c =
          load_config({(kSource / fmt::format("configs/sla2_{}.yaml", name)).string()});
      const auto a = c.model.denoiser.as<JiTOptions>().attention_of(0);
      CHECK(a.method == "sla2");
      CHECK(a.topk_ratio == ratio);
      CHECK(a.block_q == block);
    }
    const RunConfig quick = load_config({(kSource / "configs/quickstart.yaml").string()});
    CHECK(run_directory(quick) == "runs/quickstart");
    CHECK(quick.model.denoiser.as<JiTOptions>().tokens() == 256);
  }

  TEST_CASE("later files and flags win") {
    const Folder folder;
    const auto first =
        folder.write("1.yaml", "model: {denoiser: JiT}\ntrainer: {max_steps: 1, max_epochs: 1}\n");
    const auto second = folder.write("2.yaml", "trainer: {max_steps: 2}\n");
    CHECK(load_config({first, second}).trainer.max_steps == 2);
    CHECK(load_config({second, first}).trainer.max_steps == 1);
    const RunConfig c = load_config({first, second}, parse_overrides({"--trainer.max_steps=3"}));
    CHECK(c.trainer.max_steps == 3);
    CHECK(c.trainer.max_epochs.value() == 1);
    CHECK(c.config_name == "2");
    CHECK_THROWS_AS(static_cast<void>(load_config({})), UsageError);
    CHECK_THROWS_AS(static_cast<void>(load_config({(folder.path / "none.yaml").string()})),
                    ConfigError);
  }

  TEST_CASE("the starter configuration works as it is") {
    const RunConfig c = parse_config(starter_config_yaml(), "starter.yaml");
    require_available(c);
    CHECK(c.model.denoiser.as<JiTOptions>().attention.method == "sla2");
    CHECK(c.data.train_dataset.as<BatikDatasetOptions>().classes.size() == 4);
  }

  TEST_CASE("every field has documentation; docs/config.md is current") {
    for (const auto& info : ClassRegistry::instance().all()) {
      Object object(info);
      CHECK_MESSAGE(!info.doc.empty(), info.path);
      const Fields fields = object.fields();
      for (const auto& f : fields.all()) CHECK_MESSAGE(!f.doc.empty(), info.path << " " << f.name);
    }
    const fs::path page = kSource / "docs/config.md";
    const std::string text = config_reference_markdown();
    if (std::getenv("TENUN_WRITE_DOCS") != nullptr) std::ofstream(page) << text;
    CHECK_MESSAGE(
        read_text(page) == text,
        "run the suite train_config_schema once with TENUN_WRITE_DOCS=1 to write docs/config.md");
  }
}
