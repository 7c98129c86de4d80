// Which checkpoints a run keeps: Lightning's ModelCheckpoint rules (every N steps or epochs, the
// best or newest k, the last one).
#pragma once
#include <map>
#include <string>
#include <vector>

#include "tenun/train/checkpoint.h"

namespace tenun {

class Keeper {
 public:
  /// `config` names the hooks; without one, the last checkpoint is kept.
  Keeper(std::string run, const RunConfig& config);
  /// Will after_step save?
  [[nodiscard]] bool due(const Progress& p, bool epoch_end) const;
  /// Saves if a hook says so, and removes what no hook keeps.
  void after_step(const CheckpointParts& p, const std::map<std::string, double>& metrics,
                  bool epoch_end);
  /// At the end and on a signal, unless this step was just saved.
  void at_end(const CheckpointParts& p, const std::map<std::string, double>& metrics);

 private:
  [[nodiscard]] static bool due(const CheckpointOptions& h, const Progress& p, bool epoch_end);
  void write(const CheckpointParts& p, const std::map<std::string, double>& metrics,
             bool weights_only);
  void prune(const std::map<std::string, double>& metrics);
  std::string run_;
  std::vector<CheckpointOptions> hooks_;
  int64_t saved_ = -1;
};

}  // namespace tenun
