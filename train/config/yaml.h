// A YAML document as a tree that remembers where every key and value was written.
//
// Accepted: one document per file, valid UTF-8, anchors, aliases and merge keys `<<` (expanded by
// copying), `base: other.yaml` (a path or a list, relative to the file). Rejected, with position:
// duplicate keys, several documents, keys that are not scalars, unknown tags, cyclic aliases and
// bases, expansions past kMaxYamlNodes. Top-level keys that begin with `x-` or `.` are dropped:
// they are the place for anchors. `{type: Name, a: 1}` becomes `{class_path: Name, init_args: {a:
// 1}}`.
//
//   ConfigProblems problems;
//   YamlNode root = load_yaml("run.yaml", problems);
//   apply_override(root, {"model.optimizer.lr", "1e-3", "--model.optimizer.lr=1e-3"}, problems);
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tenun/train/config/problems.h"

namespace tenun {

inline constexpr std::size_t kMaxYamlNodes = 200000;
inline constexpr int kMaxYamlDepth = 64;
inline constexpr std::size_t kMaxYamlBytes = 8 << 20;

struct YamlEntry;

struct YamlNode {
  enum class Kind { null, scalar, sequence, map };
  Kind kind = Kind::null;
  std::string text;     ///< of a scalar
  bool quoted = false;  ///< a quoted scalar is a string, whatever it looks like
  std::vector<YamlNode> items;
  std::vector<YamlEntry> entries;
  Mark mark;

  [[nodiscard]] bool is_null() const { return kind == Kind::null; }
  [[nodiscard]] bool is_scalar() const { return kind == Kind::scalar; }
  [[nodiscard]] bool is_sequence() const { return kind == Kind::sequence; }
  [[nodiscard]] bool is_map() const { return kind == Kind::map; }
  [[nodiscard]] const YamlEntry* find(std::string_view key) const;
  [[nodiscard]] YamlEntry* find(std::string_view key);
  void erase(std::string_view key);
  /// The value of `key`, added (as null) if absent.
  YamlNode& at_or_add(std::string_view key, const Mark& where);
  /// "a map", "a list", "null", "'text'": for messages.
  [[nodiscard]] std::string describe() const;

  static YamlNode scalar(std::string text, bool quoted = false);
  static YamlNode sequence();
  static YamlNode map();
};

struct YamlEntry {
  std::string key;
  Mark key_mark;
  YamlNode value;
};

/// Equal content: kinds, texts, quoting and keys in any order; positions do not matter.
[[nodiscard]] bool same_content(const YamlNode& a, const YamlNode& b);

/// A change from the command line: `--a.b.c=value`, list items as `a.b[0]` or `a.b.0`.
struct Override {
  std::string key;
  std::string value;  ///< parsed as YAML
  std::string flag;   ///< as typed, names it in messages
};

/// Splits `--key=value`, `--key value` and `key=value` into overrides.
[[nodiscard]] std::vector<Override> parse_overrides(const std::vector<std::string>& arguments);

/// Parses one text; `name` stands in for the file name. Neither reads files nor expands `base`.
[[nodiscard]] YamlNode parse_yaml(std::string_view text, const std::string& name,
                                  ConfigProblems& problems, std::size_t order = 0);

/// Reads a file and everything it inherits through `base`. `order` counts the files read.
[[nodiscard]] YamlNode load_yaml(const std::string& file, ConfigProblems& problems,
                                 std::size_t& order);
[[nodiscard]] YamlNode load_yaml(const std::string& file, ConfigProblems& problems);

/// Maps merge deeply, everything else is replaced; where `class_path` changes, `init_args` of
/// the old class are dropped. Keys set on an object without naming its class go to `init_args`.
void merge_yaml(YamlNode& target, YamlNode over);

/// `{type: Name, a: 1}` -> `{class_path: Name, init_args: {a: 1}}`, everywhere but under `tags`.
/// parse_yaml does it; after overrides it is due again.
void expand_short_forms(YamlNode& node);

/// `number` orders the problems of several overrides.
void apply_override(YamlNode& root, const Override& change, ConfigProblems& problems,
                    std::size_t number = 0);

/// Block style, two spaces, strings quoted only where they must be.
[[nodiscard]] std::string to_yaml(const YamlNode& node);
/// A double in its shortest form that reads back equal, always recognisable as a number.
[[nodiscard]] std::string shortest_double(double value);
/// True if the plain text would be read as null, a bool or a number, or needs quotes to survive.
[[nodiscard]] bool needs_quotes(std::string_view text);

}  // namespace tenun
