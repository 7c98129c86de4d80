// How a loss of many elements becomes its result: a scalar (mean, sum) or the elements themselves.
#pragma once
#include <cstdint>
#include <string_view>

namespace tenun {

enum class Reduction : uint8_t { none, mean, sum };

/// "none", "mean" or "sum"; ValueError otherwise.
[[nodiscard]] Reduction reduction_from_name(std::string_view name);

}  // namespace tenun
