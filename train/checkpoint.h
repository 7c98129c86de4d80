// Checkpoints: RUN/checkpoints/step-N/{model,ema,optimizer}.safetensors and state.json, and the
// link `last`. A folder appears whole or not at all, whenever the run is killed. Tensor names are
// PixelGen's (denoiser.*, ema_denoiser.*). Everything that the next steps depend on is inside, so
// resuming is bitwise exact on the CPU.
#pragma once
#include <optional>
#include <string>

#include "tenun/core/io/json.h"
#include "tenun/train/model.h"
#include "tenun/train/optimizer.h"

namespace tenun {

/// Where a run stands. Steps are optimizer steps.
struct Progress {
  int64_t step = 0;           ///< finished steps
  int64_t epoch = 0;          ///< the next batch: its epoch
  int64_t batch = 0;          ///< and its number in the epoch
  int64_t first_step = 0;     ///< where this line of training began (schedules count from here)
  int64_t images = 0;         ///< seen so far
  double loss_scale = 65536;  ///< of f16 training
  int64_t good_steps = 0;     ///< since the loss scale changed
};

/// What must not change between a checkpoint and its continuation.
struct DataSignature {
  int64_t seed = 0, batch_size = 0, dataset_size = 0, accumulate = 1;
};

struct CheckpointParts {
  Model& model;
  Optimizer& optimizer;
  Ema& ema;
  Progress& progress;
  DataSignature data;
};

/// Writes RUN/checkpoints/step-N (without the optimizer if `weights_only`); returns its path.
std::string save_checkpoint(const std::string& run, const CheckpointParts& parts,
                            bool weights_only = false);
/// Points RUN/checkpoints/last to a step.
void set_last(const std::string& run, int64_t step);
/// The folder to resume from: "auto" is RUN/checkpoints/last, if there is one.
[[nodiscard]] std::optional<std::string> find_resume(const std::string& run,
                                                     const std::string& resume);
/// Restores everything. ConfigError if the configuration's data or attention structure is another
/// one; IoError for a damaged checkpoint. Returns lines for the log (schedule state that the
/// checkpoint wins).
std::vector<std::string> load_checkpoint(const std::string& folder, const CheckpointParts& parts);
/// Mode, k, tau, ... of every attention layer, as in state.json; apply_attention_state sets them.
[[nodiscard]] Json attention_state(const JiT& net);
void apply_attention_state(JiT& net, const Json& state, const std::string& where,
                           std::vector<std::string>* notices);

}  // namespace tenun
