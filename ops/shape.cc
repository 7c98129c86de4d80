#include "tenun/ops/shape.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

struct View {
  static constexpr const char* name = "view";
  Shape to, from{};
  Tensor forward(const Ctx&, const Tensor& x) {
    from = x.shape();
    return x.view(to);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {dy.reshape(from)}; }
};

struct Reshape {
  static constexpr const char* name = "reshape";
  Shape to, from{};
  Tensor forward(const Ctx&, const Tensor& x) {
    from = x.shape();
    return x.reshape(to);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {dy.reshape(from)}; }
};

struct Permute {
  static constexpr const char* name = "permute";
  Dims axes, back{};
  Tensor forward(const Ctx&, const Tensor& x) {
    back = Dims::filled(x.rank(), 0);
    Tensor y = x.permute(axes);
    for (int i = 0; i < axes.size(); ++i)
      back[normalize_axis(static_cast<int>(axes[i]), x.rank(), name)] = i;
    return y;
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {dy.permute(back)}; }
};

struct Expand {
  static constexpr const char* name = "expand";
  Shape to, from{};
  Tensor forward(const Ctx&, const Tensor& x) {
    from = x.shape();
    return x.expand(to);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {sum_to(dy, from)}; }
};

struct Slice {
  static constexpr const char* name = "slice";
  int dim;
  int64_t start, stop, step;
  Shape shape{};

  Tensor forward(const Ctx&, const Tensor& x) {
    shape = x.shape();
    const int64_t n = x.dim(dim);
    if (stop == kEnd) stop = n;
    Tensor y = x.slice(dim, start, stop, step);
    if (start < 0) start += n;
    if (stop < 0) stop += n;
    return y;
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    if (step == 1) {
      std::vector<Padding> border(static_cast<size_t>(shape.size()));
      border[static_cast<size_t>(dim)] = {start, shape[dim] - stop};
      return {pad_tensor(dy, border, 0)};
    }
    Tensor dx = Tensor::zeros(shape, dy.dtype(), dy.device());
    dx.slice(dim, start, stop, step).copy_(dy);
    return {dx};
  }
};

struct Select {
  static constexpr const char* name = "select";
  int dim;
  int64_t index;
  Shape shape{};

  Tensor forward(const Ctx&, const Tensor& x) {
    shape = x.shape();
    return x.select(dim, index);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    Tensor dx = Tensor::zeros(shape, dy.dtype(), dy.device());
    dx.select(dim, index).copy_(dy);
    return {dx};
  }
};

struct Contiguous {
  static constexpr const char* name = "contiguous";
  Tensor forward(const Ctx&, const Tensor& x) { return x.contiguous(); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {dy}; }
};

}  // namespace

Var view(const Var& x, const Shape& shape) { return apply(View{shape}, x); }
Var reshape(const Var& x, const Shape& shape) {
  return x.shape() == shape ? x : apply(Reshape{shape}, x);
}

Var flatten(const Var& x, int first, int last) {
  if (x.rank() == 0) return reshape(x, {1});
  const int a = normalize_axis(first, x.rank(), "flatten");
  const int b = normalize_axis(last, x.rank(), "flatten");
  check(a <= b, "flatten", "axes {}..{} of {} are in the wrong order", first, last, x.value());
  Shape shape;
  for (int i = 0; i < x.rank(); ++i) {
    if (i > a && i <= b)
      shape[a] *= x.dim(i);
    else
      shape.push_back(x.dim(i));
  }
  return reshape(x, shape);
}

Var squeeze(const Var& x) {
  Shape shape;
  for (const int64_t n : x.shape())
    if (n != 1) shape.push_back(n);
  return reshape(x, shape);
}
Var squeeze(const Var& x, int dim) {
  const int a = normalize_axis(dim, x.rank(), "squeeze");
  check<ShapeError>(x.dim(a) == 1, "squeeze", "axis {} of {} is not of size 1", a, x.value());
  Shape shape = x.shape();
  shape.erase(a);
  return reshape(x, shape);
}
Var unsqueeze(const Var& x, int dim) {
  Shape shape = x.shape();
  shape.insert(normalize_axis(dim, x.rank() + 1, "unsqueeze"), 1);
  return reshape(x, shape);
}

Var permute(const Var& x, const Dims& dims) { return apply(Permute{dims}, x); }
Var transpose(const Var& x, int a, int b) {
  Dims dims;
  for (int i = 0; i < x.rank(); ++i) dims.push_back(i);
  std::swap(dims[normalize_axis(a, x.rank(), "transpose")],
            dims[normalize_axis(b, x.rank(), "transpose")]);
  return permute(x, dims);
}
Var expand(const Var& x, const Shape& shape) {
  return x.shape() == shape ? x : apply(Expand{shape}, x);
}
Var slice(const Var& x, int dim, int64_t start, int64_t stop, int64_t step) {
  return apply(Slice{normalize_axis(dim, x.rank(), "slice"), start, stop, step}, x);
}
Var select(const Var& x, int dim, int64_t index) {
  return apply(Select{normalize_axis(dim, x.rank(), "select"), index}, x);
}
Var contiguous(const Var& x) { return x.value().contiguous_layout() ? x : apply(Contiguous{}, x); }

}  // namespace tenun
