// Cosine similarity of rows, and its gradients (ops/loss.h). The operands may be of different
// floating types, so elements are read by a type that is known at run time.
#include "tenun/cuda/elements.h"
#include "tenun/cuda/register.h"
#include "tenun/cuda/team.h"
#include "tenun/ops/loss.h"

namespace tenun::TENUN_BACKEND {
namespace {

struct Typed {
  void* p = nullptr;
  DType type = DType::f32;
  template <class C>
  __device__ C load(int64_t i) const {
    return load_as<C>(p, type, i);
  }
  template <class C>
  __device__ void store(int64_t i, C v) const {
    store_as(p, type, i, v);
  }
};
Typed writable(Tensor& t) { return t.defined() ? Typed{t.raw(), t.dtype()} : Typed{}; }
Typed readable(const Tensor& t) { return {const_cast<std::byte*>(t.raw()), t.dtype()}; }

/// Norms, of which those below eps are clamped, and the cosine.
template <class C>
struct Cosine {
  C a, b, cosine;
  bool a_clamped, b_clamped;
};
template <class C, int kWarps>
__device__ Cosine<C> cosine_of(const Team<kWarps>& team, const Typed& a, const Typed& b,
                               int64_t row, int64_t n, C eps) {
  struct Sums {
    C aa, bb, ab;
  } s{0, 0, 0};
  team.each(n, [&](int64_t i) {
    const C x = a.load<C>(row * n + i), y = b.load<C>(row * n + i);
    s.aa += x * x, s.bb += y * y, s.ab += x * y;
  });
  s = team.reduce(s, [](Sums p, Sums q) { return Sums{p.aa + q.aa, p.bb + q.bb, p.ab + q.ab}; });
  Cosine<C> c{std::sqrt(s.aa), std::sqrt(s.bb), 0, false, false};
  c.a_clamped = c.a < eps, c.b_clamped = c.b < eps;
  if (c.a_clamped) c.a = eps;
  if (c.b_clamped) c.b = eps;
  c.cosine = s.ab / c.a / c.b;
  return c;
}

template <class C, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    cosine_rows(const Typed y, const Typed a, const Typed b, int64_t rows, int64_t n, C eps) {
  const Team<kWarps> team;
  team.each_row(rows, [&](int64_t r) {
    const Cosine<C> c = cosine_of(team, a, b, r, n, eps);
    if (team.first()) y.store(r, c.cosine);
  });
}
// da = dy (b / |b| - cosine a / |a|) / |a|; a clamped norm is constant.
template <class C, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    cosine_gradients(const Typed da, const Typed db, const Typed dy, const Typed a, const Typed b,
                     int64_t rows, int64_t n, C eps) {
  const Team<kWarps> team;
  team.each_row(rows, [&](int64_t r) {
    const Cosine<C> c = cosine_of(team, a, b, r, n, eps);
    const C g = dy.load<C>(r), across = g / c.a / c.b;
    const C along_a = c.a_clamped ? C(0) : g * c.cosine / c.a / c.a;
    const C along_b = c.b_clamped ? C(0) : g * c.cosine / c.b / c.b;
    team.each(n, [&](int64_t i) {
      const C x = a.load<C>(r * n + i), y = b.load<C>(r * n + i);
      if (da.p != nullptr) da.store(r * n + i, across * y - along_a * x);
      if (db.p != nullptr) db.store(r * n + i, across * x - along_b * y);
    });
  });
}

template <class F>
void by_compute(const Tensor& a, const Tensor& b, F&& f) {
  if (a.dtype() == DType::f64 || b.dtype() == DType::f64)
    f.template operator()<double>();
  else
    f.template operator()<float>();
}

void cosine(Tensor& y, const Tensor& a, const Tensor& b, double eps) {
  by_compute(a, b, [&]<class C>() {
    rows_launch(a.dim(0), a.dim(1), [&]<int kWarps>(dim3 grid) {
      launch(cosine_rows<C, kWarps>, grid, kThreads, 0, writable(y), readable(a), readable(b),
             a.dim(0), a.dim(1), static_cast<C>(eps));
    });
  });
}
void cosine_backward(Tensor& da, Tensor& db, const Tensor& dy, const Tensor& a, const Tensor& b,
                     double eps) {
  by_compute(a, b, [&]<class C>() {
    rows_launch(a.dim(0), a.dim(1), [&]<int kWarps>(dim3 grid) {
      launch(cosine_gradients<C, kWarps>, grid, kThreads, 0, writable(da), writable(db),
             readable(dy), readable(a), readable(b), a.dim(0), a.dim(1), static_cast<C>(eps));
    });
  });
}

}  // namespace

void register_cosine() {
  kernel::cosine.set(kDevice, cosine);
  kernel::cosine_backward.set(kDevice, cosine_backward);
}

}  // namespace tenun::TENUN_BACKEND
