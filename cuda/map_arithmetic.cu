// Elementwise kernels: arithmetic of two tensors and of a tensor with a number, with their
// gradients.
#include <limits>

#include "tenun/cuda/map_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/functors_unary.h"

namespace tenun::TENUN_BACKEND {

namespace {
/// Tensors for map_rows: their inner axis, whole eights, begins at multiples of 16 bytes. Functions
/// of one tensor have no use for it: broadcasts and mixed types need two.
bool fits_rows(const MapArgs& a, int arity) {
  if (arity < 2 || a.at.rank > 3 || a.at.sizes[0] % Eight::kCount != 0) return false;
  if (a.at.numel / Eight::kCount > std::numeric_limits<int>::max()) return false;
  for (int k = 0; k <= arity; ++k) {
    const DType d = a.types[k];
    if (d != DType::f32 && d != DType::bf16 && d != DType::f16) return false;
    const auto begins = [&](int64_t elements) { return elements * size_of(d) % 16 == 0; };
    const auto* const p = static_cast<const std::byte*>(k == 0 ? a.out : a.in[k - 1]);
    if (a.at.strides[0][k] != 1 || !aligned_16(p + a.at.base[k] * size_of(d))) return false;
    if (!begins(a.at.strides[1][k]) || !begins(a.at.strides[2][k])) return false;
  }
  return true;
}
}  // namespace

MapPath plan_map(MapArgs& a, Tensor& y, const MapInputs& x, int arity, bool integers) {
  if (y.numel() == 0) return MapPath::nothing;
  bool wide = y.dtype() == DType::f64, whole = integers && !is_floating(y.dtype()), same = true;
  std::array<Layout, kMapArity + 1> layouts;
  layouts.fill(y.layout());
  a.out = y.raw() - y.layout().offset * size_of(y.dtype());
  a.types[0] = y.dtype();
  for (int k = 0; k < arity; ++k) {
    const Tensor& t = *x[static_cast<size_t>(k)];
    if (!t.defined()) throw ShapeError("map: operand " + std::to_string(k) + " is undefined");
    if (t.device() != y.device())
      throw DeviceError("map: operands on " + y.device().str() + " and " + t.device().str() +
                        "; use to(device)");
    const DType d = t.dtype();
    const Layout& layout = layouts[static_cast<size_t>(k) + 1] =
        t.shape() == y.shape() ? t.layout() : t.layout().expand(y.shape());
    a.in[k] = std::as_const(t).raw() - layout.offset * size_of(d);
    a.types[k + 1] = d;
    wide = wide || d == DType::f64 || d == DType::i64 || d == DType::i32;
    whole = whole && !is_floating(d);
    same = same && d == y.dtype();
  }
  std::array<const Layout*, kMapArity + 1> pointers{};
  for (size_t k = 0; k < pointers.size(); ++k) pointers[k] = &layouts[k];
  a.at = places_of<kMapArity + 1>(pointers);
  if (whole) return MapPath::i64;
  if (wide) return MapPath::f64;
  MapPath flat = MapPath::f32;
  if (same && a.at.flat)
    flat = y.dtype() == DType::f32    ? MapPath::flat_f32
           : y.dtype() == DType::bf16 ? MapPath::flat_bf16
           : y.dtype() == DType::f16  ? MapPath::flat_f16
                                      : MapPath::f32;
  if (flat == MapPath::f32) {
    if (!fits_rows(a, arity)) return flat;
    for (int axis = a.at.rank; axis < 3; ++axis) a.at.sizes[axis] = 1;  // the loops are three
    return MapPath::rows;
  }
  // The packs know nothing of offsets, and want addresses that are multiples of 16.
  MapArgs moved = a;
  const auto shift = [&](int k) { return a.at.base[k] * size_of(y.dtype()); };
  moved.out = static_cast<std::byte*>(a.out) + shift(0);
  bool aligned = aligned_16(moved.out);
  for (int k = 0; k < arity; ++k) {
    moved.in[k] = static_cast<const std::byte*>(a.in[k]) + shift(k + 1);
    aligned = aligned && aligned_16(moved.in[k]);
  }
  if (!aligned) return MapPath::f32;
  a = moved;
  return flat;
}

namespace {
template <class... F>
void with_gradients_of_one() {
  use_maps<F...>();
  use_maps<fn::Grad<F>...>();
}
template <class... F>
void with_gradients_of_two() {
  use_maps<F...>();
  use_maps<fn::LeftGrad<F>...>();
  use_maps<fn::RightGrad<F>...>();
}
}  // namespace

void register_arithmetic() {
  use_maps<fn::Add, fn::Sub, fn::RightGrad<fn::Sub>>();
  with_gradients_of_two<fn::Mul, fn::Div, fn::Maximum, fn::Minimum, fn::Pow>();
  use_maps<fn::AddScalar>();
  with_gradients_of_one<fn::SubFromScalar, fn::MulScalar, fn::DivScalar, fn::ScalarDiv,
                        fn::PowScalar, fn::Clamp>();
}

}  // namespace tenun::TENUN_BACKEND
