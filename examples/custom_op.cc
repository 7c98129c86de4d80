// A custom op as a user of the library writes it: squared distances between two sets of points,
// with its own backward pass, in one struct. The program checks the gradient against finite
// differences, then uses the op: three centres fall onto the middles of three clouds of points.
// docs/adding_an_op.md walks through it.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/autograd/gradcheck.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/core/random.h"

using namespace tenun;

namespace {

// y[i, j] = |a_i - b_j|^2 for points a [n, d] and b [m, d].
//   da_i =  2 sum_j dy_ij (a_i - b_j)
//   db_j = -2 sum_i dy_ij (a_i - b_j)
struct SquaredDistance {
  static constexpr const char* name = "squared_distance";
  static constexpr Cast cast = Cast::widest;  // f32 with f64: compute in f64
  Saved a, b;                                 // what backward reads

  Tensor forward(const Ctx& c, const Tensor& a_, const Tensor& b_) {
    const Tensor x = a_.contiguous(), z = b_.contiguous();  // inputs may be strided views
    if (c.recording) a = x, b = z;  // nothing is kept if no gradient will be asked for
    const int64_t n = x.dim(0), m = z.dim(0), d = x.dim(1);
    Tensor y({n, m}, x.dtype());
    visit_float(x.dtype(), name, [&]<class T>() {
      const T *p = x.data<T>(), *q = z.data<T>();
      T* out = y.mutable_data<T>();
      parallel_for(0, n, 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          for (int64_t j = 0; j < m; ++j) {
            Compute<T> sum = 0;
            for (int64_t k = 0; k < d; ++k) {
              const Compute<T> e = Compute<T>(p[i * d + k]) - Compute<T>(q[j * d + k]);
              sum += e * e;
            }
            out[i * m + j] = T(sum);
          }
      });
    });
    return y;
  }

  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    Grads<2> g;  // an undefined gradient means: none
    if (c.needs[0]) g[0] = pull(a.get(), b.get(), dy.contiguous());
    if (c.needs[1]) g[1] = pull(b.get(), a.get(), dy.transpose(0, 1).contiguous());
    return g;
  }

 private:
  // 2 sum_j w_ij (x_i - z_j): both gradients, by symmetry. Each row is written by one task, in a
  // fixed order, so the bits do not depend on the number of threads.
  static Tensor pull(const Tensor& x, const Tensor& z, const Tensor& w) {
    const int64_t n = x.dim(0), m = z.dim(0), d = x.dim(1);
    Tensor g = empty_like(x);
    visit_float(x.dtype(), name, [&]<class T>() {
      const T *p = x.data<T>(), *q = z.data<T>(), *weight = w.data<T>();
      T* out = g.mutable_data<T>();
      parallel_for(0, n, 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          for (int64_t k = 0; k < d; ++k) {
            Compute<T> sum = 0;
            for (int64_t j = 0; j < m; ++j)
              sum += Compute<T>(weight[i * m + j]) *
                     (Compute<T>(p[i * d + k]) - Compute<T>(q[j * d + k]));
            out[i * d + k] = T(2 * sum);
          }
      });
    });
    return g;
  }
};

// The public function checks once, says what is wrong, and applies the struct.
Var squared_distance(const Var& a, const Var& b) {
  check<ShapeError>(a.rank() == 2 && b.rank() == 2 && a.dim(1) == b.dim(1), "squared_distance",
                    "needs points [n, d] and [m, d], got {} and {}", a.value(), b.value());
  return apply(SquaredDistance{}, a, b);
}

bool gradients_are_right() {
  Tensor a({5, 3}, DType::f64), b({4, 3}, DType::f64);
  fill_normal(a, RandomKey::derive(1, Purpose::user));
  fill_normal(b, RandomKey::derive(2, Purpose::user));
  const GradcheckResult r = gradcheck(
      [](std::span<const Var> in) { return std::vector<Var>{squared_distance(in[0], in[1])}; },
      {a, b});
  fmt::print("gradcheck: {} slopes compared, largest error {:.1e}: {}\n", r.compared, r.max_error,
             r.ok ? "passed" : r.message);
  return r.ok;
}

bool centres_find_the_clouds() {
  // Cloud k: 50 points around (4k, -2k).
  constexpr int64_t kClouds = 3, kPoints = 50;
  Tensor points({kClouds * kPoints, 2}, DType::f32);
  fill_normal(points, RandomKey::derive(3, Purpose::user), 0, 0.5);
  for (int64_t i = 0; i < points.dim(0); ++i) {
    const auto k = static_cast<float>(i / kPoints);
    points.mutable_data<float>()[2 * i] += 4 * k;
    points.mutable_data<float>()[2 * i + 1] -= 2 * k;
  }
  Var centres = Var::parameter(Tensor::from<float>({1, 1, 2, 0, 6, -3}, {kClouds, 2}));
  double loss = 0;
  for (int step = 0; step < 40; ++step) {
    Tape tape;
    const Var d = squared_distance(points, centres);
    // k-means: each point weighs on its nearest centre alone. These weights are the gradient of
    // the loss with respect to the distances: the seed of the backward pass.
    Tensor seed = zeros_like(d.value());
    loss = 0;
    for (int64_t i = 0; i < points.dim(0); ++i) {
      const float* row = d.value().data<float>() + i * kClouds;
      const auto best = std::min_element(row, row + kClouds) - row;
      seed.mutable_data<float>()[i * kClouds + best] = 1.0f / kPoints;
      loss += static_cast<double>(row[best]) / kPoints;
    }
    tape.backward(d, seed);
    for (int64_t i = 0; i < centres.numel(); ++i)
      centres.mutable_value().mutable_data<float>()[i] -= 0.25f * centres.grad().data<float>()[i];
    centres.zero_grad();
    if (step % 10 == 9) fmt::print("step {:2}: loss {:.4f}\n", step + 1, loss);
  }
  fmt::print("centres:\n{}\n", centres.value().str());
  double off = 0;
  for (int64_t k = 0; k < kClouds; ++k)
    for (int64_t c = 0; c < 2; ++c) {
      double mean = 0;
      for (int64_t i = k * kPoints; i < (k + 1) * kPoints; ++i)
        mean += static_cast<double>(points.data<float>()[2 * i + c]) / kPoints;
      off = std::max(
          off, std::abs(mean - static_cast<double>(centres.value().data<float>()[2 * k + c])));
    }
  fmt::print("largest distance from a cloud's mean: {:.1e}\n", off);
  return off < 1e-3;
}

}  // namespace

int main() {
  try {
    return gradients_are_right() && centres_find_the_clouds() ? 0 : 1;
  } catch (const tenun::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
