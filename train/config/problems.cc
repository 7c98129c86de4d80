#include "tenun/train/config/problems.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <tuple>
#include <utility>

namespace tenun {
namespace {

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string join_problems(const std::vector<ConfigProblem>& problems) {
  std::string out;
  for (const auto& p : problems) {
    if (!out.empty()) out += '\n';
    out += p.text();
  }
  return out;
}

}  // namespace

std::string ConfigProblem::text() const {
  std::string out = file;
  if (line > 0) out += fmt::format(":{}:{}", line, column);
  out += ": " + message;
  if (!hint.empty()) out += "; " + hint;
  return out;
}

ConfigProblemsError::ConfigProblemsError(std::vector<ConfigProblem> found)
    : ConfigError(join_problems(found)), problems(std::move(found)) {}

void ConfigProblems::add(const Mark& mark, std::string key, std::string message, std::string hint) {
  constexpr std::size_t kMost = 1000;  // a hostile file must not cost quadratic time
  if (entries_.size() >= kMost) return;
  const std::size_t order = mark.source ? mark.source->order : 0;
  const std::string name = mark.source ? mark.source->name : "configuration";
  for (const auto& e : entries_) {  // a node that was copied by an alias is reported once
    if (e.order == order && e.problem.line == mark.line && e.problem.column == mark.column &&
        e.problem.key == key && e.problem.message == message)
      return;
  }
  entries_.push_back(
      {order, {name, mark.line, mark.column, std::move(key), std::move(message), std::move(hint)}});
}

void ConfigProblems::throw_if_any() const {
  if (entries_.empty()) return;
  auto sorted = entries_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) {
    return std::tuple(a.order, a.problem.line, a.problem.column) <
           std::tuple(b.order, b.problem.line, b.problem.column);
  });
  std::vector<ConfigProblem> out;
  for (auto& e : sorted) out.push_back(std::move(e.problem));
  throw ConfigProblemsError(std::move(out));
}

int edit_distance(std::string_view first, std::string_view second) {
  const std::string a = lower(first);
  const std::string b = lower(second);
  const std::size_t n = b.size();
  std::vector<int> before(n + 1), above(n + 1), row(n + 1);
  for (std::size_t j = 0; j <= n; ++j) above[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= n; ++j) {
      const int change = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[n];
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kLongest = 128;  // the distance is quadratic and the word may be anything
  if (word.empty() || word.size() > kLongest) return "";
  const std::string w = lower(word);
  std::string best;
  int best_score = 100;
  for (const auto& c : candidates) {
    const std::string l = lower(c);
    const int limit = std::min<int>(2, static_cast<int>(std::min(w.size(), l.size()) + 1) / 2);
    int score = edit_distance(w, l);
    const auto shorter = std::min(w.size(), l.size());
    const bool prefix = shorter >= 3 && w.compare(0, shorter, l, 0, shorter) == 0;
    if (score > limit) score = prefix ? 10 : 100;
    if (score < best_score) best_score = score, best = c;
  }
  return best_score < 100 ? best : "";
}

}  // namespace tenun
