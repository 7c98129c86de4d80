// Timing for `tenun bench`: medians of repeated calls after a warm-up, printed as a table and as
// JSON lines with the keys of the peer script (what, method, shape, dtype, direction, ms, ms_min,
// gflops, rss_mib).
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "tenun/core/device.h"
#include "tenun/core/io/json.h"
#include "tenun/tools/commands.h"

namespace tenun::tools {

struct Timing {
  double ms = 0, ms_min = 0;     ///< median and minimum
  int64_t calls = 0;             ///< that were timed
  std::vector<double> rounds{};  ///< medians of the rounds of time_together
};

/// Times `f` for about `seconds` after a warm-up call: at least three calls, two if one takes
/// longer than `seconds`, one if it takes 20 times as long.
/// On another device than the CPU its own clock counts (core/device.h, Event), and a call that is
/// timed is as many calls in a row as take about two milliseconds.
[[nodiscard]] Timing time_call(const std::function<void()>& f, double seconds = 1.0, int most = 50,
                               Device device = cpu());
/// Times several functions in turn, in seven or more rounds of a few calls (fewer if a call takes
/// longer than `seconds`), so that a slow moment of the machine hits all of them. A pause and an
/// untimed call before each function's calls let the waiting threads of the one before fall asleep
/// (other libraries' threads spin for some 10 ms) and warm up its own. `most` bounds the calls of
/// each behind the seventh round.
[[nodiscard]] std::vector<Timing> time_together(const std::vector<std::function<void()>>& fs,
                                                double seconds = 1.0, int most = 50,
                                                Device device = cpu());
/// How many times as fast the first is as the second, timed together: median of the rounds' ratios.
/// A neighbour who comes for a few rounds slows both sides of these, or spoils a few pairs; the
/// ratio of the medians can be off by all that he took.
[[nodiscard]] double paired_speedup(const Timing& first, const Timing& second);
[[nodiscard]] double rss_mib();  ///< peak resident memory of this process

/// Collects rows: prints each one as a line, writes all to --json at the end.
class Report {
 public:
  Report(const Common& common, std::string json_path);
  /// Keeps a row and prints it.
  void add(const std::string& what, const std::string& method, const std::vector<int64_t>& shape,
           const std::string& dtype, const std::string& direction, const Timing& t, double flops,
           Json more = Json::object());
  /// Keeps a row that the caller prints in a form of its own.
  void keep(const std::string& what, const std::string& method, const std::vector<int64_t>& shape,
            const std::string& dtype, const std::string& direction, const Timing& t, double flops,
            const Json& more);
  void write() const;

 private:
  const Common& common_;
  std::string path_;
  std::string lines_;
  bool titled_ = false;
};

/// "1x12x4096x64"
[[nodiscard]] std::string shape_text(const std::vector<int64_t>& shape);
/// The batches to time: those asked for, or this one.
[[nodiscard]] std::vector<int64_t> batches(const BenchOptions& o, int64_t usual);

void bench_attention(const Common& common, const BenchOptions& o, Report& report);
void bench_ops(const Common& common, const BenchOptions& o, Report& report);
void bench_model(const Common& common, const BenchOptions& o, Report& report);

}  // namespace tenun::tools
