#include "tenun/ops/index.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/core/strided.h"
#include "tenun/ops/functors_other.h"
#include "tenun/ops/index_kernel.h"
#include "tenun/ops/map.h"
#include "tenun/ops/shape.h"

namespace tenun {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements of one piece of work

using detail::along, detail::base, detail::visit_size, detail::visit_sum;

DType sum_type(DType d) { return d == DType::bf16 || d == DType::f16 ? DType::f32 : d; }

int64_t first_outside_cpu(const Tensor& index, int64_t n) {
  const std::span<const int64_t> v = index.span<int64_t>();
  bool ok = true;
  for (const int64_t i : v) ok = ok && static_cast<uint64_t>(i) < static_cast<uint64_t>(n);
  if (ok) return -1;
  int64_t at = 0;
  while (v[static_cast<size_t>(at)] >= 0 && v[static_cast<size_t>(at)] < n) ++at;
  return at;
}

void gather_cpu(Tensor& y, const Tensor& x, const Tensor& index, int dim) {
  const Layout from = along(x.layout(), y.shape(), dim);
  const StridedLoop<3> loop({&y.layout(), &index.layout(), &from});
  const int64_t step = x.strides()[dim];
  const int64_t* const ids = base<int64_t>(index);
  visit_size(x.dtype(), [&]<class T>() {
    T* const out = base<T>(y);
    const T* const in = base<T>(x);
    parallel_for(0, loop.numel(), kGrain, [&](int64_t begin, int64_t end) {
      loop.run(begin, end, [&](const int64_t* off, const int64_t* s, int64_t, int64_t n) {
        for (int64_t i = 0; i < n; ++i)
          out[off[0] + i * s[0]] = in[off[2] + i * s[2] + ids[off[1] + i * s[1]] * step];
      });
    });
  });
}

// A line is what one value of the other axes' indices leaves: only it touches its part of y, so
// lines run in parallel, and inside a line additions keep their order.
void scatter_add_cpu(Tensor& y, const Tensor& index, const Tensor& src, int dim) {
  Shape lines = index.shape();
  lines[dim] = 1;
  const Layout to = along(y.layout(), lines, dim), ids = along(index.layout(), lines, dim),
               from = along(src.layout(), lines, dim);
  const StridedLoop<3> loop({&to, &ids, &from});
  const int64_t count = index.dim(dim), y_step = y.strides()[dim], i_step = index.strides()[dim],
                s_step = src.strides()[dim];
  if (count == 0) return;
  const int64_t* const at = base<int64_t>(index);
  visit_sum(y.dtype(), "scatter_add", [&]<class T>() {
    T* const out = base<T>(y);
    const T* const in = base<T>(src);
    parallel_for(0, loop.numel(), std::max<int64_t>(1, kGrain / count), [&](int64_t b, int64_t e) {
      loop.run(b, e, [&](const int64_t* off, const int64_t* s, int64_t, int64_t n) {
        for (int64_t j = 0; j < count; ++j)
          for (int64_t i = 0; i < n; ++i)
            out[off[0] + i * s[0] + at[off[1] + i * s[1] + j * i_step] * y_step] +=
                in[off[2] + i * s[2] + j * s_step];
      });
    });
  });
}

void take_rows_cpu(Tensor& y, const Tensor& x, const Tensor& index) {
  const int64_t m = y.dim(1), n = x.dim(1), bytes = y.dim(2) * size_of(y.dtype());
  if (y.numel() == 0) return;
  const int64_t* const ids = index.data<int64_t>();
  std::byte* const out = y.raw();
  const std::byte* const in = x.raw();
  parallel_for(0, y.dim(0) * m, std::max<int64_t>(1, kGrain * 4 / bytes),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i)
                   std::memcpy(out + i * bytes, in + (i / m * n + ids[i % m]) * bytes,
                               static_cast<size_t>(bytes));
               });
}

// Parallel over strips of columns: each strip sees all rows in order.
void add_rows_cpu(Tensor& y, const Tensor& index, const Tensor& x) {
  constexpr int64_t kStrip = 64;
  const int64_t n = y.dim(1), m = x.dim(1), width = x.dim(2);
  if (x.numel() == 0) return;
  const int64_t strips = (width + kStrip - 1) / kStrip;
  const int64_t* const ids = index.data<int64_t>();
  visit_sum(y.dtype(), "index_select", [&]<class T>() {
    T* const out = y.mutable_data<T>();
    const T* const in = x.data<T>();
    parallel_for(0, y.dim(0) * strips, std::max<int64_t>(1, kGrain / (m * std::min(width, kStrip))),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const int64_t outer = i / strips, first = i % strips * kStrip;
                     const int64_t count = std::min(kStrip, width - first);
                     for (int64_t r = 0; r < m; ++r) {
                       T* __restrict to = out + (outer * n + ids[r]) * width + first;
                       const T* __restrict from = in + (outer * m + r) * width + first;
                       for (int64_t c = 0; c < count; ++c) to[c] += from[c];
                     }
                   }
                 });
  });
}

