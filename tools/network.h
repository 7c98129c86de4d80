// A trained network as the subcommands load it: its configuration, its weights, the state of its
// attention.
#pragma once
#include <string>

#include "tenun/train/model.h"

namespace tenun::tools {

/// The configuration beside a checkpoint: RUN/config.yaml for RUN/checkpoints/step-N. UsageError if
/// there is none.
[[nodiscard]] std::string config_beside(const std::string& ckpt);
/// What all samplers have in common, of whatever class `sampler` is.
[[nodiscard]] SamplerOptions& sampler_options(Object& sampler);
/// UsageError for labels of --classes that the network does not know.
void check_classes(const std::vector<int64_t>& classes, const Model& model);
/// Weights, and the state of a checkpoint folder (mode, k, ...); the log tells what was taken.
void load_network(Model& model, const std::string& ckpt);

}  // namespace tenun::tools
