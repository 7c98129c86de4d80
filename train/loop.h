// The training loop: batches -> flow matching loss -> gradients -> optimizer -> EMA -> callbacks,
// as a configuration describes it. A step is one optimizer step; `accumulate_grad_batches` batches
// make one, and the end of an epoch closes it too. Leaves RUN/config.yaml, metrics.jsonl,
// TensorBoard events, checkpoints/, samples/ and loss.png.
//
//   TrainResult r = train(load_config({"run.yaml"}), {.resume = "auto"});
#pragma once
#include <atomic>
#include <functional>
#include <string>

#include "tenun/train/config/config.h"

namespace tenun {

struct TrainOptions {
  std::string resume{};                    ///< "", "auto", or a checkpoint folder
  std::string init_from{};                 ///< weights to start from
  bool progress = true;                    ///< draw a progress line if stderr is a terminal
  bool dry_run = false;                    ///< build everything, report, run nothing
  const std::atomic<int>* stop = nullptr;  ///< not 0: finish the step, save, return
  std::string command{};                   ///< recorded with the metrics
};

struct TrainResult {
  std::string run;  ///< the run folder
  int64_t step = 0;
  double last_loss = 0;  ///< mean over the last logging interval
  bool stopped = false;  ///< by `stop`
};

/// ConfigError, IoError; Error if the loss is not finite (nothing is saved then).
TrainResult train(const RunConfig& config, const TrainOptions& options = {});

}  // namespace tenun
