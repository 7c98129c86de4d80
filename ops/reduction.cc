#include "tenun/ops/reduction.h"

#include "tenun/core/check.h"

namespace tenun {

Reduction reduction_from_name(std::string_view name) {
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  check(name == "none", "reduction", "'{}' is none of mean, sum, none", name);
  return Reduction::none;
}

}  // namespace tenun