struct Gather {
  static constexpr const char* name = "gather";
  int dim;
  Saved index{};
  Shape shape{};

  Tensor forward(const Ctx& c, const Tensor& x, const Tensor& i) {
    if (c.recording) index = i, shape = x.shape();
    Tensor y(i.shape(), x.dtype(), x.device());
    kernel::gather(x.device(), y, x, i, dim);
    return y;
  }
  Grads<2> backward(const Ctx&, const Tensor& dy) {
    return {scatter_sum(shape, index.get(), dy, dim)};
  }
};

struct ScatterAdd {
  static constexpr const char* name = "scatter_add";
  static constexpr Cast cast = Cast::widest;
  int dim;
  Saved index{};
  Shape shape{};  // of src

  Tensor forward(const Ctx& c, const Tensor& x, const Tensor& i, const Tensor& src) {
    if (c.needs[2]) index = i;
    shape = src.shape();
    Tensor y(x.shape(), sum_type(x.dtype()), x.device());
    y.copy_(x);
    kernel::scatter_add(y.device(), y, i, src.to(y.dtype()), dim);
    return y.to(x.dtype());
  }
  Grads<3> backward(const Ctx& c, const Tensor& dy) {
    Grads<3> g;
    if (c.needs[0]) g[0] = dy;
    if (c.needs[2]) {
      const Tensor& i = index.get();
      Tensor picked(i.shape(), dy.dtype(), dy.device());
      kernel::gather(dy.device(), picked, dy, i, dim);
      std::vector<Padding> rest;  // what index does not cover was not added
      for (int a = 0; a < i.rank(); ++a) rest.push_back({0, shape[a] - i.dim(a)});
      g[2] = i.shape() == shape ? picked : pad_tensor(picked, rest, 0);
    }
    return g;
  }
};

// [outer, size of dim, inner]
Shape three(const Shape& s, int dim) {
  Shape t{1, s[dim], 1};
  for (int i = 0; i < s.size(); ++i)
    if (i != dim) t[i < dim ? 0 : 2] *= s[i];
  return t;
}

struct IndexSelect {
  static constexpr const char* name = "index_select";
  int dim;
  Saved index{};
  Shape shape{};

  Tensor forward(const Ctx& c, const Tensor& x, const Tensor& i) {
    if (c.recording) index = i, shape = x.shape();
    Shape out = x.shape();
    out[dim] = i.numel();
    Tensor y(out, x.dtype(), x.device());
    if (x.contiguous_layout() && three(out, dim)[2] > 1) {
      Tensor rows = y.view(three(out, dim));
      kernel::take_rows(x.device(), rows, x.view(three(x.shape(), dim)), i);
    } else {
      Shape column = Shape::filled(x.rank(), 1);
      column[dim] = i.numel();
      kernel::gather(x.device(), y, x, i.view(column).expand(out), dim);
    }
    return y;
  }
  Grads<2> backward(const Ctx&, const Tensor& dy) {
    const DType type = sum_type(dy.dtype());
    Tensor dx = Tensor::zeros(shape, type, dy.device());
    Tensor rows = dx.view(three(shape, dim));
    kernel::add_rows(dy.device(), rows, index.get(),
                     dy.to(type).reshape(three(dy.shape(), dim)).contiguous());
    return {dx.to(dy.dtype())};
  }
};

struct MaskedFillOp {
  static constexpr const char* name = "masked_fill";
  double value;
  Saved mask{};
  Tensor forward(const Ctx& c, const Tensor& x, const Tensor& m) {
    const Tensor flags = m.to(DType::boolean);
    if (c.recording) mask = flags;
    return map(fn::MaskedFill{value}, x, flags);
  }
  Grads<2> backward(const Ctx&, const Tensor& dy) {
    return {map(fn::MaskedFill{0}, dy, mask.get())};
  }
};

// Same rank; index at most as large as `limit` outside dim.
void check_sizes(const char* op, const Tensor& index, const Tensor& limit, int dim) {
  bool fits = index.rank() == limit.rank();
  for (int i = 0; fits && i < index.rank(); ++i) fits = i == dim || index.dim(i) <= limit.dim(i);
  check<ShapeError>(fits, op,
                    "index {} does not fit {}: it needs the same rank and no larger sizes{}", index,
                    limit, dim < 0 ? "" : fmt::format(" outside axis {}", dim));
}

}  // namespace

constinit Kernel<int64_t(const Tensor& index, int64_t n)> kernel::first_outside{"index check",
                                                                                first_outside_cpu};
constinit Kernel<void(Tensor& y, const Tensor& x, const Tensor& index, int dim)> kernel::gather{
    "gather", gather_cpu};
constinit Kernel<void(Tensor& y, const Tensor& index, const Tensor& src, int dim)>
    kernel::scatter_add{"scatter_add", scatter_add_cpu};
constinit Kernel<void(Tensor& y, const Tensor& x, const Tensor& index)> kernel::take_rows{
    "index_select", take_rows_cpu};
constinit Kernel<void(Tensor& y, const Tensor& index, const Tensor& x)> kernel::add_rows{
    "index_select backward", add_rows_cpu};

