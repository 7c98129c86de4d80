// A first network: y = sin(x) by two hidden layers, in forty lines. Prints the falling loss and
// fails (exit code 1) if the network has not learned.
#include <tenun/tenun.h>

#include <cmath>
#include <cstdio>
#include <vector>

using namespace tenun;

int main() {
  constexpr int64_t kPoints = 256, kWidth = 32;
  constexpr uint64_t kSeed = 1;
  Tensor x({kPoints, 1}, DType::f32);
  fill_uniform(x, RandomKey::derive(kSeed, Purpose::data), -3.14, 3.14);
  const Var target = sin(x);

  std::vector<Var> parameters;
  const auto layer = [&](int64_t in, int64_t out) {
    Tensor w({out, in}, DType::f32);
    fill_normal(w, RandomKey::derive(kSeed, Purpose::init, parameters.size()), 0,
                1 / std::sqrt(static_cast<double>(in)));
    parameters.push_back(Var::parameter(w));
    parameters.push_back(Var::parameter(Tensor::zeros({out})));
  };
  layer(1, kWidth), layer(kWidth, kWidth), layer(kWidth, 1);

  double last = 0;
  for (int step = 0; step <= 2000; ++step) {
    Tape tape;  // records what follows
    Var h = x;
    for (size_t i = 0; i < parameters.size(); i += 2) {
      h = linear(h, parameters[i], parameters[i + 1]);
      if (i + 2 < parameters.size()) h = tanh(h);
    }
    const Var loss = mean(square(h - target));
    last = loss.value().item();
    if (step % 250 == 0) std::printf("step %4d  loss %.6f\n", step, last);
    tape.backward(loss);
    for (Var& p : parameters) {  // gradient descent by hand
      p.mutable_value().add_((Var(p.grad()) * -0.02).value());
      p.zero_grad();
    }
  }
  return last < 0.01 ? 0 : 1;
}
