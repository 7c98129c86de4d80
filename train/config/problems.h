// Positions and the list of everything that is wrong with a configuration. All problems of one run
// are collected and thrown together; nothing stops at the first.
//
//   ConfigProblems problems;
//   problems.add(node.mark, "model.optimizer.init_args.lr", "expected a number, got 'fast'");
//   problems.throw_if_any();         // ConfigProblemsError: "run.yaml:12:11: expected a number
//   ..."
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tenun/core/error.h"

namespace tenun {

/// Where a value was written: a file, a command line flag or a built-in default.
struct ConfigSource {
  std::string name;       ///< file name, or the flag as typed
  std::size_t order = 0;  ///< files in the order in which they were read, flags after them
  bool is_flag = false;
};

/// One-based line and column; line 0 means that only the source is known.
struct Mark {
  std::shared_ptr<const ConfigSource> source;
  int line = 0;
  int column = 0;
};

struct ConfigProblem {
  std::string file;  ///< file name, or the command line flag
  int line = 0;
  int column = 0;
  std::string key;      ///< full dotted path, "" for a syntax error
  std::string message;  ///< what is wrong
  std::string hint;     ///< what to do, may be empty
  /// "file:line:column: message; hint" (a flag has no line).
  [[nodiscard]] std::string text() const;
};

/// Thrown with every problem found, sorted by position.
struct ConfigProblemsError : ConfigError {
  explicit ConfigProblemsError(std::vector<ConfigProblem> found);
  std::vector<ConfigProblem> problems;
};

class ConfigProblems {
 public:
  void add(const Mark& mark, std::string key, std::string message, std::string hint = "");
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  void throw_if_any() const;
  /// A file could not be read or parsed: what else is missing says nothing.
  void set_incomplete() { incomplete_ = true; }
  [[nodiscard]] bool incomplete() const { return incomplete_; }

 private:
  struct Entry {
    std::size_t order;
    ConfigProblem problem;
  };
  std::vector<Entry> entries_;
  bool incomplete_ = false;
};

/// Damerau-Levenshtein distance (adjacent swaps count once), without regard to case.
[[nodiscard]] int edit_distance(std::string_view a, std::string_view b);

/// The candidate that `word` was probably meant to be: distance at most 2 (1 for two-letter words),
/// or one being the beginning of the other. Empty if none comes close.
[[nodiscard]] std::string nearest_word(std::string_view word,
                                       const std::vector<std::string>& candidates);

}  // namespace tenun
