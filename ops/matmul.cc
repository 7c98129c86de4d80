#include "tenun/ops/matmul.h"

#include "tenun/core/log.h"
#include "tenun/ops/gemm.h"
#include "tenun/ops/matrix_product.h"

namespace tenun {
namespace {

// One of the last two strides must be 1; other layouts are copied.
Tensor readable(const Tensor& x) {
  const int r = x.rank();
  const bool ok =
      x.strides()[r - 1] == 1 || x.strides()[r - 2] == 1 || x.dim(-1) == 1 || x.dim(-2) == 1;
  return ok ? x : x.contiguous();
}

// [..., M, N] as [B, M, N]: a view where the batch axes merge, else a copy.
Tensor three_axes(const Tensor& x) {
  int64_t batch = 1;
  for (int i = 0; i + 2 < x.rank(); ++i) batch *= x.dim(i);
  return readable(x.reshape({batch, x.dim(-2), x.dim(-1)}));
}

Tensor product(const Tensor& a, const Tensor& b, const Tensor& bias = {}) {
  Shape batch = broadcast_shapes(batch_of(a), batch_of(b), "matmul");
  Shape sa = batch, sb = batch, sc = batch;
  sa.push_back(a.dim(-2)), sa.push_back(a.dim(-1));
  sb.push_back(b.dim(-2)), sb.push_back(b.dim(-1));
  sc.push_back(a.dim(-2)), sc.push_back(b.dim(-1));
  Tensor c(sc, a.dtype(), a.device());
  Tensor c3 = c.view({batch.numel(), a.dim(-2), b.dim(-1)});
  // A matrix that serves the whole batch keeps its single copy (batch stride 0).
  const auto spread = [&](const Tensor& x, const Shape& full) {
    if (batch_of(x).numel() == 1 && batch.numel() != 1) {
      const Tensor one = readable(x.reshape({1, x.dim(-2), x.dim(-1)}));
      return one.expand({batch.numel(), x.dim(-2), x.dim(-1)});
    }
    return three_axes(x.expand(full));
  };
  kernel::gemm(a.device(), c3, spread(a, sa), spread(b, sb), bias);
  return c;
}

struct MatMul {
  static constexpr const char* name = "matmul";
  static Tensor product(const Tensor& a, const Tensor& b) { return tenun::product(a, b); }
};

struct Linear {
  static constexpr const char* name = "linear";
  static constexpr Cast cast = Cast::low;
  Saved x, w;
  Shape shape;

  static Tensor rows(const Tensor& t) {
    return t.reshape({t.numel() / std::max<int64_t>(t.dim(-1), 1), t.dim(-1)});
  }

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& w_, const Tensor& b_) {
    if (c.recording) {
      shape = x_.shape();
      if (c.needs[1]) x = x_;
      if (c.needs[0]) w = w_;
    }
    Shape out = x_.shape();
    out[out.size() - 1] = w_.dim(0);
    return product(rows(x_), w_.transpose(0, 1), b_).view(out);
  }
  Grads<3> backward(const Ctx& c, const Tensor& dy) {
    const Tensor d = rows(dy);
    Grads<3> g;
    if (c.needs[0]) g[0] = product(d, w.get()).view(shape);
    if (c.needs[1]) g[1] = product(d.transpose(0, 1), rows(x.get()));
    if (c.needs[2]) g[2] = sum_axes(d, 1, false);
    return g;
  }
};

}  // namespace

constinit Kernel<void(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& bias)>
    kernel::gemm{"matmul", gemm_cpu};

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_product("matmul", a, b);
  return product(a, b);
}

Var matmul(const Var& a, const Var& b) {
  check_product("matmul", a.value(), b.value());
  return apply(MatrixProduct<MatMul>{}, a, b);
}

Var linear(const Var& x, const Var& weight, const Var& bias) {
  check<ShapeError>(x.rank() >= 1 && weight.rank() == 2 && x.dim(-1) == weight.dim(1), "linear",
                    "x {} does not fit the weight {} (out, in)", x.value(), weight.value());
  check<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.dim(0)}, "linear",
                    "bias {} for weight {}", bias.value(), weight.value());
  return apply(Linear{}, x, weight, bias);
}

void note_slow_matmul(const char* why) { logging::warn_once(fmt::format("matmul: {}", why)); }

}  // namespace tenun
