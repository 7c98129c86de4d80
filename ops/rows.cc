#include "tenun/ops/rows.h"

namespace tenun::detail {

template <class C>
RowLoad<C> row_load(DType d) {
  if (d == dtype_of<C>) return nullptr;
  return visit_float(d, "row", []<class T>() -> RowLoad<C> {
    return [](C* __restrict out, const std::byte* from, int64_t n) {
      const T* p = reinterpret_cast<const T*>(from);
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<C>(p[i]);
    };
  });
}

template <class C>
RowStore<C> row_store(DType d) {
  if (d == dtype_of<C>) return nullptr;
  return visit_float(d, "row", []<class T>() -> RowStore<C> {
    return [](std::byte* to, const C* __restrict from, int64_t n) {
      T* p = reinterpret_cast<T*>(to);
      for (int64_t i = 0; i < n; ++i) p[i] = T(static_cast<Compute<T>>(from[i]));
    };
  });
}

template RowLoad<float> row_load<float>(DType);
template RowLoad<double> row_load<double>(DType);
template RowStore<float> row_store<float>(DType);
template RowStore<double> row_store<double>(DType);

}  // namespace tenun::detail
