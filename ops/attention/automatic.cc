// Method `automatic`: dense attention for short sequences, sla2 for long ones.
#include <array>
#include <limits>
#include <mutex>
#include <set>
#include <utility>

#include "tenun/core/log.h"
#include "tenun/ops/attention/attention.h"

namespace tenun {
namespace {

// From how many keys on sla2 beats dense attention with this share of exact blocks, forward and
// backward together, and the share itself: rows in growing order of the share, measured with
// `tenun bench attention` (docs/performance.md: f32, 2 heads of 64 channels, blocks 128 x 64;
// 0.25 lies between its rows). Above the last one there is nothing to gain.
struct BreakEven {
  double topk_ratio;
  int64_t tokens;
};
constexpr std::array<BreakEven, 2> kTable{{{0.25, 256}, {0.50, 512}}};

}  // namespace

int64_t break_even_length(double topk_ratio) {
  for (const BreakEven& row : kTable)
    if (topk_ratio <= row.topk_ratio) return row.tokens;
  return std::numeric_limits<int64_t>::max();
}

AttentionMethod automatic_method(double topk_ratio, int64_t tokens) {
  const int64_t least = break_even_length(topk_ratio);
  const bool sparse = tokens >= least;
  static std::mutex mutex;
  static std::set<std::pair<double, int64_t>> told;
  const std::scoped_lock lock(mutex);
  if (told.emplace(topk_ratio, tokens).second) {
    const std::string from =
        least == std::numeric_limits<int64_t>::max() ? "no length" : fmt::format("{} keys", least);
    logging::info("attention auto: {} for {} keys; sla2 with {:g} of the blocks pays from {} on",
                  sparse ? "sla2" : "dense", tokens, topk_ratio, from);
  }
  return sparse ? AttentionMethod::sla2 : AttentionMethod::dense;
}

}  // namespace tenun
