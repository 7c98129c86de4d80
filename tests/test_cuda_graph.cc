// Steps that are recorded and started as a whole (core/device_graph.h), alone and in training.
#include <doctest/doctest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tenun/core/device_graph.h"
#include "tenun/core/tensor.h"
#include "tenun/init.h"
#include "tenun/ops/elementwise.h"
#include "tenun/tests/emulated_util.h"
#include "tenun/tests/train_util.h"

namespace {
using namespace tenun;
using namespace tenun::test;

using Flags = std::vector<std::string>;
// 16 px: 16 tokens and two in front of them, in blocks of 8. Numbers change from step to step:
// the warm-up, dropout, the average's decay. An epoch has 6 batches.
Flags flags(const Flags& more, bool graph) {
  Flags f{"--trainer.max_steps=10",
          "--trainer.accelerator=" +
              std::string(test::gpu().type == DeviceType::cuda ? "cuda" : "emulated"),
          "--trainer.gradient_clip_val=0.5",
          "--model.lr_scheduler={class_path: ConstantWithWarmup, "
          "init_args: {num_warmup_steps: 6}}"};
  f.insert(f.end(), more.begin(), more.end());
  if (graph) f.emplace_back("--trainer.cuda_graph=true");
  return f;
}
std::string attention(const std::string& text) {
  return "--model.denoiser.init_args.attention={method: " + text + "}";
}
void check_same_losses(const std::string& a, const std::string& b) {
  const auto x = rows(a), y = rows(b);
  REQUIRE(x.size() == y.size());
  for (size_t i = 1; i < x.size(); ++i)
    for (const char* key : {"step", "loss", "grad_norm", "lr"}) {
      CAPTURE(key);
      CHECK(x[i].at(key).as_double() == y[i].at(key).as_double());
    }
}

}  // namespace

