#include "tenun/core/log.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <unordered_set>

namespace tenun::logging {
namespace {

Level from_environment() {
  const char* e = std::getenv("TENUN_LOG");
  const std::string_view s = e == nullptr ? "" : e;
  if (s == "debug") return Level::debug;
  if (s == "warn") return Level::warn;
  if (s == "error") return Level::error;
  if (s == "off") return Level::off;
  return Level::info;
}

std::atomic<int>& current() {
  static std::atomic<int> l{static_cast<int>(from_environment())};
  return l;
}

struct State {
  std::mutex mutex;
  std::function<void(Level, std::string_view)> sink;
  std::string status;
  std::unordered_set<std::string> seen;
};
State& state() {
  static State s;
  return s;
}

}  // namespace

Level level() { return static_cast<Level>(current().load(std::memory_order_relaxed)); }
void set_level(Level l) { current() = static_cast<int>(l); }

void set_sink(std::function<void(Level, std::string_view)> sink) {
  const std::lock_guard lock(state().mutex);
  state().sink = std::move(sink);
}

void set_status_line(std::string line) {
  const std::lock_guard lock(state().mutex);
  if (!line.empty() || !state().status.empty()) std::fprintf(stderr, "\r\033[2K%s", line.c_str());
  std::fflush(stderr);
  state().status = std::move(line);
}

void write(Level l, std::string_view text) {
  if (l < level()) return;
  const std::lock_guard lock(state().mutex);
  if (state().sink) {
    state().sink(l, text);
    return;
  }
  const char* const prefix = l == Level::warn    ? "warning: "
                             : l == Level::error ? "error: "
                             : l == Level::debug ? "debug: "
                                                 : "";
  if (!state().status.empty()) std::fprintf(stderr, "\r\033[2K");
  std::fprintf(stderr, "%s%.*s\n", prefix, static_cast<int>(text.size()), text.data());
  if (!state().status.empty()) std::fprintf(stderr, "%s", state().status.c_str());
  std::fflush(stderr);
}

void warn_once(const std::string& text) {
  {
    const std::lock_guard lock(state().mutex);
    if (!state().seen.insert(text).second) return;
  }
  write(Level::warn, text);
}

}  // namespace tenun::logging
