// The shape ops that move data: join, split, pad, repeat, flip, roll, triangles.
#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/functors_other.h"
#include "tenun/ops/map.h"
#include "tenun/ops/shape.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

struct Concat {
  static constexpr const char* name = "concat";
  static constexpr Cast cast = Cast::widest;
  int dim;
  std::vector<int64_t> sizes{};

  std::vector<Tensor> forward(const Ctx& c, std::span<const Tensor> xs) {
    Shape shape = xs[0].shape();
    shape[dim] = 0;
    for (const Tensor& x : xs) {
      shape[dim] += x.dim(dim);
      if (c.recording) sizes.push_back(x.dim(dim));
    }
    Tensor y(shape, xs[0].dtype(), xs[0].device());
    int64_t at = 0;
    for (const Tensor& x : xs) {
      y.slice(dim, at, at + x.dim(dim)).copy_(x);
      at += x.dim(dim);
    }
    return {y};
  }
  std::vector<Tensor> backward(const Ctx& c, std::span<const Tensor> dy) {
    std::vector<Tensor> g(sizes.size());
    int64_t at = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (c.needs[i]) g[i] = dy[0].slice(dim, at, at + sizes[i]);
      at += sizes[i];
    }
    return g;
  }
};

struct Split {
  static constexpr const char* name = "split";
  int dim;
  std::vector<int64_t> sizes;
  Shape shape{};
  DType dtype = DType::f32;
  Device device{};

  std::vector<Tensor> forward(const Ctx&, std::span<const Tensor> xs) {
    const Tensor& x = xs[0];
    shape = x.shape(), dtype = x.dtype(), device = x.device();
    std::vector<Tensor> parts;
    int64_t at = 0;
    for (const int64_t n : sizes) {
      parts.push_back(x.slice(dim, at, at + n));
      at += n;
    }
    return parts;
  }
  std::vector<Tensor> backward(const Ctx&, std::span<const Tensor> dy) {
    Tensor dx(shape, dtype, device);
    int64_t at = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      Tensor part = dx.slice(dim, at, at + sizes[i]);
      if (dy[i].defined())
        part.copy_(dy[i]);
      else
        part.fill_(0);
      at += sizes[i];
    }
    return {dx};
  }
};

struct Pad {
  static constexpr const char* name = "pad";
  std::vector<Padding> axes;
  double value;

  Tensor forward(const Ctx&, const Tensor& x) { return pad_tensor(x, axes, value); }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    Tensor dx = dy;
    for (size_t i = 0; i < axes.size(); ++i) {
      const int axis = static_cast<int>(i);
      dx = dx.slice(axis, axes[i].before, dx.dim(axis) - axes[i].after);
    }
    return {dx};
  }
};

int64_t times(int64_t n, int64_t count, const char* op) {
  int64_t product = 0;
  check<ShapeError>(!__builtin_mul_overflow(n, count, &product), op,
                    "an axis of {} elements cannot be repeated {} times", n, count);
  return product;
}

// Along an axis, `count` copies of each block of [..., axes from `inner` on]: inner = axis tiles,
// inner = axis + 1 repeats element by element.
struct Copies {
  int axis, inner;
  int64_t count;

  [[nodiscard]] Shape as_blocks(const Shape& x) const {
    Shape blocks{1, 1, 1};
    for (int i = 0; i < x.size(); ++i) blocks[i < inner ? 0 : 2] *= x[i];
    return blocks;
  }
  [[nodiscard]] Tensor make(const Tensor& x, const char* op) const {
    if (count == 1) return x.contiguous();
    Shape blocks = as_blocks(x.shape()), shape = x.shape();
    shape[axis] = times(shape[axis], count, op);
    (void)shape.numel();
    const Tensor one = x.reshape(blocks);
    blocks[1] = count;
    if (blocks[2] > 1 || count > blocks[0]) return one.expand(blocks).clone().view(shape);
    Tensor y(blocks, x.dtype(), x.device());  // single elements: count long strided copies
    for (int64_t k = 0; k < count; ++k) y.select(1, k).copy_(one.squeeze(1));
    return y.view(shape);
  }
  /// The gradient of x, whose shape is given.
  [[nodiscard]] Tensor sum(const Tensor& dy, const Shape& x) const {
    if (count == 1) return dy;
    Shape blocks = as_blocks(x);
    blocks[1] = count;
    return sum_axes(dy.reshape(blocks), 1u << 1, false).view(x);
  }
};

struct Repeat {
  static constexpr const char* name = "repeat";
  Shape counts;
  Shape padded{}, shape{};  // of x: with and without axes of size 1 in front

