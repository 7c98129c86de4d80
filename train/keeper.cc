#include "tenun/train/keeper.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"

namespace tenun {
namespace {

namespace fs = std::filesystem;

std::vector<CheckpointOptions> checkpoint_options(const RunConfig& c) {
  std::vector<CheckpointOptions> all;
  for (const Object& cb : c.trainer.callbacks)
    if (cb.is<CheckpointOptions>()) all.push_back(cb.as<CheckpointOptions>());
  if (all.empty()) {
    all.emplace_back();
    all.back().save_last = true;
  }
  return all;
}

}  // namespace

Keeper::Keeper(std::string run, const RunConfig& config)
    : run_(std::move(run)), hooks_(checkpoint_options(config)) {}

bool Keeper::due(const CheckpointOptions& h, const Progress& p, bool epoch_end) {
  const bool now =
      (h.every_n_train_steps.value_or(0) > 0 && p.step % *h.every_n_train_steps == 0) ||
      (h.every_n_epochs.value_or(0) > 0 && epoch_end && p.epoch % *h.every_n_epochs == 0);
  return now && (h.save_top_k != 0 || h.save_last);
}
bool Keeper::due(const Progress& p, bool epoch_end) const {
  return std::any_of(hooks_.begin(), hooks_.end(),
                     [&](const CheckpointOptions& h) { return due(h, p, epoch_end); });
}

void Keeper::after_step(const CheckpointParts& p, const std::map<std::string, double>& metrics,
                        bool epoch_end) {
  bool weights_only = true;
  for (const CheckpointOptions& h : hooks_)
    if (due(h, p.progress, epoch_end)) weights_only = weights_only && h.save_weights_only;
  if (due(p.progress, epoch_end)) write(p, metrics, weights_only);
}

void Keeper::at_end(const CheckpointParts& p, const std::map<std::string, double>& metrics) {
  if (saved_ != p.progress.step) write(p, metrics, false);
}

void Keeper::write(const CheckpointParts& p, const std::map<std::string, double>& metrics,
                   bool weights_only) {
  (void)save_checkpoint(run_, p, weights_only);
  saved_ = p.progress.step;
  set_last(run_, saved_);
  prune(metrics);
}

void Keeper::prune(const std::map<std::string, double>& metrics) {
  const std::string folder = run_ + "/checkpoints", scores_file = folder + "/scores.json";
  Json scores =
      fs::exists(scores_file) ? Json::parse(read_file(scores_file), scores_file) : Json::object();
  std::vector<int64_t> steps;
  for (const auto& e : fs::directory_iterator(folder)) {
    const std::string n = e.path().filename().string();
    // Folders of other names ("step-100-backup") are the user's.
    int64_t step = 0;
    const char* const end = n.data() + n.size();
    if (!n.starts_with("step-") || !e.is_directory() || e.is_symlink()) continue;
    const auto [stop, problem] = std::from_chars(n.data() + 5, end, step);
    if (problem == std::errc() && stop == end) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  std::vector<int64_t> keep{saved_};
  for (const CheckpointOptions& h : hooks_) {
    if (h.save_top_k < 0) return;
    std::vector<std::pair<double, int64_t>> ranked;
    if (h.monitor) {
      const auto it = metrics.find(*h.monitor);
      check<ConfigError>(it != metrics.end(), "CheckpointHook.monitor",
                         "'{}' is not a metric of this run", *h.monitor);
      scores.set(std::to_string(saved_), it->second);
    }
    for (const int64_t s : steps) {
      const Json* score = h.monitor ? scores.find(std::to_string(s)) : nullptr;
      const double value =
          h.monitor ? (score != nullptr && score->is_number() ? score->as_double() : HUGE_VAL)
                    : -static_cast<double>(s);
      ranked.emplace_back(h.mode == "max" && h.monitor && score != nullptr ? -value : value, s);
    }
    std::sort(ranked.begin(), ranked.end());
    for (size_t i = 0; i < ranked.size() && static_cast<int64_t>(i) < h.save_top_k; ++i)
      keep.push_back(ranked[i].second);
  }
  write_file(scores_file, scores.dump());
  for (const int64_t s : steps)
    if (std::find(keep.begin(), keep.end(), s) == keep.end())
      fs::remove_all(folder + "/step-" + std::to_string(s));
}

}  // namespace tenun
