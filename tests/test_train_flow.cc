// Flow matching: loss, draws, samplers.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <cmath>
#include <vector>

#include "tenun/autograd/gradcheck.h"
#include "tenun/autograd/tape.h"
#include "tenun/train/flow.h"
#include "tenun/train/samplers.h"

namespace {
using namespace tenun;

void check_near(double value, double expected, double tolerance) {
  INFO(fmt::format("{:.9g} should be {:.9g}", value, expected));
  CHECK(std::abs(value - expected) <= tolerance);
}
Tensor wave(const Shape& shape, double phase, DType dtype = DType::f64) {
  std::vector<double> v(static_cast<size_t>(shape.numel()));
  for (size_t j = 0; j < v.size(); ++j) v[j] = std::sin(0.37 * static_cast<double>(j) + phase);
  return Tensor::from(v, shape).to(dtype);
}
std::vector<uint64_t> range(uint64_t from, uint64_t to) {
  std::vector<uint64_t> v;
  for (; from < to; ++from) v.push_back(from);
  return v;
}

struct Toy {
  int calls = 0;
  std::vector<double> times;
  /// 0.6 x + 0.3 sin(5 t) + 0.1 y
  Denoiser net() {
    return [this](const Tensor& x, const Tensor& t, const Tensor& y) {
      ++calls;
      const auto tv = t.values<double>(), yv = y.values<double>();
      times.push_back(tv[0]);
      auto v = x.values<double>();
      const size_t each = v.size() / tv.size();
      for (size_t i = 0; i < v.size(); ++i)
        v[i] = 0.6 * v[i] + 0.3 * std::sin(5 * tv[i / each]) + 0.1 * yv[i / each];
      return Tensor::from(v, x.shape()).to(x.dtype());
    };
  }
};

template <class O>
void set_common(Object& s, int64_t steps, double cfg, double shift) {
  O& o = s.as<O>();
  o.num_steps = steps, o.guidance = cfg, o.timeshift = shift;
  o.guidance_interval_min = 0.1, o.guidance_interval_max = 0.9;
}
Object heun(int64_t steps, double cfg, double shift, bool exact) {
  Object s = make_object("sampling.HeunSamplerJiT", ClassKind::sampler);
  set_common<HeunSamplerOptions>(s, steps, cfg, shift);
  s.as<HeunSamplerOptions>().exact_henu = exact;
  return s;
}
Object euler(int64_t steps, double cfg, double shift) {
  Object s = make_object("sampling.EulerSamplerJiT", ClassKind::sampler);
  set_common<EulerSamplerOptions>(s, steps, cfg, shift);
  return s;
}
Object adams(int64_t steps, double shift, int64_t order) {
  Object s = make_object("adam_sampling.AdamLMSamplerJiT", ClassKind::sampler);
  set_common<AdamLMSamplerOptions>(s, steps, 2, shift);
  s.as<AdamLMSamplerOptions>().order = order;
  return s;
}
Tensor start(DType dtype = DType::f64) { return Tensor::from({0.5, -1.2}, {1, 2, 1, 1}).to(dtype); }
Tensor label(int64_t y, int64_t n = 1) {
  return Tensor::full({n}, static_cast<double>(y), DType::i64);
}

void check_sampler(const Object& s, int64_t evaluations, double a, double b) {
  Toy toy;
  const SampleResult r = sample(s, toy.net(), start(), label(1), label(3));
  CHECK(r.evaluations == evaluations);
  CHECK(toy.calls == evaluations);
  const auto v = r.x.values<double>();
  check_near(v[0], a, 1e-6), check_near(v[1], b, 1e-6);
  // In f32 the grid is compared in the same precision, so guidance acts at the same times.
  const auto low = sample(s, Toy{}.net(), start(DType::f32), label(1), label(3)).x.values<double>();
  check_near(low[0], a, 1e-5), check_near(low[1], b, 1e-5);
}

// The loss by its definition.
double plain_loss(const Tensor& pred, const Tensor& x, const Tensor& x_t, const Tensor& t,
                  const FlowLossOptions& o) {
  const auto p = pred.values<double>(), c = x.values<double>(), n = x_t.values<double>(),
             time = t.values<double>();
  const size_t each = p.size() / time.size();
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double left = 1 - time[i / each], clamped = std::max(left, o.t_eps);
    const double hat = o.prediction == Prediction::velocity ? p[i] : (p[i] - n[i]) / clamped;
    const double star = (c[i] - n[i]) / (o.clamp_target ? clamped : left);
    sum += (hat - star) * (hat - star);
  }
  return sum / static_cast<double>(p.size());
}

}  // namespace