TEST_SUITE("cuda_graph") {
  TEST_CASE("a recorded step runs when it is whole, with what it was given then") {
    const auto graph = make_device_graph(test::gpu());
    Tensor y = Tensor::zeros({5}, DType::f32, test::gpu()), z = zeros_like(y);
    for (int step = 1; step <= 4; ++step) {
      graph->run([&] {
        std::vector<float> host(5, static_cast<float>(step));
        const Tensor x = Tensor::from(host, {5}).to(test::gpu());  // gone before the step runs
        host.assign(5, -1);
        y.copy_((Var(x) * 10).value());
        z.add_(y);
      });
      CHECK(y.values<float>() == std::vector<float>(5, static_cast<float>(10 * step)));
      CHECK(z.values<float>()[4] == static_cast<float>(5 * step * (step + 1)));
    }
    CHECK(graph->instantiations() == 1);
    graph->run([&] { y.fill_(1); });
    CHECK(graph->instantiations() == 2);
    CHECK(y.values<float>()[0] == 1);
  }

  TEST_CASE("what waits for the device inside of a step is an error, and nothing of it runs") {
    const Device on = test::gpu();
    const auto graph = make_device_graph(on);
    Tensor y = Tensor::full({3}, 7, DType::f32, on);
    Event event(on);
    const auto recorded = [&](auto&& last) {
      graph->run([&] {
        y.fill_(1);
        last();
      });
    };
    CHECK_THROWS_WITH_AS(recorded([&] { (void)y.values<float>(); }),
                         doctest::Contains("copy between devices: the host reads memory of the "
                                           "device, in the middle of a step"),
                         DeviceError);
    CHECK_THROWS_WITH_AS(recorded([&] { (void)y.all_finite(); }),
                         doctest::Contains("all_finite: the host reads"), DeviceError);
    CHECK_THROWS_WITH_AS(recorded([&] { device_ops(on.type).synchronize(); }),
                         doctest::Contains("the host waits for the device"), DeviceError);
    CHECK_THROWS_WITH_AS(recorded([&] { event.record(); }), doctest::Contains("an event"),
                         DeviceError);
    CHECK_THROWS_WITH_AS(recorded([&] { recorded([] {}); }),
                         doctest::Contains("is being recorded already"), DeviceError);
    CHECK_THROWS_AS(recorded([] { throw std::string("any other"); }), std::string);
    CHECK(graph->instantiations() == 0);
    CHECK(y.values<float>() == std::vector<float>(3, 7));
    recorded([] {});
    CHECK(y.values<float>() == std::vector<float>(3, 1));
    CHECK_THROWS_WITH_AS((void)make_device_graph(cpu()), doctest::Contains("cpu has none"),
                         DeviceError);
  }

  TEST_CASE("ten recorded training steps are ten direct ones, bit for bit") {
    const Quiet quiet;
    struct Variant {
      const char* what;
      Flags flags;
    };
    const std::string blocks = ", block_q: 8, block_k: 8, topk_ratio: 0.3";
    const Variant all[] = {
        {"dense", {"--trainer.accumulate_grad_batches=2"}},
        {"sla2", {attention("sla2" + blocks), "--trainer.log_every_n_steps=4"}},
        {"soft", {attention("sla2" + blocks + ", mode: soft")}},
        {"sla", {attention("sla" + blocks)}},
        {"vsa", {attention("vsa" + blocks)}},
        {"bf16, int8",
         {attention("sla2" + blocks + ", quant: {qk: int8, pv: int8}"),
          "--trainer.precision=bf16-mixed"}},
        {"sgd, clipped values",
         {"--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.01, momentum: 0.9}}",
          "--trainer.gradient_clip_algorithm=value"}},
    };
    for (const Variant& v : all) {
      CAPTURE(v.what);
      const TempDir dir;
      go(dir / "direct", flags(v.flags, false));
      go(dir / "graph", flags(v.flags, true));
      check_same_state(dir / "graph", dir / "direct");
      check_same_losses(dir / "graph", dir / "direct");
    }
    CHECK(quiet.said("cuda_graph: 9 of 10 steps were recorded, 1 executable graph was made"));
    CHECK_FALSE(quiet.said("graphs were made"));
  }

  TEST_CASE("pictures, checkpoints, schedules and steps of another size between recorded steps") {
    const Quiet quiet;
    const TempDir dir;
    const Flags more{
        "--trainer.accumulate_grad_batches=4",  // an epoch: 4 batches and 2
        "--trainer.log_every_n_steps=50", attention("sla2, block_q: 8, block_k: 8"),
        "--trainer.callbacks=[{class_path: tenun.callbacks.SampleGrid, init_args: {every_n_steps: "
        "4, num_samples: 2, num_steps: 2}}, {class_path: CheckpointHook, init_args: "
        "{every_n_train_steps: 3, save_last: true}}, {class_path: RouterParameterScheduler, "
        "init_args: "
        "{router_warmup_steps: 5, initial_topk_ratio: 0.9, final_topk_ratio: 0.2}}]"};
    go(dir / "direct", flags(more, false));
    go(dir / "graph", flags(more, true));
    check_same_state(dir / "graph", dir / "direct");
    check_same_losses(dir / "graph", dir / "direct");
    CHECK((slurp(dir / "graph/samples/step-000008.png") ==
           slurp(dir / "direct/samples/step-000008.png")));
  }

  TEST_CASE("an interrupted run with graphs is the whole run without") {
    const Quiet quiet;
    const TempDir dir;
    const Flags more{attention("sla2, block_q: 8, block_k: 8, topk_ratio: 0.3")};
    Flags half = flags(more, true);
    half[0] = "--trainer.max_steps=5";
    go(dir / "whole", flags(more, false));
    go(dir / "parts", half);
    go(dir / "parts", flags(more, true), {.resume = "auto"});
    check_same_state(dir / "parts", dir / "whole");
  }

  TEST_CASE("a loss that is not finite is told with its step, before anything is saved") {
    const Quiet quiet;
    const TempDir dir;
    const Flags more{"--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 1e30}}",
                     "--trainer.log_every_n_steps=50", "--trainer.gradient_clip_val=null",
                     "--model.lr_scheduler=null"};
    CHECK_THROWS_WITH_AS(go(dir / "a", flags(more, true)), doctest::Contains("of step 2 is"),
                         Error);
    CHECK_FALSE(std::filesystem::exists(last(dir / "a")));
  }

  TEST_CASE("what cannot be recorded is refused with the key") {
    const Quiet quiet;
    const TempDir dir;
    const auto refused = [&](const Flags& more, const char* text) {
      CHECK_THROWS_WITH_AS(go(dir / "a", flags(more, true)), doctest::Contains(text), ConfigError);
    };
    refused({"--trainer.accelerator=cpu"}, "trainer.cuda_graph: needs a GPU");
    refused({"--trainer.precision=16-mixed"}, "trainer.cuda_graph: trainer.precision 16-mixed");
    refused({"--trainer.detect_anomaly=true"}, "trainer.cuda_graph: trainer.detect_anomaly");
    refused({"--trainer.callbacks=[{class_path: GradientMonitor}]"}, "GradientMonitor");
    // Its blocks are chosen on the host.
    CHECK_THROWS_WITH_AS(go(dir / "b", flags({attention("vmoba, block_k: 4")}, true)),
                         doctest::Contains("step 2, recorded (trainer.cuda_graph) with attention "
                                           "vmoba: copy between devices: the host reads"),
                         DeviceError);
  }
}
