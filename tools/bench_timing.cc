// How `tenun bench` times calls, and how it reports.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "tenun/core/allocator.h"
#include "tenun/core/check.h"
#include "tenun/core/cpu_features.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/simd/isa.h"
#include "tenun/tools/bench.h"
#include "tenun/tools/flags.h"

namespace tenun::tools {
namespace {

using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point t) {
  return std::chrono::duration<double, std::milli>(Clock::now() - t).count();
}
double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

}  // namespace

Timing time_call(const std::function<void()>& f, double seconds, int most, Device device) {
  return time_together({f}, seconds, most, device)[0];
}

std::vector<Timing> time_together(const std::vector<std::function<void()>>& fs, double seconds,
                                  int most, Device device) {
  constexpr double kRoundMs = 60;  // of timed calls
  constexpr auto kPause =
      std::chrono::milliseconds(150);  // OpenBLAS waits actively for 2^28 cycles
  std::vector<std::vector<double>> all(fs.size()), rounds(fs.size());
  // The first calls warm up, and tell how many there is time for.
  const auto start = Clock::now();
  for (const auto& f : fs) f();
  const double first = ms_since(start), budget = seconds * 1e3 * static_cast<double>(fs.size());
  const size_t least = first < budget ? 3 : first < 20 * budget ? 2 : 1;
  const size_t least_rounds = fs.size() > 1 && first < budget ? 7 : 1;
  Event begin(device), end(device);
  const auto mean_ms = [&](const std::function<void()>& f, int calls) {
    begin.record();
    for (int i = 0; i < calls; ++i) f();
    end.record();
    return end.ms_since(begin) / calls;
  };
  std::vector<int> in_a_row(fs.size(), 1);
  if (device != cpu())
    for (size_t i = 0; i < fs.size(); ++i)
      in_a_row[i] = static_cast<int>(std::clamp(2 / mean_ms(fs[i], 1), 1.0, 500.0));
  const auto timed = Clock::now();
  size_t done = 0;  // calls of the function that was timed least
  while (done < least || rounds[0].size() < least_rounds ||
         (ms_since(timed) < budget && done < static_cast<size_t>(most))) {
    done = SIZE_MAX;
    for (size_t i = 0; i < fs.size(); ++i) {
      // Threads of the other functions' libraries may still wait actively: let them fall asleep.
      if (fs.size() > 1) {
        std::this_thread::sleep_for(kPause);
        if (first < budget) fs[i]();
      }
      const auto round = Clock::now();
      const auto before = std::ssize(all[i]);
      do {
        all[i].push_back(mean_ms(fs[i], in_a_row[i]));
      } while (ms_since(round) < kRoundMs);
      rounds[i].push_back(median({all[i].begin() + before, all[i].end()}));
      done = std::min(done, all[i].size());
    }
  }
  std::vector<Timing> out;
  for (size_t i = 0; i < fs.size(); ++i)
    out.push_back({median(all[i]), *std::min_element(all[i].begin(), all[i].end()),
                   std::ssize(all[i]), std::move(rounds[i])});
  return out;
}

double paired_speedup(const Timing& first, const Timing& second) {
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min(first.rounds.size(), second.rounds.size()); ++i)
    ratios.push_back(second.rounds[i] / first.rounds[i]);
  check(!ratios.empty(), "paired_speedup", "needs functions that were timed together");
  return median(std::move(ratios));
}

double rss_mib() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  return static_cast<double>(u.ru_maxrss) / 1024;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string dims;
  for (const int64_t d : shape) dims += (dims.empty() ? "" : "x") + std::to_string(d);
  return dims;
}

std::vector<int64_t> batches(const BenchOptions& o, int64_t usual) {
  return o.batch.empty() ? std::vector<int64_t>{usual} : o.batch;
}

Report::Report(const Common& common, std::string json_path)
    : common_(common), path_(std::move(json_path)) {
  check_target(path_, "--json");
}

void Report::keep(const std::string& what, const std::string& method,
                  const std::vector<int64_t>& shape, const std::string& dtype,
                  const std::string& direction, const Timing& t, double flops, const Json& more) {
  Json row = Json::object({{"what", what}, {"method", method}});
  Json list = Json::array();
  for (const int64_t d : shape) list.push(d);
  row.set("shape", list)
      .set("dtype", dtype)
      .set("direction", direction)
      .set("ms", t.ms)
      .set("ms_min", t.ms_min)
      .set("calls", t.calls);
  if (flops > 0) row.set("gflops", flops / t.ms / 1e6);
  row.set("rss_mib", rss_mib())
      .set("device", device_flag(common_).str())
      .set("threads", num_threads())
      .set("isa", std::string(simd::name(simd::active_isa())))
      .set("cpu", cpu_features());
  row.set("seed", common_.seed < 0 ? 1 : common_.seed)
      .set("bytes_peak", memory_stats(device_flag(common_).type).peak);
  for (const auto& [key, value] : more.members()) row.set(key, value);
  lines_ += row.dump() + "\n";
}

void Report::add(const std::string& what, const std::string& method,
                 const std::vector<int64_t>& shape, const std::string& dtype,
                 const std::string& direction, const Timing& t, double flops, Json more) {
  keep(what, method, shape, dtype, direction, t, flops, more);
  std::string extra;
  for (const auto& [key, value] : more.members())
    if (!value.is_object())
      extra +=
          fmt::format("  {} {}", key,
                      value.is_number() ? fmt::format("{:.4g}", value.as_double()) : value.dump());
  if (!titled_)
    fmt::print("{:<10} {:<12} {:<26} {:<5} {:<8} {:>10} {:>10} {:>9}\n", "what", "method", "shape",
               "dtype", "direction", "ms", "ms_min", "GFLOP/s");
  titled_ = true;
  fmt::print("{:<10} {:<12} {:<26} {:<5} {:<8} {:>10.3f} {:>10.3f} {:>9}{}\n", what, method,
             shape_text(shape), dtype, direction, t.ms, t.ms_min,
             flops > 0 ? fmt::format("{:.1f}", flops / t.ms / 1e6) : "", extra);
  std::fflush(stdout);
}

void Report::write() const {
  if (!path_.empty()) write_file(path_, lines_);
}

}  // namespace tenun::tools
