// Optimizers, learning rate schedules, clipping and the moving average against plain loops.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <cmath>
#include <functional>
#include <memory>
#include <numbers>
#include <vector>

#include "tenun/core/io/safetensors.h"
#include "tenun/train/optimizer.h"

namespace {
using namespace tenun;

void check_near(double value, double expected, double tolerance) {
  INFO(fmt::format("{:.12g} should be {:.12g}", value, expected));
  CHECK(std::abs(value - expected) <= tolerance);
}
std::vector<double> wave(size_t n, double phase) {
  std::vector<double> v(n);
  for (size_t j = 0; j < n; ++j) v[j] = std::sin(1.7 * static_cast<double>(j) + phase);
  return v;
}

/// Two parameters and their gradients of step k.
struct Weights2 {
  ParameterStore store;
  std::vector<Parameter*> list;
  explicit Weights2(DType dtype = DType::f64, const char* second = "b") : store(0, dtype) {
    (void)store.add("a", {3, 5}, Init::constant(Tensor::from(wave(15, 0.2), {3, 5})),
                    Trainable::yes);
    (void)store.add(second, {7}, Init::constant(Tensor::from(wave(7, 0.9), {7})), Trainable::yes);
    for (Parameter& p : store) list.push_back(&p);
  }
  void gradients(int k) {
    double phase = k;
    for (Parameter* p : list) {
      p->var.set_grad(Tensor::from(wave(static_cast<size_t>(p->var.numel()), phase), p->var.shape())
                          .to(p->var.dtype()));
      phase += 0.5;
    }
  }
  std::vector<double> values(size_t i) const { return list[i]->var.value().values<double>(); }
};

struct PlainAdamW {
  AdamWOptions o;
  std::vector<double> p, m, v;
  int k = 0;
  PlainAdamW(AdamWOptions options, std::vector<double> start)
      : o(options), p(std::move(start)), m(p.size()), v(p.size()) {}
  void step(const std::vector<double>& g, double factor, double scale) {
    ++k;
    const double lr = o.lr * factor;
    for (size_t i = 0; i < p.size(); ++i) {
      const double gi = g[i] * scale;
      p[i] -= lr * o.weight_decay * p[i];
      m[i] = o.betas[0] * m[i] + (1 - o.betas[0]) * gi;
      v[i] = o.betas[1] * v[i] + (1 - o.betas[1]) * gi * gi;
      const double mh = m[i] / (1 - std::pow(o.betas[0], k)),
                   vh = v[i] / (1 - std::pow(o.betas[1], k));
      p[i] -= lr * mh / (std::sqrt(vh) + o.eps);
    }
  }
};
struct PlainSgd {
  SgdOptions o;
  std::vector<double> p, buffer;
  int k = 0;
  PlainSgd(SgdOptions options, std::vector<double> start)
      : o(options), p(std::move(start)), buffer(p.size()) {}
  void step(const std::vector<double>& g, double factor, double scale) {
    ++k;
    for (size_t i = 0; i < p.size(); ++i) {
      double d = g[i] * scale + o.weight_decay * p[i];
      if (o.momentum > 0) {
        buffer[i] = k == 1 ? d : o.momentum * buffer[i] + (1 - o.dampening) * d;
        d = o.nesterov ? d + o.momentum * buffer[i] : buffer[i];
      }
      p[i] -= o.lr * factor * d;
    }
  }
};

template <class Plain, class Opt, class Options>
void check_optimizer(const Options& o) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    Weights2 w(dtype);
    Opt opt(w.list, o);
    CHECK(opt.lr() == o.lr);
    Plain a(o, w.values(0)), b(o, w.values(1));
    for (int k = 0; k < 6; ++k) {
      const double factor = 1 - 0.1 * k, scale = k % 2 == 0 ? 1 : 0.25;
      w.gradients(k);
      opt.step(factor, scale);
      a.step(wave(15, k), factor, scale), b.step(wave(7, k + 0.5), factor, scale);
    }
    CHECK(opt.steps() == 6);
    const double tolerance = dtype == DType::f64 ? 1e-12 : 2e-6;
    const auto x = w.values(0), y = w.values(1);
    for (size_t i = 0; i < 15; ++i) check_near(x[i], a.p[i], tolerance);
    for (size_t i = 0; i < 7; ++i) check_near(y[i], b.p[i], tolerance);
  }
}

