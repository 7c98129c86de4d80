// Ranges and other conditions on one configuration value, joined with `|`:
//   f.add("lr", o.lr, "learning rate", positive() | synonym("learning_rate"));
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tenun/train/config/class_kind.h"

namespace tenun {

struct Rule {
  std::optional<double> low, high;
  bool low_open = false;             ///< the lower bound itself is excluded
  std::vector<std::string> choices;  ///< allowed words
  std::vector<std::pair<std::string, std::string>> rewrites;  ///< other spellings of a value
  std::vector<std::string> aliases;                           ///< other accepted names of the key
  std::vector<std::string> synonyms;  ///< wrong names that people use, for suggestions
  std::optional<ClassKind> kind;      ///< of an Object
  bool required = false;
  bool nullable = false;  ///< an Object may be null
  bool path = false;
  bool null_is_empty = false;   ///< null stands for an empty list
  bool single_is_list = false;  ///< one value stands for a list of one
};

inline Rule operator|(Rule a, const Rule& b) {
  if (b.low) a.low = b.low, a.low_open = b.low_open;
  if (b.high) a.high = b.high;
  if (b.kind) a.kind = b.kind;
  const auto join = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  join(a.choices, b.choices);
  join(a.rewrites, b.rewrites);
  join(a.aliases, b.aliases);
  join(a.synonyms, b.synonyms);
  a.required |= b.required;
  a.nullable |= b.nullable;
  a.path |= b.path;
  a.null_is_empty |= b.null_is_empty;
  a.single_is_list |= b.single_is_list;
  return a;
}

inline Rule at_least(double low) {
  Rule r;
  r.low = low;
  return r;
}
inline Rule in_range(double low, double high) {
  Rule r;
  r.low = low, r.high = high;
  return r;
}
/// Greater than zero.
inline Rule positive() {
  Rule r;
  r.low = 0.0, r.low_open = true;
  return r;
}
inline Rule choices(std::vector<std::string> words) {
  Rule r;
  r.choices = std::move(words);
  return r;
}
/// Other spellings: {"bf16", "bf16-mixed"}.
inline Rule rewrites(std::vector<std::pair<std::string, std::string>> words) {
  Rule r;
  r.rewrites = std::move(words);
  return r;
}
inline Rule alias(std::string name) {
  Rule r;
  r.aliases = {std::move(name)};
  return r;
}
inline Rule synonym(std::string name) {
  Rule r;
  r.synonyms = {std::move(name)};
  return r;
}
inline Rule required() {
  Rule r;
  r.required = true;
  return r;
}
inline Rule is_path() {
  Rule r;
  r.path = true;
  return r;
}
inline Rule object_of(ClassKind kind) {
  Rule r;
  r.kind = kind;
  return r;
}
inline Rule nullable() {
  Rule r;
  r.nullable = true;
  return r;
}
/// null, one value and a list of values are all accepted.
inline Rule list_like() {
  Rule r;
  r.null_is_empty = r.single_is_list = true;
  return r;
}

/// "at least 1", "from 0 to 1", "greater than 0", "one of a, b" or "".
[[nodiscard]] std::string rule_text(const Rule& rule);

}  // namespace tenun
