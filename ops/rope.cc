#include "tenun/ops/rope.h"

#include <cmath>
#include <map>
#include <mutex>
#include <tuple>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/rows.h"

namespace tenun {
namespace {

using namespace detail;

void rope_cpu(Tensor& y, const Tensor& x, const RopeTable& table, Turn turn) {
  const int64_t heads = x.dim(1), n = x.dim(2), d = x.dim(3);
  const Shape& stride = x.strides();
  by_compute({&x}, [&]<class C>() {
    const RowReader<C> in(x);
    const RowWriter<C> out(y);
    const C* const cos = table.cos.data<C>();
    const C* const sin = table.sin.data<C>();
    const C sign = turn == Turn::forward ? C(1) : C(-1);
    for_rows(x.dim(0) * heads * n, d, [&](int64_t begin, int64_t end) {
      const RowBuffer<C> a(d), b(d);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t token = row % n, head = row / n % heads, sample = row / n / heads;
        const C* const from =
            in.at(sample * stride[0] + head * stride[1] + token * stride[2], d, a);
        C* const to = out.at(row * d, b);
        turn_row(to, from, cos + token * (d / 2), sin + token * (d / 2), sign, d);
        out.done(row * d, d, to);
      }
    });
  });
}

RopeTable make_table(const RopeOptions& o, int64_t d, DType dtype, Device device) {
  const int64_t half = d / 2, quarter = d / 4;
  Tensor cos = Tensor::full({o.tokens(), half}, 1, DType::f64);
  Tensor sin = Tensor::zeros({o.tokens(), half}, DType::f64);
  double* const c = cos.mutable_data<double>();
  double* const s = sin.mutable_data<double>();
  const int64_t tiles = o.grid / o.tile, tokens = o.tile * o.tile;  // in a row of tiles, in a tile
  for (int64_t t = 0; t < o.grid * o.grid; ++t) {
    const int64_t tile = t / tokens, inside = t % tokens;
    const int64_t row = tile / tiles * o.tile + inside / o.tile;
    const int64_t column = tile % tiles * o.tile + inside % o.tile;
    for (int64_t m = 0; m < half; ++m) {
      const auto position = static_cast<double>(m < quarter ? row : column);
      const double frequency =
          std::pow(o.theta, -4.0 * static_cast<double>(m % quarter) / static_cast<double>(d));
      const int64_t at = (o.prefix + t) * half + m;
      c[at] = std::cos(position * frequency);
      s[at] = std::sin(position * frequency);
    }
  }
  return {cos.to(dtype).to(device), sin.to(dtype).to(device)};
}

struct Rope {
  static constexpr const char* name = "rope_2d";
  RopeOptions options{};

  [[nodiscard]] Tensor turned(const Tensor& x, Turn turn) const {
    const Tensor in = x.strides()[3] == 1 ? x : x.contiguous();
    Tensor y = empty_like(x);
    if (x.numel() > 0)
      kernel::rope(x.device(), y, in, rope_table(options, x.dim(3), x.dtype(), x.device()), turn);
    return y;
  }
  Tensor forward(const Ctx&, const Tensor& x) { return turned(x, Turn::forward); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {turned(dy, Turn::back)}; }
};

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& x, const RopeTable& table, Turn turn)> kernel::rope{
    "rope_2d", rope_cpu};

RopeTable rope_table(const RopeOptions& o, int64_t d, DType dtype, Device device) {
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, double, DType, DeviceType, int>;
  constexpr size_t kMost = 64;  // more than any model uses; keeps a sweep over sizes bounded
  static std::mutex mutex;
  static std::map<Key, RopeTable> tables;
  const DType c = compute_dtype(dtype);
  const Key key{o.grid, o.prefix, o.tile, d, o.theta, c, device.type, device.index};
  const std::lock_guard lock(mutex);
  const auto it = tables.find(key);
  if (it != tables.end()) return it->second;
  if (tables.size() >= kMost) tables.clear();
  return tables[key] = make_table(o, d, c, device);
}

void check_rope(const char* op, const RopeOptions& o) {
  check(o.grid >= 1 && o.prefix >= 0 && o.theta > 0, op,
        "needs grid >= 1, prefix >= 0 and theta > 0, got {}, {} and {}", o.grid, o.prefix, o.theta);
  check(o.tile >= 1 && o.grid % o.tile == 0, op,
        "a grid of {0} x {0} cannot be cut into tiles of {1} x {1}", o.grid, o.tile);
}

Var rope_2d(const Var& x, const RopeOptions& o) {
  const char* const op = "rope_2d";
  check<DTypeError>(is_floating(x.dtype()), op, "needs a floating type, got {}", x.value());
  check_rope(op, o);
  check<ShapeError>(x.rank() == 4 && x.dim(2) == o.tokens() && x.dim(3) % 4 == 0, op,
                    "x {} must be [B, H, {}, D]: {} prefix tokens and a grid of {} x {}, D "
                    "divisible by 4",
                    x.value(), o.tokens(), o.prefix, o.grid, o.grid);
  return apply(Rope{.options = o}, x);
}

}  // namespace tenun
