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
decltype(auto) shown(T&& v) {
  if constexpr (requires { v.describe(); })
    return v.describe();
  else if constexpr (requires { v.str(); })
    return v.str();
  else
    return std::forward<T>(v);
}
// The type as fmt::format deduces it: X& or X.
template <class T, class S = decltype(shown(std::declval<T>()))>
using Shown = std::conditional_t<std::is_rvalue_reference_v<S>, std::remove_reference_t<S>, S>;
}  // namespace detail

template <class E = ValueError, class... A>
[[noreturn]] void fail(std::string_view where, fmt::format_string<detail::Shown<A>...> text,
                       A&&... args) {
  throw E(fmt::format("{}: {}", where, fmt::format(text, detail::shown(std::forward<A>(args))...)));
}

template <class E = ValueError, class... A>
void check(bool ok, std::string_view where, fmt::format_string<detail::Shown<A>...> text,
           A&&... args) {
  if (!ok) [[unlikely]]
    fail<E>(where, text, std::forward<A>(args)...);
}

}  // namespace tenun
