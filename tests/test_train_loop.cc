// Whole training runs, very small ones.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "tenun/core/allocator.h"
#include "tenun/core/io/json.h"
#include "tenun/core/io/safetensors.h"
#include "tenun/core/log.h"
#include "tenun/tests/io_util.h"
#include "tenun/tests/train_util.h"
#include "tenun/train/checkpoint.h"
#include "tenun/train/loop.h"
#include "tenun/train/run_lock.h"

namespace {
using namespace tenun;
using namespace tenun::test;
namespace fs = std::filesystem;

}  // namespace

TEST_SUITE("train_loop") {
  TEST_CASE("a run: the loss falls, the files are there") {
    const Quiet quiet;
    const TempDir dir;
    const std::string run = dir / "a";
    const TrainResult r = go(run, {"--trainer.max_steps=240"});
    CHECK(r.step == 240);
    CHECK(r.run == run);
    CHECK_FALSE(r.stopped);
    for (const char* f : {"config.yaml", "metrics.jsonl", "loss.png",
                          "checkpoints/last/model.safetensors", "checkpoints/last/ema.safetensors",
                          "checkpoints/last/optimizer.safetensors", "checkpoints/last/state.json"})
      CHECK(fs::exists(run + "/" + f));
    CHECK(fs::read_symlink(last(run)) == "step-240");
    bool events = false;
    for (const auto& e : fs::directory_iterator(run))
      events = events || contains(e.path().filename().string(), "tfevents");
    CHECK(events);
    const auto all = rows(run);
    REQUIRE(all.size() == 241);  // the header and a line for each step
    CHECK(all[0].find("step") == nullptr);
    double first = 0, late = 0;
    for (size_t i = 1; i <= 240; ++i) {
      CHECK(all[i].at("step").as_int() == static_cast<int64_t>(i));
      if (i <= 40) first += all[i].at("loss").as_double();
      if (i > 200) late += all[i].at("loss").as_double();
    }
    CHECK(late < 0.85 * first);
    CHECK(all[7].at("epoch").as_int() == 1);
    CHECK(all[240].at("images").as_int() == 960);
    CHECK(all[240].at("lr").as_double() == 0.003);
    // The saved configuration reads back to the same.
    const RunConfig again = load_config({run + "/config.yaml"});
    CHECK(resolved_yaml(again) == slurp(run + "/config.yaml"));
    CHECK(again.trainer.max_steps == 240);
    // Names are PixelGen's.
    const auto model = load_safetensors(last(run) + "/model.safetensors");
    CHECK(model.find("denoiser.blocks.1.attn.qkv.weight") != nullptr);
    CHECK(load_safetensors(last(run) + "/ema.safetensors").find("ema_denoiser.pos_embed") !=
          nullptr);
  }

  TEST_CASE("an interrupted run is the whole run, bit by bit") {
    const Quiet quiet;
    const TempDir dir;
    // Six batches an epoch; steps of four batches: the epoch's end closes the second step.
    const std::vector<std::string> flags = {"--trainer.accumulate_grad_batches=4",
                                            "--trainer.gradient_clip_val=0.5"};
    const auto with = [&](const char* more) {
      auto f = flags;
      f.emplace_back(more);
      return f;
    };
    (void)go(dir / "whole", with("--trainer.max_steps=12"));
    (void)go(dir / "parts", with("--trainer.max_steps=5"));
    CHECK(state(dir / "parts").at("batch").as_int() == 4);
    const TrainResult r = go(dir / "parts", with("--trainer.max_steps=12"), {.resume = "auto"});
    CHECK(r.step == 12);
    check_same_state(dir / "whole", dir / "parts");
    CHECK((state(dir / "whole") == state(dir / "parts")));
    const auto a = rows(dir / "whole"), b = rows(dir / "parts");
    REQUIRE(a.size() == b.size());
    for (size_t i = 1; i < a.size(); ++i) {
      CHECK(a[i].at("step").as_int() == b[i].at("step").as_int());
      CHECK(a[i].at("loss").as_double() == b[i].at("loss").as_double());
    }
    // The number of workers changes nothing.
    (void)go(dir / "workers",
             {"--trainer.accumulate_grad_batches=4", "--trainer.gradient_clip_val=0.5",
              "--trainer.max_steps=12", "--data.train_num_workers=3"});
    check_same_state(dir / "whole", dir / "workers");
    // Once more with nothing left to do.
    (void)go(dir / "parts", with("--trainer.max_steps=12"), {.resume = "auto"});
    check_same_state(dir / "whole", dir / "parts");
    // Another seed is another run.
    (void)go(dir / "seed",
             {"--trainer.accumulate_grad_batches=4", "--trainer.gradient_clip_val=0.5",
              "--trainer.max_steps=12", "--seed_everything=6"});
    CHECK((slurp(last(dir / "seed") + "/model.safetensors") !=
           slurp(last(dir / "whole") + "/model.safetensors")));
  }

  TEST_CASE("what does not fit is refused") {
    const Quiet quiet;
    const TempDir dir;
    const std::string run = dir / "a";
    (void)go(run, {"--trainer.max_steps=2"});
    CHECK(contains(error_of<ConfigError>([&] { (void)go(run, {"--trainer.max_steps=3"}); }),
                   "--resume auto"));
    const auto resume = [&](const std::string& flag) {
      return error_of<ConfigError>([&] {
        (void)go(run, {"--trainer.max_steps=3", flag}, {.resume = "auto"});
      });
    };
    CHECK(contains(resume("--seed_everything=9"), "seed = 5, now it is 9"));
    CHECK(contains(resume("--data.train_batch_size=3"), "batch_size = 4"));
    CHECK(contains(resume("--trainer.accumulate_grad_batches=2"), "accumulate = 1"));
    CHECK(contains(resume("--data.train_dataset.init_args.num_per_class=11"), "dataset_size"));
    CHECK(contains(resume(kSla2), "block 0 was trained with attention method dense"));
    CHECK(contains(
        error_of<IoError>([&] {
          (void)go(run, {"--trainer.max_steps=3", "--model.denoiser.init_args.hidden_size=32"},
                   {.resume = "auto"});
        }),
        "does not fit"));
    CHECK(contains(error_of<IoError>([&] { (void)go(dir / "b", {}, {.resume = dir / "nowhere"}); }),
                   "no checkpoint"));
    CHECK(contains(error_of<ConfigError>(
                       [&] { (void)go(dir / "c", {"--model.denoiser.init_args.num_classes=1"}); }),
                   "num_classes"));
    CHECK(contains(error_of<ConfigError>([&] {
                     (void)go(dir / "d", {"--data.train_dataset.init_args.resolution=32"});
                   }),
                   "input_size"));
    // A damaged checkpoint.
    const std::string file = last(run) + "/model.safetensors";
    spill(file, slurp(file).substr(0, 1000));
    CHECK(contains(
        error_of<IoError>([&] { (void)go(run, {"--trainer.max_steps=3"}, {.resume = "auto"}); }),
        "model.safetensors"));
    // Nothing to resume with auto is a fresh run.
    CHECK(go(dir / "fresh", {"--trainer.max_steps=1"}, {.resume = "auto"}).step == 1);
    // A dry run leaves nothing.
    (void)go(dir / "dry", {}, {.dry_run = true});
    CHECK_FALSE(fs::exists(dir / "dry"));
  }

  TEST_CASE("16-bit precision trains, and resumes bit by bit") {
    const Quiet quiet;
    const TempDir dir;
    (void)go(dir / "f32", {"--trainer.max_steps=30"});
    const auto exact = rows(dir / "f32");
    for (const char* precision : {"bf16-mixed", "16-mixed"}) {
      CAPTURE(precision);
      const std::string flag = fmt::format("--trainer.precision={}", precision);
      const std::string whole = dir / (std::string("w") + precision),
                        parts = dir / (std::string("p") + precision);
      const TrainResult r = go(whole, {flag, "--trainer.max_steps=30"});
      CHECK(r.step == 30);
      const auto all = rows(whole);
      REQUIRE(all.size() == exact.size());
      for (size_t i = 1; i <= 8; ++i) {
        const double e = exact[i].at("loss").as_double(), v = all[i].at("loss").as_double();
        CHECK(std::abs(v - e) < 0.03 * e);
      }
      const auto model = load_safetensors(last(whole) + "/model.safetensors");
      for (const NamedTensor& t : model.tensors) {
        CHECK(t.tensor.dtype() == DType::f32);
        CHECK(t.tensor.all_finite());
      }
      (void)go(parts, {flag, "--trainer.max_steps=13"});
      (void)go(parts, {flag, "--trainer.max_steps=30"}, {.resume = "auto"});
      check_same_state(whole, parts);
      CHECK((state(whole) == state(parts)));
    }
    CHECK(rows(dir / "w16-mixed").back().at("loss_scale").as_double() > 0);
  }

  TEST_CASE("schedules of the attention's state") {
    const Quiet quiet;
    const TempDir dir;
    const auto layer = [](const std::string& run) {
      return state(run).at("attention").as_array()[0];
    };
    const std::string two =
        "--trainer.callbacks=[{class_path: SLA2TwoStageScheduler, init_args: {warmup_steps: 4, "
        "soft_topk_ratio: 0.5, hard_topk_ratio: 0.25, router_aux_weight_stage1: 0.7}}]";
    (void)go(dir / "a", {kSla2, two, "--trainer.max_steps=3"});
    CHECK(layer(dir / "a").at("mode").as_string() == "soft");
    CHECK(layer(dir / "a").at("topk_ratio").as_double() == 0.5);
    CHECK(layer(dir / "a").at("aux_weight").as_double() == 0.7);
    CHECK(rows(dir / "a").back().find("sla2_router_loss") != nullptr);
    (void)go(dir / "a", {kSla2, two, "--trainer.max_steps=6"}, {.resume = "auto"});
    CHECK(layer(dir / "a").at("mode").as_string() == "hard");
    CHECK(layer(dir / "a").at("topk_ratio").as_double() == 0.25);
    CHECK(layer(dir / "a").at("aux_weight").as_double() == 0);
    CHECK(rows(dir / "a").back().find("sla2_router_loss") == nullptr);
    (void)go(dir / "whole", {kSla2, two, "--trainer.max_steps=6"});
    check_same_state(dir / "a", dir / "whole");
    const std::string router =
        "--trainer.callbacks=[{class_path: RouterParameterScheduler, init_args: "
        "{router_warmup_steps: 4, initial_topk_ratio: 0.6, final_topk_ratio: 0.2}}]";
    (void)go(dir / "b", {kSla2, router, "--trainer.max_steps=3"});
    CHECK(layer(dir / "b").at("topk_ratio").as_double() == doctest::Approx(0.4));
    (void)go(dir / "b", {kSla2, router, "--trainer.max_steps=8"}, {.resume = "auto"});
    CHECK(layer(dir / "b").at("topk_ratio").as_double() == doctest::Approx(0.2));
    const std::string monitor =
        "--trainer.callbacks=[{class_path: QuantizedAttentionMonitor, init_args: "
        "{monitor_frequency: 2}}]";
    (void)go(dir / "c", {kSla2, monitor, "--model.denoiser.init_args.attention.quant.qk=int8",
                         "--trainer.max_steps=3"});
    const std::string error = "denoiser/blocks/0/attn/quant_rel_l1";
    std::vector<int64_t> measured;
    for (const Json& row : rows(dir / "c"))
      if (row.find(error) != nullptr && row.at(error).as_double() > 0)
        measured.push_back(row.at("step").as_int());
    CHECK(measured == std::vector<int64_t>{2});
    // The checkpoint's state wins over the configuration, and the log says so.
    Quiet log;
    (void)go(dir / "b", {kSla2, "--trainer.max_steps=9"}, {.resume = "auto"});
    CHECK(log.said("the checkpoint's schedule state wins"));
    CHECK(layer(dir / "b").at("topk_ratio").as_double() == doctest::Approx(0.2));
  }

  TEST_CASE("dense weights into SLA2 networks") {
    Quiet log;
    const TempDir dir;
    (void)go(dir / "dense", {"--trainer.max_steps=3"});
    const std::string ckpt = last(dir / "dense");
    (void)go(dir / "native", {kSla2, "--trainer.max_steps=1"}, {.init_from = ckpt});
    CHECK(log.said("keep their initial values"));
    CHECK(log.said("blocks.1.attn.sla2.alpha"));
    Model native(config(dir / "x", {kSla2}));
    const WeightsReport r = native.load_weights(ckpt);
    CHECK(r.remapped.empty());
    const auto dense = load_safetensors(ckpt + "/model.safetensors"),
               average = load_safetensors(ckpt + "/ema.safetensors");
    CHECK(native.parameters().find("blocks.0.attn.qkv.weight")->var.value().values<float>() ==
          dense.at("denoiser.blocks.0.attn.qkv.weight").values<float>());
    CHECK(native.average().find("blocks.0.attn.qkv.weight")->var.value().values<float>() ==
          average.at("ema_denoiser.blocks.0.attn.qkv.weight").values<float>());
    // PixelGen's layout has other names.
    const std::vector<std::string> pixelgen = {
        "--model.denoiser={class_path: JiTSLA2, init_args: {input_size: 16, patch_size: 4, "
        "hidden_size: 16, depth: 2, num_heads: 2, num_classes: 2, bottleneck_dim: 8, "
        "in_context_len: 2, in_context_start: 1, use_sla2: true, sla2_topk_ratio: 0.3, "
        "sla2_compression_ratio: 4}}"};
    Model other(config(dir / "y", pixelgen));
    const WeightsReport p = other.load_weights(ckpt);
    CHECK(p.remapped.size() == 2 * 6);
    CHECK(std::find(p.remapped.begin(), p.remapped.end(),
                    "blocks.1.attn.qkv.weight -> blocks.1.attn.sla2.qkv.weight") !=
          p.remapped.end());
    CHECK(contains(p.text, "another attention layout"));
    CHECK(other.parameters().find("blocks.1.attn.sla2.qkv.weight")->var.value().values<float>() ==
          dense.at("denoiser.blocks.1.attn.qkv.weight").values<float>());
    CHECK(go(dir / "pixelgen",
             [&] {
               auto f = pixelgen;
               f.emplace_back("--trainer.max_steps=2");
               return f;
             }(),
             {.init_from = ckpt})
              .step == 2);
    // And back.
    Model back(config(dir / "z"));
    CHECK(back.load_weights(last(dir / "pixelgen")).remapped.size() == 2 * 6);
    Model wide(config(dir / "w", {"--model.denoiser.init_args.depth=3"}));
    CHECK(contains(error_of([&] { (void)wide.load_weights(ckpt); }), "blocks.2.norm1.weight"));
    CHECK(contains(error_of([&] { (void)wide.load_weights(dir / "none"); }), "no such file"));
  }

  TEST_CASE("a loss that is not finite is an error with advice") {
    const Quiet quiet;
    const TempDir dir;
    const auto diverge = [&](const std::string& run, const char* precision) {
      return error_of<Error>([&] {
        (void)go(run, {"--model.optimizer.init_args.lr=1e30", "--trainer.max_steps=200",
                       std::string("--trainer.precision=") + precision});
      });
    };
    const std::string e = diverge(dir / "a", "32-true");
    CHECK(contains(e, "learning rate"));
    CHECK(contains(e, "step "));
    CHECK_FALSE(fs::exists(last(dir / "a")));
    CHECK(contains(diverge(dir / "b", "16-mixed"), "not finite"));
  }

  TEST_CASE("stopping, checkpoints that are kept, samples") {
    const Quiet quiet;
    const TempDir dir;
    std::atomic<int> stop{2};
    const TrainResult r = go(dir / "a", {}, {.stop = &stop});
    CHECK(r.stopped);
    CHECK(r.step == 1);
    CHECK(fs::read_symlink(last(dir / "a")) == "step-1");
    const auto kept = [](const std::string& run) {
      std::vector<std::string> names;
      for (const auto& e : fs::directory_iterator(run + "/checkpoints"))
        if (e.is_directory() && !e.is_symlink()) names.push_back(e.path().filename().string());
      std::sort(names.begin(), names.end());
      return names;
    };
    const auto hook = [](const char* args) {
      return fmt::format("--trainer.callbacks=[{{class_path: CheckpointHook, init_args: {{{}}}}}]",
                         args);
    };
    (void)go(dir / "b", {"--trainer.max_steps=9",
                         hook("every_n_train_steps: 2, save_top_k: 2, save_last: true")});
    CHECK(kept(dir / "b") == std::vector<std::string>{"step-8", "step-9"});
    (void)go(dir / "c", {"--trainer.max_steps=6", hook("every_n_train_steps: 2, save_top_k: -1")});
    CHECK(kept(dir / "c") == std::vector<std::string>{"step-2", "step-4", "step-6"});
    (void)go(dir / "d", {"--trainer.max_steps=13", hook("every_n_epochs: 1, save_top_k: -1")});
    CHECK(kept(dir / "d") == std::vector<std::string>{"step-12", "step-13", "step-6"});
    (void)go(dir / "e", {"--trainer.max_steps=-1", "--trainer.max_epochs=2"});
    CHECK(kept(dir / "e") == std::vector<std::string>{"step-12"});
    (void)go(dir / "f",
             {"--trainer.max_steps=4",
              "--trainer.callbacks=[{class_path: SampleGrid, init_args: {every_n_steps: 2, "
              "num_samples: 3, num_steps: 2}}]"});
    CHECK(fs::exists(dir / "f/samples/step-000002.png"));
    CHECK(fs::exists(dir / "f/samples/step-000004.png"));
    // Sampling is a function of seed and sample number: batches do not matter.
    Model m(config(dir / "g"));
    (void)m.load_weights(last(dir / "f"));
    Object sampler = make_object("sampling.EulerSamplerJiT", ClassKind::sampler);
    sampler.as<EulerSamplerOptions>().num_steps = 3;
    Model::Request q;
    q.labels = {0, 1, 1}, q.seed = 4;
    const auto together = m.sample(sampler, q).x.values<float>();
    q.batch = 2;
    const auto split = m.sample(sampler, q).x.values<float>();
    for (size_t i = 0; i < together.size(); ++i) CHECK(std::abs(together[i] - split[i]) <= 1e-5f);
    q.labels = {2};
    CHECK(m.sample(sampler, q).x.shape() == Shape{1, 3, 16, 16});  // the null class
    q.labels = {3};
    CHECK_THROWS_AS((void)m.sample(sampler, q), const Error&);
  }

  TEST_CASE("one process in a run folder; folders of other names stay") {
    const Quiet quiet;
    const TempDir dir;
    const std::string run = dir / "a";
    {
      const RunLock held(run);
      CHECK_THROWS_WITH_AS((void)go(run), doctest::Contains("another process (process "),
                           const UsageError&);
      CHECK_FALSE(fs::exists(run + "/checkpoints/last"));
    }
    fs::create_directories(run + "/checkpoints/step-100-mine");
    fs::create_directories(run + "/checkpoints/step-");
    CHECK(go(run, {"--trainer.max_steps=2"}).step == 2);
    CHECK(fs::exists(run + "/checkpoints/step-100-mine"));
    CHECK(fs::exists(run + "/checkpoints/step-"));
    // A file in the place of the folder is an error that says so.
    CHECK_THROWS_WITH_AS(RunLock(run + "/config.yaml"), doctest::Contains("cannot be opened"),
                         const IoError&);
  }

  TEST_CASE("no raw allocation after the second step") {
    const Quiet quiet;
    const TempDir dir;
    // The counter after each step, seen through the log of the step.
    std::vector<uint64_t> counts;
    logging::set_sink([&](logging::Level, std::string_view s) {
      if (s.starts_with("step ")) counts.push_back(memory_stats().raw_allocations);
    });
    (void)go(dir / "a", {kSla2, "--trainer.max_steps=12", "--trainer.gradient_clip_val=1"});
    REQUIRE(counts.size() == 12);
    for (size_t i = 2; i < counts.size(); ++i) {
      CAPTURE(i);
      CHECK(counts[i] == counts[1]);
    }
  }
}
