#include "tenun/ops/sinusoid.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/functors_norm.h"
#include "tenun/ops/rows.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

// The tables of frequencies are f64, so that t f and its cosine are formed in f64 whatever t is.
struct TimestepEmbedding {
  static constexpr const char* name = "timestep_embedding";
  int64_t dim = 0;
  double max_period = 0;
  Saved t{};
  DType dtype = DType::f32;

  [[nodiscard]] std::pair<Tensor, Tensor> channels(Device device) const {
    Tensor f = Tensor::zeros({dim}, DType::f64), kind = Tensor::full({dim}, 2, DType::f64);
    double* const fs = f.mutable_data<double>();
    double* const kinds = kind.mutable_data<double>();
    const int64_t half = dim / 2;
    for (int64_t k = 0; k < half; ++k) {
      fs[k] = fs[half + k] =
          std::exp(-std::log(max_period) * static_cast<double>(k) / static_cast<double>(half));
      kinds[k] = 0, kinds[half + k] = 1;
    }
    return {f.to(device), kind.to(device)};
  }

  Tensor forward(const Ctx& c, const Tensor& t_) {
    if (c.recording) t = t_, dtype = t_.dtype();
    const auto [f, kind] = channels(t_.device());
    return map(fn::Wave{}, t_.to(compute_dtype(t_.dtype())).unsqueeze(1), f, kind);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const auto [f, kind] = channels(dy.device());
    const Tensor each = map(fn::WaveGrad{}, dy, t.get().unsqueeze(1), f, kind);
    return {sum_axes(each, 0b10, false).to(dtype)};
  }
};

}  // namespace

Tensor sincos_pos_embed(int64_t dim, int64_t grid, DType dtype) {
  check(dim >= 4 && dim % 4 == 0 && grid >= 1, "sincos_pos_embed",
        "needs a dim divisible by 4 and grid >= 1, got {} and {}", dim, grid);
  const int64_t quarter = dim / 4;
  Tensor y({grid * grid, dim}, DType::f64);
  double* p = y.mutable_data<double>();
  for (int64_t i = 0; i < grid; ++i)
    for (int64_t j = 0; j < grid; ++j, p += dim)
      for (int64_t k = 0; k < quarter; ++k) {
        const double w = std::pow(10000.0, -static_cast<double>(k) / static_cast<double>(quarter));
        const double column = static_cast<double>(j) * w, row = static_cast<double>(i) * w;
        p[k] = std::sin(column);
        p[quarter + k] = std::cos(column);
        p[2 * quarter + k] = std::sin(row);
        p[3 * quarter + k] = std::cos(row);
      }
  return y.to(dtype);
}

Var timestep_embedding(const Var& t, int64_t dim, double max_period) {
  check<ShapeError>(t.rank() == 1, "timestep_embedding", "t must be [B], got {}", t.value());
  check(dim >= 1 && max_period > 0, "timestep_embedding",
        "needs dim >= 1 and max_period > 0, got {} and {}", dim, max_period);
  return apply(TimestepEmbedding{.dim = dim, .max_period = max_period}, t);
}

}  // namespace tenun
