// Reductions: sums, sums of squares, the largest and least element with its place, log-sum-exp,
// products.
#include "tenun/ops/reduce.h"

#include <limits>

#include "tenun/core/math.h"
#include "tenun/cuda/reduce_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/sum.h"

namespace tenun::TENUN_BACKEND {
namespace {

/// Sums of x, of x^2, or of (x - center)^2, in V, times `scale`.
enum class SumOf { values, squares };
template <class T, class V, class Y, SumOf kOf>
struct Sum {
  using Value = V;
  const T* x;
  const V* center;  // may be null
  Y* y;
  double scale;
  __device__ V identity() const { return V(0); }
  __device__ V take(int64_t at, int64_t, int64_t out) const {
    const V v = static_cast<V>(x[at]);
    if constexpr (kOf == SumOf::values) return v;
    const V d = center == nullptr ? v : v - center[out];
    return d * d;
  }
  __device__ V combine(V a, V b) const { return a + b; }
  __device__ void finish(V v, int64_t out) const {
    if constexpr (std::is_same_v<V, int64_t>)
      y[out] = v;
    else
      y[out] = Y(static_cast<V>(scale * static_cast<double>(v)));
  }
};

void sum_middle(Tensor& y, const Tensor& x, double scale) {
  const int64_t a = x.dim(0), r = x.dim(1), c = x.dim(2);
  if (x.dtype() == DType::i64)
    return reduce_middle(
        Sum<int64_t, int64_t, int64_t, SumOf::values>{x.data<int64_t>(), nullptr,
                                                      y.mutable_data<int64_t>(), 1},
        a, r, c);
  visit_float(x.dtype(), "sum", [&]<class T>() {
    using C = Compute<T>;
    if (y.dtype() == dtype_of<T>)
      reduce_middle(Sum<T, C, T, SumOf::values>{x.data<T>(), nullptr, y.mutable_data<T>(), scale},
                    a, r, c);
    else
      reduce_middle(Sum<T, C, C, SumOf::values>{x.data<T>(), nullptr, y.mutable_data<C>(), scale},
                    a, r, c);
  });
}

void sum_squares(Tensor& y, const Tensor& x, const Tensor& center, double scale) {
  visit_float(x.dtype(), "sum_squares", [&]<class T>() {
    using C = Compute<T>;
    reduce_middle(
        Sum<T, C, C, SumOf::squares>{x.data<T>(), center.defined() ? center.data<C>() : nullptr,
                                     y.mutable_data<C>(), scale},
        x.dim(0), x.dim(1), x.dim(2));
  });
}

/// The first NaN, else the first of the best values. Padding makes the value whole words.
template <class T>
struct Best {
  using V = std::conditional_t<is_floating(dtype_of<T>), Compute<T>, int64_t>;
  struct Value {
    int64_t at;  // -1: nothing seen yet
    double number;
    int64_t whole;
  };
  const T* x;
  T* values;
  int64_t* indices;
  Extreme which;
  __device__ Value identity() const { return {-1, 0, 0}; }
  __device__ Value take(int64_t at, int64_t r, int64_t) const {
    if constexpr (is_floating(dtype_of<T>))
      return {r, static_cast<double>(static_cast<V>(x[at])), 0};
    else
      return {r, 0, static_cast<int64_t>(x[at])};
  }
  __device__ bool better(const Value& a, const Value& b) const {
    const bool greatest = which == Extreme::greatest;
    if constexpr (is_floating(dtype_of<T>)) {
      const bool nan_a = a.number != a.number, nan_b = b.number != b.number;
      if (nan_a != nan_b) return nan_a;
      if (!nan_a && a.number != b.number) return (a.number > b.number) == greatest;
    } else {
      if (a.whole != b.whole) return (a.whole > b.whole) == greatest;
    }
    return a.at < b.at;
  }
  __device__ Value combine(Value a, Value b) const {
    if (a.at < 0) return b;
    return b.at < 0 || better(a, b) ? a : b;
  }
  __device__ void finish(Value v, int64_t out) const {
    indices[out] = v.at;
    if constexpr (is_floating(dtype_of<T>))
      values[out] = T(static_cast<V>(v.number));
    else
      values[out] = static_cast<T>(v.whole);
  }
};

template <class F>
void visit_numbers(DType d, const char* op, F&& f) {
  visit<DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::u8, DType::i32,
        DType::i64>(d, op, std::forward<F>(f));
}

void extremum(Tensor& values, Tensor& indices, const Tensor& x, Extreme which) {
  const int64_t a = x.dim(0), r = x.dim(1), c = x.dim(2);
  visit_numbers(x.dtype(), "max", [&]<class T>() {
    reduce_middle(
        Best<T>{x.data<T>(), values.mutable_data<T>(), indices.mutable_data<int64_t>(), which}, a,
        r, c);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    place_gradients(T* dx, const T* dy, const int64_t* at, int64_t n, int64_t rows, int64_t cols) {
  for_each_item(n, [&](int64_t i) { dx[(i / cols * rows + at[i]) * cols + i % cols] = dy[i]; });
}
void extremum_backward(Tensor& dx, const Tensor& dy, const Tensor& indices) {
  visit_float(dx.dtype(), "max", [&]<class T>() {
    launch(place_gradients<T>, grid_for(dy.numel()), kThreads, 0, dx.mutable_data<T>(),
           dy.data<T>(), indices.data<int64_t>(), dy.numel(), dx.dim(1), dx.dim(2));
  });
}

/// log of the sum of e^x as a running maximum and a sum relative to it.
template <class T>
struct LogSumExp {
  using C = Compute<T>;
  struct Value {
    C top, sum;
  };
  const T* x;
  T* y;
  __device__ Value identity() const { return {-std::numeric_limits<C>::infinity(), C(0)}; }
  __device__ Value take(int64_t at, int64_t, int64_t) const {
    const C v = static_cast<C>(x[at]);
    return {v == v ? v : -std::numeric_limits<C>::infinity(), v == v ? C(1) : v};
  }
  __device__ static C relative(const Value& v, C top) {
    return v.top == top ? v.sum : v.sum * math::exp(v.top - top);
  }
  __device__ Value combine(Value a, Value b) const {
    const C top = a.top > b.top ? a.top : b.top;
    return {top, relative(a, top) + relative(b, top)};
  }
  __device__ void finish(Value v, int64_t out) const { y[out] = T(v.top + math::log(v.sum)); }
};
void logsumexp(Tensor& y, const Tensor& x) {
  visit_float(x.dtype(), "logsumexp", [&]<class T>() {
    reduce_middle(LogSumExp<T>{x.data<T>(), y.mutable_data<T>()}, x.dim(0), x.dim(1), x.dim(2));
  });
}

template <class T>
struct Product {
  using Value = double;
  const T* x;
  T* y;
  __device__ double identity() const { return 1; }
  __device__ double take(int64_t at, int64_t, int64_t) const {
    return static_cast<double>(static_cast<Compute<T>>(x[at]));
  }
  __device__ double combine(double a, double b) const { return a * b; }
  __device__ void finish(double v, int64_t out) const { y[out] = T(static_cast<Compute<T>>(v)); }
};
void prod(Tensor& y, const Tensor& x) {
  visit_float(x.dtype(), "prod", [&]<class T>() {
    reduce_middle(Product<T>{x.data<T>(), y.mutable_data<T>()}, x.dim(0), x.dim(1), x.dim(2));
  });
}

}  // namespace

void register_reductions() {
  kernel::sum_middle.set(kDevice, sum_middle);
  kernel::sum_squares.set(kDevice, sum_squares);
  kernel::extremum.set(kDevice, extremum);
  kernel::extremum_backward.set(kDevice, extremum_backward);
  kernel::logsumexp.set(kDevice, logsumexp);
  kernel::prod.set(kDevice, prod);
}

}  // namespace tenun::TENUN_BACKEND