using Make = std::function<std::unique_ptr<Optimizer>(std::vector<Parameter*>)>;
void check_resume(const Make& make) {
  Weights2 straight, first;
  auto whole = make(straight.list), part = make(first.list);
  for (int k = 0; k < 3; ++k) {
    straight.gradients(k), whole->step();
    first.gradients(k), part->step();
  }
  // Through a file, into parameters with the values of then.
  const std::string file = dump_safetensors(part->state());
  const auto saved = parse_safetensors(std::as_bytes(std::span(file)), "state");
  Weights2 second;
  second.list[0]->var.mutable_value().copy_(first.list[0]->var.value());
  second.list[1]->var.mutable_value().copy_(first.list[1]->var.value());
  auto rest = make(second.list);
  rest->load_state(saved, part->steps());
  CHECK(rest->steps() == 3);
  for (int k = 3; k < 6; ++k) {
    straight.gradients(k), whole->step();
    second.gradients(k), rest->step();
  }
  CHECK(second.values(0) == straight.values(0));
  CHECK(second.values(1) == straight.values(1));
  const auto a = whole->state(), b = rest->state();
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].name == b[i].name);
    CHECK(a[i].tensor.values<double>() == b[i].tensor.values<double>());
  }
}

}  // namespace

TEST_SUITE("train_optim") {
  TEST_CASE("AdamW is its formula") {
    check_optimizer<PlainAdamW, AdamW>(AdamWOptions{});
    check_optimizer<PlainAdamW, AdamW>(
        AdamWOptions{.lr = 0.05, .betas = {0.8, 0.9}, .eps = 1e-3, .weight_decay = 0.3});
    check_optimizer<PlainAdamW, AdamW>(AdamWOptions{.weight_decay = 0});
  }

  TEST_CASE("SGD is its formula") {
    check_optimizer<PlainSgd, Sgd>(SgdOptions{.lr = 0.1});
    check_optimizer<PlainSgd, Sgd>(SgdOptions{.lr = 0.1, .weight_decay = 0.2});
    check_optimizer<PlainSgd, Sgd>(SgdOptions{.lr = 0.1, .momentum = 0.9});
    check_optimizer<PlainSgd, Sgd>(
        SgdOptions{.lr = 0.1, .momentum = 0.7, .dampening = 0.4, .weight_decay = 0.1});
    check_optimizer<PlainSgd, Sgd>(
        SgdOptions{.lr = 0.1, .momentum = 0.7, .weight_decay = 0.1, .nesterov = true});
  }

  TEST_CASE("a parameter without a gradient is left alone, its count too") {
    Weights2 w;
    AdamW opt(w.list, {.lr = 0.1, .weight_decay = 0.5});
    const auto b = w.values(1);
    w.gradients(0);
    w.list[1]->var.zero_grad();
    w.list[1]->var.set_grad(Tensor());
    opt.step();
    CHECK(w.values(1) == b);
    auto state = opt.state();
    REQUIRE(state.size() == 3);
    CHECK(state[0].name == "step.a");
    CHECK(state[1].name == "exp_avg.a");
    CHECK(state[2].name == "exp_avg_sq.a");
    // Its first step is a first step, whenever it comes.
    PlainAdamW plain({.lr = 0.1, .weight_decay = 0.5}, b);
    w.gradients(1);
    opt.step();
    plain.step(wave(7, 1.5), 1, 1);
    for (size_t i = 0; i < 7; ++i) check_near(w.values(1)[i], plain.p[i], 1e-12);
    opt.zero_grad();
    for (Parameter* p : w.list)
      if (p->var.grad().defined())
        for (const double g : p->var.grad().values<double>()) CHECK(g == 0);
  }

  TEST_CASE("state goes through a file and continues bit by bit") {
    check_resume([](std::vector<Parameter*> p) {
      return std::make_unique<AdamW>(std::move(p), AdamWOptions{.lr = 0.05});
    });
    check_resume([](std::vector<Parameter*> p) {
      return std::make_unique<Sgd>(std::move(p), SgdOptions{.lr = 0.05, .momentum = 0.9});
    });
    check_resume([](std::vector<Parameter*> p) {
      return std::make_unique<Sgd>(std::move(p), SgdOptions{.lr = 0.05});
    });
    Weights2 w;
    AdamW opt(w.list, {});
    w.gradients(0);
    opt.step();
    TensorFile f;
    f.tensors = opt.state();
    for (NamedTensor& t : f.tensors)
      if (t.name == "exp_avg_sq.b") t.tensor = Tensor::zeros({6}, DType::f64);
    CHECK_THROWS_WITH_AS(opt.load_state(f, 1), doctest::Contains("exp_avg_sq"), const IoError&);
    std::erase_if(f.tensors, [](const NamedTensor& t) { return t.name == "exp_avg_sq.b"; });
    CHECK_THROWS_WITH_AS(opt.load_state(f, 1), doctest::Contains("exp_avg_sq.b"), const IoError&);
  }

  TEST_CASE("optimizers by configuration") {
    Weights2 w;
    Object adamw = make_object("optim.AdamW", ClassKind::optimizer);
    adamw.as<AdamWOptions>().lr = 0.125;
    CHECK(make_optimizer(adamw, w.list)->lr() == 0.125);
    CHECK(dynamic_cast<Sgd*>(
              make_optimizer(make_object("optim.SGD", ClassKind::optimizer), w.list).get()) !=
          nullptr);
    CHECK_THROWS_AS((void)make_optimizer(Object{}, w.list), const ConfigError&);
  }

  TEST_CASE("the norm of all gradients") {
    Weights2 w;
    w.gradients(3);
    double sum = 0;
    for (const double g : wave(15, 3)) sum += g * g;
    for (const double g : wave(7, 3.5)) sum += g * g;
    check_near(gradient_norm(w.list).item(), std::sqrt(sum), 1e-12);
    check_near(gradient_norm(w.list, 0.25).item(), 0.25 * std::sqrt(sum), 1e-12);
    // Clipping to norm c is a step with the gradients times c / norm.
    const double scale = 0.5 / gradient_norm(w.list).item();
    check_near(gradient_norm(w.list, scale).item(), 0.5, 1e-12);
    w.list[0]->var.set_grad(Tensor());
    sum = 0;
    for (const double g : wave(7, 3.5)) sum += g * g;
    check_near(gradient_norm(w.list).item(), std::sqrt(sum), 1e-12);
    Tensor bad = Tensor::zeros({7}, DType::f64);
    bad.mutable_data<double>()[3] = INFINITY;
    w.list[1]->var.set_grad(bad);
    CHECK_FALSE(std::isfinite(gradient_norm(w.list).item()));
  }

  TEST_CASE("learning rate schedules") {
    const Schedule none(Object{}, 100);
    CHECK((none.factor(0) == 1 && none.factor(1000) == 1));
    Object warm = make_object("lr_scheduler.ConstantWithWarmup", ClassKind::lr_scheduler);
    warm.as<ConstantWithWarmupOptions>().num_warmup_steps = 10;
    const Schedule w(warm, 100);
    for (const auto& [step, f] : {std::pair{0, 0.0}, {1, 0.1}, {9, 0.9}, {10, 1.0}, {99, 1.0}})
      check_near(w.factor(step), f, 1e-15);
    warm.as<ConstantWithWarmupOptions>().num_warmup_steps = 0;
    CHECK(Schedule(warm, 100).factor(0) == 1);
    Object cosine = make_object("lr_scheduler.CosineWithWarmup", ClassKind::lr_scheduler);
    auto& o = cosine.as<CosineWithWarmupOptions>();
    o.num_warmup_steps = 10, o.min_lr_ratio = 0.2;
    const Schedule c(cosine, 110);
    check_near(c.factor(5), 0.5, 1e-15), check_near(c.factor(10), 1, 1e-15);
    check_near(c.factor(60), 0.6, 1e-12);
    check_near(c.factor(35), 0.2 + 0.4 * (1 + std::cos(std::numbers::pi / 4)), 1e-12);
    check_near(c.factor(110), 0.2, 1e-15), check_near(c.factor(10000), 0.2, 1e-15);
    o.num_training_steps = 60;
    check_near(Schedule(cosine, 110).factor(60), 0.2, 1e-15);
    o.num_training_steps.reset();
    CHECK_THROWS_AS(Schedule(cosine, -1), const ConfigError&);
  }

  TEST_CASE("the moving average") {
    Weights2 from, into;
    for (size_t i = 0; i < 2; ++i) from.list[i]->var.mutable_value().fill_(1);
    Ema ema(into.store, from.store, {.decay = 0.75});
    auto expected = into.values(0);
    for (int step = 1; step <= 3; ++step) {
      from.list[0]->var.mutable_value().fill_(step);
      ema.update(step);
      ema.update(step);  // a step counts once
      for (double& v : expected) v = 0.75 * v + 0.25 * step;
    }
    CHECK(ema.updates() == 3);
    for (size_t i = 0; i < 15; ++i) check_near(into.values(0)[i], expected[i], 1e-12);
    ema.copy();
    CHECK(into.values(0) == from.values(0));
    CHECK(from.values(0) == std::vector<double>(15, 3.0));
    // Warm-up: a short memory at first.
    Ema warm(into.store, from.store, {.decay = 0.99, .warmup = true});
    check_near(warm.decay_at(1), 2.0 / 11, 1e-15), check_near(warm.decay_at(8), 0.5, 1e-15);
    CHECK(warm.decay_at(100000) == 0.99);
    CHECK(ema.decay_at(1) == 0.75);
    // Every second step.
    Ema some(into.store, from.store, {.decay = 0.5, .every_n_steps = 2});
    for (int step = 1; step <= 5; ++step) some.update(step);
    CHECK(some.updates() == 2);
    // A resumed average goes on as if nothing had been.
    some.restore(7, 14);
    CHECK(some.updates() == 7);
    some.update(14);
    CHECK(some.updates() == 7);
    some.update(16);
    CHECK(some.updates() == 8);
    // Parameters are matched by name.
    Weights2 other(DType::f64, "c");
    const auto before = other.values(1);
    Ema named(other.store, from.store, {.decay = 0.5});
    named.update(1);
    CHECK(other.values(1) == before);
  }
}
