// Helpers of the tests of training runs: a very small configuration, runs of it, and what they
// leave.
#pragma once
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tenun/core/io/json.h"
#include "tenun/core/log.h"
#include "tenun/tests/io_util.h"
#include "tenun/train/config/config.h"
#include "tenun/train/loop.h"

namespace tenun::test {

/// 16 px images, 16 tokens, 24 images in 6 batches an epoch.
inline constexpr const char* kConfig = R"(
seed_everything: 5
trainer:
  max_steps: 20
  log_every_n_steps: 1
model:
  denoiser:
    class_path: JiT
    init_args: {input_size: 16, patch_size: 4, hidden_size: 16, depth: 2, num_heads: 2,
                num_classes: 2, bottleneck_dim: 8, in_context_len: 2, in_context_start: 1,
                proj_drop: 0.1}
  diffusion_trainer: {class_path: tenun.diffusion.JiTTrainer}
  ema_tracker: {class_path: SimpleEMA, init_args: {decay: 0.9, warmup: true}}
  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.003}}
data:
  train_dataset:
    class_path: tenun.data.BatikDataset
    init_args: {classes: [ceplok, kawung], num_per_class: 12, resolution: 16, seed: 1,
                random_flip: true}
  train_batch_size: 4
  train_num_workers: 1
)";
inline constexpr const char* kSla2 =
    "--model.denoiser.init_args.attention={method: sla2, block_q: 4, block_k: 4, topk_ratio: 0.3}";

struct Quiet {
  logging::Level before = logging::level();
  std::vector<std::string> lines;
  Quiet() {
    logging::set_sink([this](logging::Level, std::string_view s) { lines.emplace_back(s); });
  }
  ~Quiet() { logging::set_sink({}); }
  [[nodiscard]] bool said(std::string_view part) const {
    for (const std::string& l : lines)
      if (contains(l, part)) return true;
    return false;
  }
};

inline RunConfig config(const std::string& run, std::vector<std::string> overrides = {}) {
  overrides.push_back("--run_dir=" + run);
  return parse_config(kConfig, "test.yaml", parse_overrides(overrides));
}
inline TrainResult go(const std::string& run, const std::vector<std::string>& overrides = {},
                      TrainOptions o = {}) {
  o.progress = false;
  return train(config(run, overrides), o);
}
inline std::string last(const std::string& run) { return run + "/checkpoints/last"; }
inline void check_same_state(const std::string& a, const std::string& b) {
  for (const char* f : {"model", "ema", "optimizer"}) {
    CAPTURE(f);
    const std::string x = slurp(last(a) + "/" + f + ".safetensors");
    CHECK(!x.empty());
    CHECK((x == slurp(last(b) + "/" + f + ".safetensors")));
  }
}
inline std::vector<Json> rows(const std::string& run) {
  std::vector<Json> all;
  const std::string text = slurp(run + "/metrics.jsonl");
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    all.push_back(Json::parse(std::string_view(text).substr(at, end - at)));
    at = end + 1;
  }
  return all;
}
inline Json state(const std::string& run) { return Json::parse(slurp(last(run) + "/state.json")); }

}  // namespace tenun::test