Tensor checked_index(const Tensor& index, int64_t n, const char* op) {
  check<DTypeError>(index.dtype() == DType::i64 || index.dtype() == DType::i32, op,
                    "indices must be i64, got {}", index);
  const Tensor ids = index.to(DType::i64).contiguous();
  const int64_t at = kernel::first_outside(ids.device(), ids, n);
  if (at < 0) return ids;
  const auto value = static_cast<int64_t>(ids.view({-1}).select(0, at).item());
  Shape position = Shape::filled(ids.rank(), 0);
  int64_t rest = at;
  for (int i = ids.rank() - 1; i >= 0; --i) {
    position[i] = rest % ids.dim(i);
    rest /= ids.dim(i);
  }
  fail(op, "index {} at position {} is outside [0, {})", value, position, n);
}

Tensor scatter_sum(const Shape& shape, const Tensor& index, const Tensor& src, int dim) {
  const DType type = sum_type(src.dtype());
  Tensor y = Tensor::zeros(shape, type, src.device());
  kernel::scatter_add(src.device(), y, index, src.to(type), dim);
  return y.to(src.dtype());
}

Var gather(const Var& x, const Var& index, int dim) {
  const int axis = normalize_axis(dim, x.rank(), "gather");
  check_sizes("gather", index.value(), x.value(), axis);
  return apply(Gather{axis}, x, Var(checked_index(index.value(), x.dim(axis), "gather")));
}

Var take_along(const Var& x, const Var& index, int dim) {
  check<ShapeError>(index.rank() == x.rank(), "take_along", "index {} for {}: ranks must be equal",
                    index.value(), x.value());
  const int axis = normalize_axis(dim, x.rank(), "take_along");
  Shape a = x.shape(), b = index.shape();
  a[axis] = b[axis] = 1;
  a = b = broadcast_shapes(a, b, "take_along");
  a[axis] = x.dim(axis), b[axis] = index.dim(axis);
  return gather(expand(x, a), expand(index, b), axis);
}

Var scatter_add(const Var& x, const Var& index, const Var& src, int dim) {
  const int axis = normalize_axis(dim, x.rank(), "scatter_add");
  check_sizes("scatter_add", index.value(), x.value(), axis);
  check_sizes("scatter_add", index.value(), src.value(), -1);
  check<DTypeError>(
      src.dtype() == x.dtype() || (is_floating(src.dtype()) && is_floating(x.dtype())),
      "scatter_add", "{} to {}; convert one of them", src.value(), x.value());
  return apply(ScatterAdd{axis}, x, Var(checked_index(index.value(), x.dim(axis), "scatter_add")),
               src);
}

Var index_select(const Var& x, const Var& index, int dim) {
  const int axis = normalize_axis(dim, x.rank(), "index_select");
  check<ShapeError>(index.rank() == 1, "index_select", "the index must have rank 1, got {}",
                    index.value());
  return apply(IndexSelect{axis}, x,
               Var(checked_index(index.value(), x.dim(axis), "index_select")));
}

Var embedding(const Var& weight, const Var& ids) {
  check<ShapeError>(weight.rank() >= 1, "embedding", "the weight needs rows, got {}",
                    weight.value());
  const Tensor flat = checked_index(ids.value(), weight.dim(0), "embedding")
                          .view({ids.numel()})
                          .to(weight.device());
  Shape out = ids.shape();
  for (int i = 1; i < weight.rank(); ++i) out.push_back(weight.dim(i));
  return reshape(apply(IndexSelect{0}, weight, Var(flat)), out);
}

Var masked_fill(const Var& x, const Var& mask, double value) {
  check<ShapeError>(broadcast_shapes(x.shape(), mask.shape(), "masked_fill") == x.shape(),
                    "masked_fill", "mask {} does not broadcast to {}", mask.value(), x.value());
  return apply(MaskedFillOp{value}, x, mask.detach());
}

Tensor one_hot(const Tensor& index, int64_t classes, DType dtype) {
  check(classes >= 0, "one_hot", "negative number of classes {}", classes);
  const Tensor ids = checked_index(index, classes, "one_hot").view({index.numel(), 1});
  Shape shape = index.shape();
  shape.push_back(classes);
  const Tensor ones = Tensor::full(ids.shape(), 1, DType::f32, ids.device());
  return scatter_sum({ids.numel(), classes}, ids, ones, 1).view(shape).to(dtype);
}

Tensor nonzero(const Tensor& x) {
  const Tensor flags = x.to(cpu()).to(DType::boolean).contiguous();
  const bool* const v = flags.data<bool>();
  std::vector<int64_t> positions;
  int64_t count = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    if (!v[i]) continue;
    ++count;
    const size_t end = positions.size() + static_cast<size_t>(x.rank());
    positions.resize(end);
    int64_t rest = i;
    for (int d = x.rank() - 1; d >= 0; --d) {
      positions[end - static_cast<size_t>(x.rank() - d)] = rest % x.dim(d);
      rest /= x.dim(d);
    }
  }
  return Tensor::from(positions, {count, x.rank()});
}

}  // namespace tenun
