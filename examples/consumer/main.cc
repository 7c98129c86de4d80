// A program against the installed library: an op of its own with its own backward pass, and a small
// training loop around it. Exit code 1 if it has not learned. meson.build and CMakeLists.txt beside
// this file show the two ways to find the library.
#include <tenun/tenun.h>
#include <tenun/train/batik/batik.h>
#include <tenun/train/samplers.h>

#include <cmath>
#include <cstdio>

namespace {

// y = log(cosh(x)): the square near zero, the absolute value far away. dx = tanh(x) dy.
struct LogCosh {
  static constexpr const char* name = "log_cosh";
  tenun::Saved x;

  tenun::Tensor forward(const tenun::Ctx& c, const tenun::Tensor& x_) {
    const tenun::Tensor in = x_.contiguous();
    if (c.recording) x = in;
    tenun::Tensor y = tenun::empty_like(in);
    tenun::visit_float(in.dtype(), name, [&]<class T>() {
      using C = tenun::Compute<T>;
      const T* p = in.data<T>();
      T* out = y.mutable_data<T>();
      for (int64_t i = 0; i < in.numel(); ++i) {
        const C a = std::abs(C(p[i]));
        out[i] = T(a + std::log1p(std::exp(-2 * a)) - C(0.69314718055994531));
      }
    });
    return y;
  }

  tenun::Grads<1> backward(const tenun::Ctx&, const tenun::Tensor& dy) {
    const tenun::Tensor in = x.get(), up = dy.contiguous();
    tenun::Tensor g = tenun::empty_like(in);
    tenun::visit_float(in.dtype(), name, [&]<class T>() {
      using C = tenun::Compute<T>;
      for (int64_t i = 0; i < in.numel(); ++i)
        g.mutable_data<T>()[i] = T(std::tanh(C(in.data<T>()[i])) * C(up.data<T>()[i]));
    });
    return {g};
  }
};

tenun::Var log_cosh(const tenun::Var& x) { return tenun::apply(LogCosh{}, x); }

}  // namespace

int main() {
  try {
    tenun::init();
    using tenun::RandomKey, tenun::Purpose, tenun::Var;
    tenun::Tensor probe({7}, tenun::DType::f64);
    tenun::fill_normal(probe, RandomKey::derive(1, Purpose::user));
    const auto r = tenun::gradcheck(
        [](std::span<const Var> in) { return std::vector<Var>{log_cosh(in[0])}; }, {probe});
    std::printf("tenun %s, gradient of log_cosh: %s\n", tenun::version(),
                r.ok ? "right" : r.message.c_str());

    // A line through points, some of which lie: they pull less on log cosh than on the square.
    tenun::Tensor x({64, 1}, tenun::DType::f32);
    tenun::fill_uniform(x, RandomKey::derive(2, Purpose::data), -2, 2);
    tenun::Tensor y({64, 1}, tenun::DType::f32);
    for (int64_t i = 0; i < 64; ++i)
      y.mutable_data<float>()[i] = 3 * x.data<float>()[i] + (i % 16 == 0 ? 9.0f : 0.5f);
    Var w = Var::parameter(tenun::Tensor::zeros({1, 1}));
    Var b = Var::parameter(tenun::Tensor::zeros({1}));
    double loss = 0;
    for (int step = 0; step < 400; ++step) {
      tenun::Tape tape;
      const Var l = mean(log_cosh(linear(x, w, b) - Var(y)));
      loss = l.value().item();
      tape.backward(l);
      for (Var* p : {&w, &b}) {
        p->mutable_value().add_((Var(p->grad()) * -0.2).value());
        p->zero_grad();
      }
    }
    const double slope = w.value().item();
    std::printf("slope %.3f (3), loss %.3f\n", slope, loss);

    // From the training library: the built-in pictures, and a sampler's times.
    const tenun::Image cloth = tenun::draw_batik(tenun::batik_class("kawung"), 32, 0, 0);
    const std::vector<double> times = tenun::time_grid(10, 1.0, 0.0);
    std::printf("a kawung cloth of %d x %d pixels; %zu times\n", cloth.width, cloth.height,
                times.size());
    return r.ok && std::abs(slope - 3) < 0.2 && times.size() == 11 ? 0 : 1;
  } catch (const tenun::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
