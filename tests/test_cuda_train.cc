// Whole training runs on the device, with every attention method, against the same runs on the CPU.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <cmath>
#include <string>
#include <vector>

#include "tenun/core/io/safetensors.h"
#include "tenun/init.h"
#include "tenun/ops/attention/attention.h"
#include "tenun/tests/emulated_util.h"
#include "tenun/tests/train_util.h"
#include "tenun/train/model.h"

namespace {
using namespace tenun;
using namespace tenun::test;

std::string device() { return gpu().type == DeviceType::cuda ? "cuda" : "emulated"; }
// 64 tokens and two in front of them, in a few blocks: what a tile of 64 lacks is emulated, too.
std::vector<std::string> flags(const std::string& method, const std::string& where) {
  return {"--trainer.max_steps=10",
          "--trainer.accelerator=" + where,
          "--trainer.gradient_clip_val=1.0",
          "--model.denoiser.init_args.input_size=32",
          "--data.train_dataset.init_args.resolution=32",
          "--model.denoiser.init_args.attention={method: " + method +
              ", block_q: 32, block_k: 16, topk_ratio: 0.3}"};
}
std::vector<double> losses(const std::string& run) {
  std::vector<double> all;
  for (const Json& row : rows(run))
    if (const Json* loss = row.find("loss")) all.push_back(loss->as_double());
  return all;
}
// The largest distance of two loss curves, as a share of the loss.
double apart(const std::string& a, const std::string& b) {
  const auto x = losses(a), y = losses(b);
  REQUIRE(x.size() == 10);
  REQUIRE(y.size() == 10);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x[i] - y[i]) / y[i]);
  return worst;
}

}  // namespace

TEST_SUITE("cuda_train") {
  TEST_CASE("ten steps with every attention method follow the CPU's loss curve") {
    const Quiet quiet;
    const std::string where = device();
    for (const AttentionMethod m : available_attention_methods()) {
      const TempDir dir;
      const std::string method(name(m));
      go(dir / "cpu", flags(method, "cpu"));
      go(dir / "device", flags(method, where));
      const double distance = apart(dir / "device", dir / "cpu");
      INFO(method, ": ", distance, " apart");
      CHECK(distance <= 1e-4);
      CHECK(rows(dir / "device")[0].at("device").as_string().starts_with(where));
    }
  }

  TEST_CASE("in bf16, with the low-bit forward, with soft routing, with SGD") {
    const Quiet quiet;
    const std::string where = device();
    struct Variant {
      const char* what;
      std::string flag;
      double tolerance;
    };
    const Variant all[] = {
        {"bf16", "--trainer.precision=bf16-mixed", 2e-2},
        {"f16", "--trainer.precision=16-mixed", 1e-2},
        {"int8", "--model.denoiser.init_args.attention.quant={qk: int8, pv: int8}", 2e-3},
        {"soft", "--model.denoiser.init_args.attention.mode=soft", 1e-4},
        {"sgd",
         "--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.01, momentum: 0.9}}",
         1e-4},
    };
    for (const Variant& v : all) {
      const TempDir dir;
      const auto with = [&](const std::string& on) {
        auto f = flags("sla2", on);
        f.push_back(v.flag);
        return f;
      };
      go(dir / "cpu", with("cpu"));
      go(dir / "device", with(where));
      const double distance = apart(dir / "device", dir / "cpu");
      INFO(v.what, ": ", distance, " apart");
      CHECK(distance <= v.tolerance);
    }
  }

  TEST_CASE("a checkpoint moves between devices, and an interrupted run is the whole run") {
    const Quiet quiet;
    const TempDir dir;
    const std::string where = device();
    auto half = flags("sla2", where);
    half[0] = "--trainer.max_steps=5";
    go(dir / "whole", flags("sla2", where));
    go(dir / "parts", half);
    go(dir / "parts", flags("sla2", where), {.resume = "auto"});
    for (const char* file : {"/model.safetensors", "/ema.safetensors", "/optimizer.safetensors"})
      CHECK((slurp(last(dir / "parts") + file) == slurp(last(dir / "whole") + file)));

    // Pictures of the same weights, drawn here and there.
    const RunConfig c = config(
        dir / "drawn", {"--model.diffusion_sampler={class_path: sampling.EulerSamplerJiT, "
                        "init_args: {num_steps: 3}}",
                        flags("sla2", "cpu")[3], flags("sla2", "cpu")[4], flags("sla2", "cpu")[5]});
    const auto draw = [&](Device on) {
      Model m(c, on);
      m.load_weights(last(dir / "whole"));
      Model::Request r;
      r.labels = {0, 1};
      return m.sample(c.model.diffusion_sampler, r).x;
    };
    const Tensor here = draw(cpu()), there = draw(device_from_name(where));
    REQUIRE(there.device() == cpu());
    const auto a = here.values<double>(), b = there.values<double>();
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
    CHECK(worst <= 1e-4);
  }

  TEST_CASE("a device that is not there is named, with where it was asked for") {
    const TempDir dir;
    if (!has_device(DeviceType::cuda))
      CHECK_THROWS_WITH_AS(go(dir / "a", {"--trainer.accelerator=cuda"}),
                           doctest::Contains("trainer.accelerator: cuda: "), ConfigError);
  }
}
