#include "tenun/tools/table.h"

#include <algorithm>

#include "tenun/core/check.h"

namespace tenun::tools {
namespace {

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), row(b.size() + 1), older;
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    older = before;
    before = row;
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] =
          std::min({before[j] + 1, row[j - 1] + 1, before[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], older[j - 2] + 1);
    }
  }
  return row[b.size()];
}

// Losses, optimizers and samplers; apart from the ops, because they sit above them.
const OpTable& upper_table() {
  static const OpTable table = [] {
    OpTable t;
    add_model_ops(t);
    add_train_ops(t);
    return t;
  }();
  return table;
}

}  // namespace

const OpDef* find_op(const std::string& name) {
  const OpDef* d = op_table().find(name);
  return d != nullptr ? d : upper_table().find(name);
}

std::vector<const OpDef*> all_ops() {
  std::vector<const OpDef*> all;
  for (const OpTable* t : {&op_table(), &upper_table()})
    for (const OpDef& d : t->all()) all.push_back(&d);
  std::sort(all.begin(), all.end(),
            [](const OpDef* a, const OpDef* b) { return a->name < b->name; });
  return all;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& names) {
  const std::string* best = nullptr;
  size_t least = 3;
  for (const std::string& n : names) {
    const size_t d = word.size() >= 3 && n.starts_with(word) ? 1 : edit_distance(word, n);
    if (d < least) least = d, best = &n;
  }
  return best == nullptr ? "" : fmt::format("; did you mean '{}'?", *best);
}

const OpDef& require_op(const std::string& name) {
  if (const OpDef* d = find_op(name)) return *d;
  std::vector<std::string> names;
  for (const OpDef* d : all_ops()) names.push_back(d->name);
  fail<UsageError>("tenun", "unknown op '{}'{} (`tenun ops` lists them)", name,
                   did_you_mean(name, names));
}

}  // namespace tenun::tools
