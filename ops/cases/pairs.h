// Attributes that are one number or a list [h, w].
#pragma once
#include "tenun/core/check.h"
#include "tenun/ops/cases/registry.h"
#include "tenun/ops/window.h"

namespace tenun {

inline Pair pair_of(const Attrs& attrs, const std::string& name, std::optional<Pair> otherwise) {
  if (otherwise && !attrs.has(name)) return *otherwise;
  const std::vector<int64_t> v = attrs.integers(name);
  check(v.size() == 1 || v.size() == 2, "attribute", "'{}' must be one number or [h, w]", name);
  return v.size() == 1 ? Pair(v[0]) : Pair(v[0], v[1]);
}

}  // namespace tenun