  Tensor forward(const Ctx&, const Tensor& x) {
    padded = shape = x.shape();
    while (padded.size() < counts.size()) padded.insert(0, 1);
    Tensor y = x.contiguous().view(padded);
    for (int i = counts.size() - 1; i >= 0; --i) y = Copies{i, i, counts[i]}.make(y, name);
    return y;
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    Shape before = dy.shape();
    Tensor g = dy;
    for (int i = 0; i < counts.size(); ++i) {
      before[i] = padded[i];
      g = Copies{i, i, counts[i]}.sum(g, before);
    }
    return {g.reshape(shape)};
  }
};

struct RepeatInterleave {
  static constexpr const char* name = "repeat_interleave";
  Copies copies;
  Shape shape{};

  Tensor forward(const Ctx&, const Tensor& x) {
    shape = x.shape();
    return copies.make(x, name);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {copies.sum(dy, shape)}; }
};

struct Flip {
  static constexpr const char* name = "flip";
  Dims dims;  // normalised, without repetition

  // Backwards strides for the length of one copy.
  [[nodiscard]] Tensor mirrored(const Tensor& x) const {
    if (x.numel() == 0) return x.clone();
    Layout l = x.layout();
    for (const int64_t d : dims) {
      const int i = static_cast<int>(d);
      l.offset += (l.shape[i] - 1) * l.strides[i];
      l.strides[i] = -l.strides[i];
    }
    return x.with_layout(l).clone();
  }
  Tensor forward(const Ctx&, const Tensor& x) { return mirrored(x); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {mirrored(dy)}; }
};

struct Roll {
  static constexpr const char* name = "roll";
  Shape shifts;
  Dims dims;

  [[nodiscard]] Tensor rolled(Tensor x, bool back) const {
    for (int k = 0; k < dims.size(); ++k) {
      const int axis = static_cast<int>(dims[k]);
      const int64_t n = x.dim(axis);
      if (n == 0) continue;
      int64_t by = shifts[k] % n;
      if (back) by = -by;
      if (by < 0) by += n;
      if (by == 0) continue;
      Tensor y = empty_like(x);
      y.slice(axis, by, n).copy_(x.slice(axis, 0, n - by));
      y.slice(axis, 0, by).copy_(x.slice(axis, n - by, n));
      x = y;
    }
    return x.contiguous();
  }
  Tensor forward(const Ctx&, const Tensor& x) { return rolled(x, false); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {rolled(dy, true)}; }
};

enum class Triangle { lower, upper };

struct Triangular {
  static constexpr const char* name = "triangle";
  Triangle part;
  int64_t diagonal;

  [[nodiscard]] Tensor cut(const Tensor& x) const {
    const int64_t rows = x.dim(-2), cols = x.dim(-1);
    Tensor mask = Tensor::zeros({rows, cols}, DType::boolean);
    for (int64_t r = 0; r < rows; ++r) {
      // The first column past the diagonal: column r + diagonal belongs to both triangles.
      const int64_t d = std::clamp<int64_t>(diagonal, -rows, cols);
      const int64_t edge =
          std::clamp<int64_t>(part == Triangle::lower ? r + d + 1 : r + d, 0, cols);
      const int64_t from = part == Triangle::lower ? 0 : edge;
      mask.select(0, r).slice(0, from, part == Triangle::lower ? edge : cols).fill_(1);
    }
    return map(fn::Keep{}, x, mask.to(x.device()));
  }
  Tensor forward(const Ctx&, const Tensor& x) { return cut(x); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {cut(dy)}; }
};

Var triangle(const Var& x, Triangle part, int64_t diagonal, const char* op) {
  check<ShapeError>(x.rank() >= 2, op, "needs matrices, got {}", x.value());
  return apply(Triangular{part, diagonal}, x);
}

}  // namespace

Tensor pad_tensor(const Tensor& x, const std::vector<Padding>& axes, double value) {
  Shape shape = x.shape();
  for (int i = 0; i < x.rank(); ++i) {
    const Padding& p = axes[static_cast<size_t>(i)];
    check<ShapeError>(!__builtin_add_overflow(shape[i], p.before, &shape[i]) &&
                          !__builtin_add_overflow(shape[i], p.after, &shape[i]),
                      "pad", "{} with a border of {} and {} is too large", x, p.before, p.after);
  }
  Tensor y(shape, x.dtype(), x.device());
  Tensor inside = y;  // shrinks axis by axis; what is cut off is border
  for (int i = 0; i < x.rank(); ++i) {
    const int64_t from = axes[static_cast<size_t>(i)].before, to = from + x.dim(i);
    if (from > 0) inside.slice(i, 0, from).fill_(value);
    if (to < inside.dim(i)) inside.slice(i, to, inside.dim(i)).fill_(value);
    inside = inside.slice(i, from, to);
  }
  inside.copy_(x);
  return y;
}

