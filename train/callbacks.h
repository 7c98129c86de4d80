// Callbacks: what happens around the optimizer steps. They are made from `trainer.callbacks`, in
// its order; checkpoints come last, so that they hold the state after everything else.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tenun/core/io/json.h"
#include "tenun/core/io/tfevents.h"
#include "tenun/train/checkpoint.h"

namespace tenun {

/// What callbacks see of a run.
struct RunView {
  const RunConfig& config;
  const std::string& run;  ///< the run folder
  Model& model;
  Optimizer& optimizer;
  const Progress& progress;
  EventWriter* events;  ///< may be null
  const std::vector<std::string>& class_names;
  double gradient_scale = 1;  ///< with_gradients: times it, the gradients are those of the loss
};

class Callback {
 public:
  virtual ~Callback() = default;
  virtual void start(RunView&) {}
  /// Before the batches of step `step` (counted from 0).
  virtual void before_step(RunView&, int64_t step) { (void)step; }
  /// With the accumulated gradients, before clipping.
  virtual void with_gradients(RunView&, Json& metrics) { (void)metrics; }
  /// Does step `step` (counted from 0) ask the device for results before it ends? It is not
  /// recorded as a graph then.
  [[nodiscard]] virtual bool reads_inside(RunView&, int64_t step) const {
    (void)step;
    return false;
  }
  /// After step number `view.progress.step` (counted from 1).
  virtual void after_step(RunView&, Json& metrics) { (void)metrics; }
  virtual void finish(RunView&) {}
};

/// All but checkpoints and EMA, which the loop itself drives.
[[nodiscard]] std::vector<std::unique_ptr<Callback>> make_callbacks(const RunConfig& config);

/// Samples of fixed noise as one picture in RUN/<save_dir>/step-N.png. Returns the images.
std::vector<Image> write_sample_grid(RunView& view, const SampleGridOptions& o,
                                     const std::string& file);

}  // namespace tenun
