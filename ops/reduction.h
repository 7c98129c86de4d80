// How a loss of many elements becomes its result: a scalar (mean, sum) or the elements themselves.
#pragma once
#include <string_view>

#include "tenun/core/check.h"

namespace tenun {

enum class Reduction : uint8_t { none, mean, sum };

/// "none", "mean" or "sum"; ValueError otherwise.
[[nodiscard]] inline Reduction reduction_from_name(std::string_view name) {
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  check(name == "none", "reduction", "'{}' is none of mean, sum, none", name);
  return Reduction::none;
}

}  // namespace tenun
