// Timing for `tenun bench`: medians of repeated calls after a warm-up, printed as a table and as
// JSON lines with the keys of the peer script (what, method, shape, dtype, direction, ms, ms_min,
// gflops, rss_mib).
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "tenun/core/io/json.h"
#include "tenun/tools/commands.h"

namespace tenun::tools {

struct Timing {
  double ms = 0, ms_min = 0;  ///< median and minimum
};

/// Times `f` for about `seconds` (at least three calls after two warm-up calls).
[[nodiscard]] Timing time_call(const std::function<void()>& f, double seconds = 1.0, int most = 50);
/// Times several functions in turn, in rounds of a few calls, so that a slow moment of the machine
/// hits all of them. A pause and an untimed call before each function's calls let the waiting
/// threads of the one before fall asleep (other libraries' threads spin for some 10 ms) and warm up
/// its own. `most` bounds the calls of each.
[[nodiscard]] std::vector<Timing> time_together(const std::vector<std::function<void()>>& fs,
                                                double seconds = 1.0, int most = 50);
[[nodiscard]] double rss_mib();  ///< peak resident memory of this process

/// Collects rows: prints each one as a line, writes all to --json at the end.
class Report {
 public:
  Report(const Common& common, std::string json_path);
  void add(const std::string& what, const std::string& method, const std::vector<int64_t>& shape,
           const std::string& dtype, const std::string& direction, const Timing& t, double flops,
           Json more = Json::object());
  void write() const;

 private:
  const Common& common_;
  std::string path_;
  std::string lines_;
};

void bench_ops(const BenchOptions& o, Report& report);
void bench_model(const Common& common, const BenchOptions& o, Report& report);

}  // namespace tenun::tools
