// One optimizer step, from batches to new weights and their average, and what it found on the way.
// The host waits for nothing in it (but in f16, where an overflow decides whether to update), so a
// GPU can take it as one task graph (core/device_graph.h, trainer.cuda_graph).
//
//   step.run(batches, progress, schedule.factor(progress.step), {});
//   for (const StepNumbers& n : step.read()) ...      // now, or many steps later
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tenun/core/device_graph.h"
#include "tenun/train/checkpoint.h"
#include "tenun/train/data/loader.h"

namespace tenun {

struct StepNumbers {
  int64_t step;      ///< counted from 1
  double loss, aux;  ///< means over the batches; loss includes aux
  double grad_norm;  ///< before clipping
};

class TrainStep {
 public:
  /// ConfigError if trainer.cuda_graph cannot be had.
  TrainStep(const RunConfig& config, Model& model, Optimizer& optimizer, Ema& ema);

  struct Hooks {
    std::function<void(double gradient_scale)> with_gradients{};  ///< before clipping
    bool reads = false;  ///< does it, or anything else in this step, wait for the device?
  };
  /// Step progress.step + 1; false if its gradients were not finite and nothing was updated, which
  /// happens in f16 only. There is room for its numbers until full().
  bool run(std::span<const Batch> batches, const Progress& progress, double lr_factor,
           const Hooks& hooks);
  /// Of the steps since the last call; waits for the device.
  [[nodiscard]] std::vector<StepNumbers> read();
  /// "9 of 10 steps were recorded, ..."; "" without trainer.cuda_graph.
  [[nodiscard]] std::string graph_report() const;
  [[nodiscard]] bool full() const { return std::ssize(unread_) == numbers_.dim(0); }

 private:
  struct Unread {
    int64_t step, batches;
  };
  bool update(std::span<const Batch> batches, const Progress& progress, double lr_factor,
              const Hooks& hooks, const Tensor& numbers);
  void backward(const Batch& b, double factor, const Tensor& numbers);
  void clip_values(double limit);

  const RunConfig& c_;
  FlowTrainerOptions flow_;
  Model& model_;
  Optimizer& optimizer_;
  Ema& ema_;
  DType autocast_;
  std::unique_ptr<DeviceGraph> graph_;
  int64_t steps_ = 0, recorded_ = 0;
  Tensor numbers_;  // f64 (steps, 3) on the device: sums of losses and auxiliary losses, the norm
  std::vector<Unread> unread_;
};

}  // namespace tenun
