// Log lines on stderr, by level. TENUN_LOG=debug|info|warn|error|off sets the level; a program that
// embeds the library may install its own sink. Ops do not log, except once where a fast path is not
// available (warn_once).
//
//   logging::warn("{}: cannot be read and is skipped", path);
//
// Thread-safe. A progress line that is drawn on a terminal registers itself, so that log lines do
// not break it.
#pragma once
#include <fmt/core.h>

#include <functional>
#include <string>
#include <string_view>

namespace tenun::logging {

enum class Level : int { debug, info, warn, error, off };

[[nodiscard]] Level level();
void set_level(Level l);
/// Replaces the sink (empty: stderr again).
void set_sink(std::function<void(Level, std::string_view)> sink);
/// The current progress line, redrawn after every log line; empty: none. For terminals only.
void set_status_line(std::string line);
void write(Level l, std::string_view text);
/// Writes a message only the first time that it comes.
void warn_once(const std::string& text);

template <class... A>
void debug(fmt::format_string<A...> f, A&&... a) {
  if (level() <= Level::debug) write(Level::debug, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void info(fmt::format_string<A...> f, A&&... a) {
  if (level() <= Level::info) write(Level::info, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void warn(fmt::format_string<A...> f, A&&... a) {
  if (level() <= Level::warn) write(Level::warn, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void error(fmt::format_string<A...> f, A&&... a) {
  if (level() <= Level::error) write(Level::error, fmt::format(f, std::forward<A>(a)...));
}

}  // namespace tenun::logging
