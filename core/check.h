// check<ShapeError>(condition, "matmul", "inner sizes differ: {} x {}", a, b) throws that error
// with the text "matmul: inner sizes differ: ..." when the condition is false. Tensors and shapes
// are passed as they are and described only then: a check that holds formats nothing. Not for .cu
// files (fmt).
#pragma once
#include <fmt/core.h>

#include <string_view>

#include "tenun/core/error.h"

namespace tenun {

namespace detail {
template <class T>
decltype(auto) shown(const T& v) {
  if constexpr (requires { v.describe(); })
    return v.describe();
  else if constexpr (requires { v.str(); })
    return v.str();
  else
    return (v);
}
template <class T>
using Shown = decltype(shown(std::declval<const T&>()));
}  // namespace detail

template <class E = ValueError, class... A>
[[noreturn]] void fail(std::string_view where, fmt::format_string<detail::Shown<A>...> text,
                       const A&... args) {
  throw E(fmt::format("{}: {}", where, fmt::format(text, detail::shown(args)...)));
}

template <class E = ValueError, class... A>
void check(bool ok, std::string_view where, fmt::format_string<detail::Shown<A>...> text,
           const A&... args) {
  if (!ok) [[unlikely]]
    fail<E>(where, text, args...);
}

}  // namespace tenun
