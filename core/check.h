// check<ShapeError>(condition, "matmul", "inner sizes differ: {} x {}", a, b) throws that error
// with the text "matmul: inner sizes differ: ..." when the condition is false. Not for .cu files
// (fmt).
#pragma once
#include <fmt/core.h>

#include <string_view>

#include "tenun/core/error.h"

namespace tenun {

template <class E = ValueError, class... A>
void check(bool ok, std::string_view where, fmt::format_string<A...> text, A&&... args) {
  if (!ok) [[unlikely]]
    throw E(fmt::format("{}: {}", where, fmt::format(text, std::forward<A>(args)...)));
}

template <class E = ValueError, class... A>
[[noreturn]] void fail(std::string_view where, fmt::format_string<A...> text, A&&... args) {
  throw E(fmt::format("{}: {}", where, fmt::format(text, std::forward<A>(args)...)));
}

}  // namespace tenun