TEST_SUITE("train_flow") {
  TEST_CASE("samplers give the reference numbers and count their evaluations") {
    check_sampler(heun(8, 2, 1, true), 15, -0.4027191, -0.8331692);
    check_sampler(heun(8, 2, 2, true), 15, -0.1798291, -0.7295357);
    check_sampler(heun(8, 2, 1, false), 8, -0.4440055, -0.8510889);
    check_sampler(heun(50, 2, 1, true), 99, -0.3064540, -0.6468042);
    check_sampler(euler(8, 2, 1), 8, -0.2956739, -0.7852035);
    check_sampler(euler(50, 1, 1), 50, -0.1235292, -0.4736243);
    check_sampler(adams(8, 1, 1), 8, -0.2956739, -0.7852035);
    check_sampler(adams(8, 1, 2), 8, -0.4511682, -0.8582517);
    check_sampler(adams(8, 1, 3), 8, -0.5063602, -0.8814804);
    check_sampler(adams(8, 1, 4), 8, -0.5317637, -0.8887161);  // exact; see the errata
    check_sampler(adams(8, 3, 2), 8, -0.1827491, -0.7346103);
  }

  TEST_CASE("the time grid") {
    const auto plain = time_grid(4, 1, 0.25);
    REQUIRE(plain.size() == 5);
    for (size_t i = 0; i < 5; ++i) check_near(plain[i], 0.25 * static_cast<double>(i), 1e-15);
    const auto shifted = time_grid(4, 3, 0.25);
    for (size_t i = 0; i < 5; ++i) check_near(shifted[i], plain[i] / (3 - 2 * plain[i]), 1e-15);
    CHECK((shifted.front() == 0 && shifted.back() == 1));
    check_near(time_grid(3, 1, 0.04)[2], 0.96, 1e-15);
    CHECK(time_grid(1, 1, 1) == std::vector<double>{0, 1});
    CHECK_THROWS_AS((void)time_grid(0, 1, 1), const Error&);
    // num_steps changes the grid, not only the test for the last step.
    Toy toy;
    (void)sample(euler(5, 1, 1), toy.net(), start(), label(1), label(3));
    REQUIRE(toy.times.size() == 5);
    check_near(toy.times[4], 0.8, 1e-12);
  }

  TEST_CASE("Adams weights") {
    const auto t = time_grid(8, 3, 1.0 / 8);
    CHECK(adams_weights(t, 0, 1) == std::vector<double>{1});
    const double expected[] = {1.6, 1.611111, 1.625, 1.642857, 1.666667, 1.7, 1.75};
    for (int64_t i = 1; i < 8; ++i) {
      const auto w = adams_weights(t, i, 2);
      REQUIRE(w.size() == 2);
      check_near(w[1], expected[i - 1], 1e-6);
      check_near(w[0], 1 - expected[i - 1], 1e-6);
    }
    // Adams-Bashforth on an even grid.
    const auto even = time_grid(8, 1, 1.0 / 8);
    const std::vector<double> ab4 = {-9.0 / 24, 37.0 / 24, -59.0 / 24, 55.0 / 24};
    const auto w = adams_weights(even, 5, 4);
    for (size_t i = 0; i < 4; ++i) check_near(w[i], ab4[i], 1e-12);
  }

  TEST_CASE("guidance: who gets which half, and when") {
    // Without guidance the unconditional half does not matter.
    const auto one = sample(euler(8, 1, 1), Toy{}.net(), start(), label(1), label(3)).x,
               other = sample(euler(8, 1, 1), Toy{}.net(), start(), label(1), label(0)).x;
    CHECK(one.values<double>() == other.values<double>());
    Object s = euler(4, 3, 1);
    s.as<EulerSamplerOptions>().guidance_interval_min = 0.25;
    s.as<EulerSamplerOptions>().guidance_interval_max = 0.5;
    // One step of Euler by hand at each time: guided only at t = 0.5.
    double x = 0.5;
    for (int i = 0; i < 4; ++i) {
      const double t = 0.25 * i, base = 0.6 * x + 0.3 * std::sin(5 * t), left = 1 - t;
      const double vc = (base + 0.1 - x) / left, vu = (base + 0.3 - x) / left;
      x += 0.25 * (i == 2 ? vu + 3 * (vc - vu) : vc);
    }
    check_near(sample(s, Toy{}.net(), start(), label(1), label(3)).x.values<double>()[0], x, 1e-12);
    // Velocity prediction takes the output as it is.
    Object v = make_object("sampling.EulerSampler", ClassKind::sampler);
    set_common<EulerSamplerOptions>(v, 1, 1, 1);
    CHECK(v.as<EulerSamplerOptions>().prediction == Prediction::velocity);
    check_near(sample(v, Toy{}.net(), start(), label(1), label(3)).x.values<double>()[0],
               0.5 + 0.6 * 0.5 + 0.1, 1e-12);
  }

  TEST_CASE("trajectory, stopping, batches, errors") {
    Toy toy;
    SampleOptions o;
    o.keep_trajectory = true;
    const SampleResult r =
        sample(heun(6, 2, 1, true), toy.net(), start(), label(1), label(3), 0.05, o);
    REQUIRE(r.trajectory.size() == 7);
    CHECK(r.trajectory.front().values<double>() == start().values<double>());
    CHECK(r.trajectory.back().values<double>() == r.x.values<double>());
    std::vector<std::pair<int64_t, int64_t>> seen;
    o.progress = [&](int64_t done, int64_t total) {
      seen.emplace_back(done, total);
      return done < 3;
    };
    CHECK_THROWS_WITH_AS(
        (void)sample(heun(6, 2, 1, true), toy.net(), start(), label(1), label(3), 0.05, o),
        doctest::Contains("stopped"), const Error&);
    CHECK(seen == std::vector<std::pair<int64_t, int64_t>>{{1, 11}, {2, 11}, {3, 11}});
    // A sample of a batch is the sample alone.
    Tensor two({2, 2, 1, 1}, DType::f64);
    two.slice(0, 0, 1).copy_(start());
    two.slice(0, 1, 2).fill_(0.25);
    const auto both =
        sample(adams(8, 1, 3), Toy{}.net(), two, Tensor::from<int64_t>({1, 2}, {2}), label(3, 2)).x;
    CHECK(both.slice(0, 0, 1).values<double>() ==
          sample(adams(8, 1, 3), Toy{}.net(), start(), label(1), label(3)).x.values<double>());
    CHECK_THROWS_AS((void)sample(euler(2, 1, 1), toy.net(), two, label(1), label(3)),
                    const ShapeError&);
    const Denoiser bad = [](const Tensor& x, const Tensor&, const Tensor&) {
      return x.slice(0, 0, 1);
    };
    CHECK_THROWS_AS((void)sample(euler(2, 1, 1), bad, start(), label(1), label(3)),
                    const ShapeError&);
    CHECK_THROWS_AS((void)sample(Object{}, toy.net(), start(), label(1), label(3)),
                    const ConfigError&);
    // Nothing is recorded.
    Tape tape;
    (void)sample(euler(2, 1, 1), toy.net(), start(), label(1), label(3));
    CHECK(tape.size() == 0);
  }

  TEST_CASE("the loss is its formula") {
    const Shape shape{4, 3, 5, 7};
    const Tensor pred = wave(shape, 0.1), x = wave(shape, 1.3), noise = wave(shape, 2.9),
                 t = Tensor::from({0.0, 0.4, 0.93, 0.99}, {4});
    const Tensor x_t = interpolate(x, noise, t);
    const auto xv = x.values<double>(), nv = noise.values<double>(), v = x_t.values<double>();
    for (const size_t i : {size_t{0}, size_t{110}, size_t{419}}) {
      const double time = std::vector{0.0, 0.4, 0.93, 0.99}[i / 105];
      check_near(v[i], time * xv[i] + (1 - time) * nv[i], 1e-14);
    }
    for (const Prediction p : {Prediction::image, Prediction::velocity})
      for (const bool clamp : {true, false})
        for (const double eps : {0.05, 0.2}) {
          const FlowLossOptions o{p, eps, clamp};
          const double expected = plain_loss(pred, x, x_t, t, o);
          check_near(flow_matching_loss(pred, x, x_t, t, o).value().item(), expected,
                     1e-12 * expected);
          const Var low = flow_matching_loss(pred.to(DType::f32), x.to(DType::f32),
                                             x_t.to(DType::f32), t.to(DType::f32), o);
          CHECK(low.dtype() == DType::f32);
          check_near(low.value().item(), expected, 2e-5 * expected);
          // The fewest bits: the network's output in 16 bits is widened, not the loss narrowed.
          CHECK(flow_matching_loss(pred.to(DType::f32), x.to(DType::f32), x_t.to(DType::f32), t, o)
                    .dtype() == DType::f32);
          const auto r = gradcheck(
              [&](std::span<const Var> in) {
                return std::vector<Var>{flow_matching_loss(in[0], x, x_t, t, o)};
              },
              {pred});
          INFO(r.message);
          CHECK(r.ok);
        }
    // The rules differ where 1 - t < t_eps, and only there.
    const auto at = [&](double time, bool clamp) {
      const Tensor tt = Tensor::full({4}, time, DType::f64);
      return flow_matching_loss(pred, x, interpolate(x, noise, tt), tt,
                                {Prediction::image, 0.05, clamp})
          .value()
          .item();
    };
    CHECK(at(0.9, true) == at(0.9, false));
    CHECK(at(0.99, true) != at(0.99, false));
    CHECK_THROWS_AS((void)flow_matching_loss(pred, x, x_t, Tensor::from({0.5}, {1}), {}),
                    const ShapeError&);
    CHECK_THROWS_AS((void)flow_matching_loss(pred, x, x_t.slice(0, 0, 2), t, {}),
                    const ShapeError&);
    CHECK_THROWS_AS((void)interpolate(x, noise, Tensor::from({0.5}, {1})), const ShapeError&);
  }

  TEST_CASE("the loss of many elements is the same on any number of chunks") {
    const Shape shape{3, 3, 80, 80};  // several chunks, whose ends fall inside samples
    const Tensor pred = wave(shape, 0.1), x = wave(shape, 1.3),
                 t = Tensor::from({0.1, 0.5, 0.97}, {3});
    const Tensor x_t = interpolate(x, wave(shape, 4), t);
    const FlowLossOptions o;
    const double expected = plain_loss(pred, x, x_t, t, o);
    const Var p = Var::parameter(pred);
    Tape tape;
    const Var l = flow_matching_loss(p, x, x_t, t, o);
    check_near(l.value().item(), expected, 1e-11 * expected);
    tape.backward(l);
    const auto g = p.grad().values<double>(), pv = pred.values<double>(), xv = x.values<double>();
    const size_t each = g.size() / 3;
    for (size_t i = 0; i < g.size(); i += 997) {
      const double left = std::max(1 - std::vector{0.1, 0.5, 0.97}[i / each], 0.05);
      check_near(g[i], 2 * (pv[i] - xv[i]) / (left * left) / static_cast<double>(g.size()), 1e-15);
    }
  }

  TEST_CASE("times: logit-normal, uniform, shifted, by sample") {
    FlowTrainerOptions o;
    o.lognorm_t = true, o.P_mean = -0.8, o.P_std = 0.8;
    const auto ids = range(0, 40000);
    const auto t = sample_times(ids, 3, 0, o).values<double>();
    double mean = 0, above = 0;
    for (const double v : t) {
      CHECK((v > 0 && v < 1));
      mean += v / 40000, above += v >= 0.3 ? 1.0 / 40000 : 0;
    }
    check_near(mean, 0.331, 0.004);
    check_near(above, 0.524, 0.01);
    o.timeshift = 2;
    const auto shifted = sample_times(ids, 3, 0, o).values<double>();
    for (size_t i = 0; i < 100; ++i) check_near(shifted[i], t[i] / (2 - t[i]), 1e-6);
    o = {};
    double square = 0;
    mean = 0;
    for (const double v : sample_times(ids, 3, 0, o).values<double>())
      mean += v / 40000, square += v * v / 40000;
    check_near(mean, 0.5, 0.006), check_near(square, 1.0 / 3, 0.006);
    // A batch may be split; seeds, steps and samples draw differently.
    const auto all = sample_times(range(0, 8), 3, 0, o).values<double>(),
               part = sample_times(range(5, 8), 3, 0, o).values<double>();
    for (size_t i = 0; i < 3; ++i) CHECK(part[i] == all[i + 5]);
    CHECK(sample_times(range(0, 8), 4, 0, o).values<double>() != all);
    CHECK(sample_times(range(0, 8), 3, 1, o).values<double>() != all);
  }

  TEST_CASE("noise and class dropout, by sample") {
    const Tensor all = sample_noise({4, 3, 16, 16}, range(10, 14), 3, 0, 1),
                 part = sample_noise({2, 3, 16, 16}, range(12, 14), 3, 0, 1);
    CHECK(all.slice(0, 2, 4).values<float>() == part.values<float>());
    const auto twice = sample_noise({2, 3, 16, 16}, range(12, 14), 3, 0, 2).values<double>();
    double mean = 0, square = 0;
    const auto one = part.values<double>();
    for (size_t i = 0; i < one.size(); ++i) {
      check_near(twice[i], 2 * one[i], 1e-6);
      mean += one[i] / static_cast<double>(one.size());
      square += one[i] * one[i] / static_cast<double>(one.size());
    }
    check_near(mean, 0, 0.08), check_near(square, 1, 0.12);
    CHECK(sample_noise({2, 3, 16, 16}, range(12, 14), 4, 0, 1).values<double>() != one);
    CHECK_THROWS_AS((void)sample_noise({3, 1}, range(0, 2), 3, 0, 1), const ShapeError&);

    const auto ids = range(0, 20000);
    const Tensor y = Tensor::full({20000}, 5, DType::i64);
    const auto dropped = drop_classes(y, ids, 3, 0, 0.1, 7).values<int64_t>();
    int64_t nulls = 0;
    for (const int64_t v : dropped) {
      CHECK((v == 5 || v == 7));
      nulls += v == 7 ? 1 : 0;
    }
    check_near(static_cast<double>(nulls) / 20000, 0.1, 0.008);
    CHECK(drop_classes(y, ids, 3, 0, 0, 7).values<int64_t>() == y.values<int64_t>());
    for (const int64_t v :
         drop_classes(y.slice(0, 0, 9), range(0, 9), 3, 0, 1, 7).values<int64_t>())
      CHECK(v == 7);
    const auto tail = drop_classes(y.slice(0, 0, 50), range(100, 150), 3, 0, 0.1, 7);
    CHECK(tail.values<int64_t>() ==
          std::vector<int64_t>(dropped.begin() + 100, dropped.begin() + 150));
  }
}