Var concat(const std::vector<Var>& xs, int dim) {
  check(!xs.empty(), "concat", "needs at least one tensor");
  const Tensor& first = xs[0].value();
  const int axis = normalize_axis(dim, first.rank(), "concat");
  for (const Var& x : xs) {
    bool fits = x.rank() == first.rank();
    for (int i = 0; fits && i < first.rank(); ++i) fits = i == axis || x.dim(i) == first.dim(i);
    check<ShapeError>(fits, "concat", "{} does not fit {} along axis {}: other sizes must be equal",
                      x.value(), first, axis);
    check<DTypeError>(
        x.dtype() == first.dtype() || (is_floating(x.dtype()) && is_floating(first.dtype())),
        "concat", "{} with {}; convert one of them", x.value(), first);
  }
  if (xs.size() == 1) return xs[0];
  return apply_list(Concat{axis}, xs)[0];
}

Var stack(const std::vector<Var>& xs, int dim) {
  check(!xs.empty(), "stack", "needs at least one tensor");
  const int axis = normalize_axis(dim, xs[0].rank() + 1, "stack");
  std::vector<Var> rows;
  rows.reserve(xs.size());
  for (const Var& x : xs) {
    check<ShapeError>(x.shape() == xs[0].shape(), "stack", "{} with {}: shapes must be equal",
                      x.value(), xs[0].value());
    rows.push_back(unsqueeze(x, axis));
  }
  return concat(rows, axis);
}

std::vector<Var> split(const Var& x, const std::vector<int64_t>& sizes, int dim) {
  const int axis = normalize_axis(dim, x.rank(), "split");
  int64_t rest = x.dim(axis);
  for (const int64_t n : sizes) {
    check(n >= 0 && n <= rest, "split",
          "a piece of {} elements, where {} are left of axis {} of {}", n, rest, axis, x.value());
    rest -= n;
  }
  check(rest == 0, "split", "the pieces leave {} elements of axis {} of {}", rest, axis, x.value());
  return apply_list(Split{axis, sizes}, {x});
}

std::vector<Var> chunk(const Var& x, int64_t count, int dim) {
  check(count >= 1, "chunk", "needs at least one piece, got {}", count);
  const int64_t n = x.dim(normalize_axis(dim, x.rank(), "chunk"));
  const int64_t size = std::max<int64_t>(1, n / count + (n % count != 0 ? 1 : 0));
  std::vector<int64_t> sizes;
  for (int64_t at = 0; at < n; at += size) sizes.push_back(std::min(size, n - at));
  if (sizes.empty()) sizes.push_back(0);
  return split(x, sizes, dim);
}

std::vector<Var> unbind(const Var& x, int dim) {
  const int axis = normalize_axis(dim, x.rank(), "unbind");
  std::vector<Var> parts =
      split(x, std::vector<int64_t>(static_cast<size_t>(x.dim(axis)), 1), axis);
  for (Var& p : parts) p = squeeze(p, axis);
  return parts;
}

Var pad(const Var& x, const std::vector<Padding>& axes, double value) {
  const auto rank = static_cast<size_t>(x.rank());
  check<ShapeError>(axes.size() <= rank, "pad", "{} borders for {}", axes.size(), x.value());
  std::vector<Padding> all(rank - axes.size());
  for (const Padding& p : axes) {
    check(p.before >= 0 && p.after >= 0, "pad", "negative border ({}, {}); use slice to cut",
          p.before, p.after);
    all.push_back(p);
  }
  return apply(Pad{std::move(all), value}, x);
}

Var repeat(const Var& x, const Shape& counts) {
  check<ShapeError>(counts.size() >= x.rank(), "repeat", "{} counts for {}; one for each axis",
                    counts.size(), x.value());
  for (const int64_t n : counts) check(n >= 0, "repeat", "negative count in {}", counts);
  return apply(Repeat{counts}, x);
}

Var repeat_interleave(const Var& x, int64_t repeats, int dim) {
  const int axis = normalize_axis(dim, x.rank(), "repeat_interleave");
  check(repeats >= 0, "repeat_interleave", "negative count {}", repeats);
  return apply(RepeatInterleave{{axis, axis + 1, repeats}}, x);
}

Var flip(const Var& x, const Dims& dims) {
  Dims axes;
  for (const int64_t d : dims) {
    const int axis = normalize_axis(static_cast<int>(d), x.rank(), "flip");
    for (const int64_t before : axes) check(before != axis, "flip", "axis {} twice", axis);
    axes.push_back(axis);
  }
  return apply(Flip{axes}, x);
}

Var roll(const Var& x, const Shape& shifts, const Dims& dims) {
  check(shifts.size() == dims.size(), "roll", "{} shifts for {} axes", shifts.size(), dims.size());
  Dims axes;
  for (const int64_t d : dims)
    axes.push_back(normalize_axis(static_cast<int>(d), x.rank(), "roll"));
  return apply(Roll{shifts, axes}, x);
}

Var tril(const Var& x, int64_t diagonal) { return triangle(x, Triangle::lower, diagonal, "tril"); }
Var triu(const Var& x, int64_t diagonal) { return triangle(x, Triangle::upper, diagonal, "triu"); }

}  // namespace tenun
