// What DESIGN promises of the tape: gradients of chosen inputs, kept tapes, accumulation, hooks,
// nesting, detection of overwritten tensors, anomaly mode, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tenun/autograd/function.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/reduce.h"

using namespace tenun;

namespace {

using Values = std::vector<double>;
Tensor vec(std::initializer_list<double> v) {
  return Tensor::from(v, {static_cast<int64_t>(v.size())});
}
Var par(std::initializer_list<double> v) { return Var::parameter(vec(v)); }
Values grad(const Var& v) { return v.grad().values<double>(); }
template <class F>
std::string message(F&& f) {
  try {
    f();
  } catch (const AutogradError& e) {
    return e.what();
  }
  return "no AutogradError";
}
bool contains(const std::string& s, const std::string& part) {
  return s.find(part) != std::string::npos;
}

// Two outputs, y = 2 x and z = 3 x, and an optional input that is added to y.
struct Fork {
  static constexpr const char* name = "fork";
  bool given = false;
  int* undefined_seen;
  std::array<Tensor, 2> forward(const Ctx&, const Tensor& x, const Tensor& extra) {
    given = extra.defined();
    const Var y = given ? 2 * Var(x) + Var(extra) : 2 * Var(x);
    return {y.value(), (3 * Var(x)).value()};
  }
  Grads<2> backward(const Ctx& c, const std::array<Tensor, 2>& dy) {
    for (const Tensor& d : dy) *undefined_seen += d.defined() ? 0 : 1;
    Grads<2> g;
    Var total(Tensor::zeros((dy[0].defined() ? dy[0] : dy[1]).shape(), DType::f64));
    if (dy[0].defined()) total = total + 2 * Var(dy[0]);
    if (dy[1].defined()) total = total + 3 * Var(dy[1]);
    if (c.needs[0]) g[0] = total.value();
    if (c.needs[1] && dy[0].defined()) g[1] = dy[0];
    return g;
  }
};
// Any number of inputs: out[i] = (i + 1) in[i].
struct Scales {
  static constexpr const char* name = "scales";
  std::vector<Tensor> forward(const Ctx&, std::span<const Tensor> x) {
    std::vector<Tensor> y;
    for (size_t i = 0; i < x.size(); ++i)
      y.push_back((static_cast<double>(i + 1) * Var(x[i])).value());
    return y;
  }
  std::vector<Tensor> backward(const Ctx&, std::span<const Tensor> dy) {
    std::vector<Tensor> dx(dy.size());
    for (size_t i = 0; i < dy.size(); ++i)
      if (dy[i].defined()) dx[i] = (static_cast<double>(i + 1) * Var(dy[i])).value();
    return dx;
  }
};
// The gradient of this op is NaN.
struct BadBackward {
  static constexpr const char* name = "bad_backward";
  Tensor forward(const Ctx&, const Tensor& x) { return x.clone(); }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    return {Tensor::full(dy.shape(), NAN, dy.dtype())};
  }
};

}  // namespace

TEST_SUITE("autograd_tape") {
  TEST_CASE("backward adds to the parameters until zero_grad") {
    Var w = par({1, 2, 3});
    for (int i = 1; i <= 3; ++i) {
      Tape tape;
      tape.backward(sum(w * w));
      CHECK(grad(w) == Values{2.0 * i, 4.0 * i, 6.0 * i});
      CHECK(tape.size() == 0);
    }
    w.zero_grad();
    CHECK(!w.grad().defined());
    Tape tape;
    tape.backward(w * 2.0, vec({1, 10, 100}));
    CHECK(grad(w) == Values{2, 20, 200});
  }

  TEST_CASE("the same input twice, unused outputs, optional inputs") {
    int undefined_seen = 0;
    Var x = par({1, 2}), extra = par({5, 6});
    {
      Tape tape;
      tape.backward(sum(x * x + x / x));
      CHECK(grad(x) == Values{2, 4});
    }
    x.zero_grad();
    {  // only z is used
      Tape tape;
      const auto out = apply(Fork{.undefined_seen = &undefined_seen}, x, Var());
      tape.backward(sum(out[1]));
      CHECK(grad(x) == Values{3, 3});
      CHECK(undefined_seen == 1);
    }
    x.zero_grad();
    {  // both, with the optional input
      Tape tape;
      const auto out = apply(Fork{.undefined_seen = &undefined_seen}, x, extra);
      CHECK(out[0].value().values<double>() == Values{7, 10});
      tape.backward(sum(out[0]) + sum(out[1]));
      CHECK(grad(x) == Values{5, 5});
      CHECK(grad(extra) == Values{1, 1});
      CHECK(undefined_seen == 1);
    }
  }

  TEST_CASE("ops with a list of inputs and outputs") {
    std::vector<Var> in{par({1}), Var(vec({2})), par({3}), par({4})};
    Tape tape;
    const std::vector<Var> out = apply_list(Scales{}, in);
    REQUIRE(out.size() == 4);
    tape.backward(out[0] + out[1] + out[2]);  // the last output is unused
    CHECK(grad(in[0]) == Values{1});
    CHECK(!in[1].requires_grad());
    CHECK(grad(in[2]) == Values{3});
    CHECK(!in[3].grad().defined());
  }

  TEST_CASE("gradients of several losses for chosen inputs, on a kept tape") {
    Var a = par({1, 2}), b = par({3, 4}), unrelated = par({1, 1});
    a.set_grad(vec({7, 7}));
    Tape tape;
    const Var m = a * b, n = sin(m), one = sum(n), two = m * m;
    const std::vector<Var> losses{one, two}, inputs{a, m, unrelated};
    const std::vector<Tensor> seeds{Tensor(), vec({1, 0.5})};
    const auto g = tape.gradients(losses, inputs, Tape::Keep::yes, seeds);
    const auto slope = [](double m_, double s) { return std::cos(m_) + s * 2 * m_; };
    REQUIRE(g.size() == 3);
    CHECK(g[1].values<double>() == Values{slope(3, 1), slope(8, 0.5)});
    CHECK(g[0].values<double>() == Values{3 * slope(3, 1), 4 * slope(8, 0.5)});
    CHECK(!g[2].defined());
    CHECK(grad(a) == Values{7, 7});
    CHECK(!b.grad().defined());
    // Again: the same bits; then one loss alone, which must not see anything of the others.
    const auto again = tape.gradients(losses, inputs, Tape::Keep::yes, seeds);
    for (size_t i = 0; i < 2; ++i) CHECK(again[i].values<double>() == g[i].values<double>());
    const auto alone = tape.gradients(one, std::vector<Var>{a, a}, Tape::Keep::yes);
    CHECK(alone[0].values<double>() == Values{3 * std::cos(3.0), 4 * std::cos(8.0)});
    CHECK(alone[1].values<double>() == alone[0].values<double>());
    // And the ordinary backward still works on the kept tape.
    tape.backward(one);
    CHECK(grad(a) == Values{7 + 3 * std::cos(3.0), 7 + 4 * std::cos(8.0)});
    CHECK(grad(b) == Values{1 * std::cos(3.0), 2 * std::cos(8.0)});
    CHECK(tape.size() == 0);
  }

  TEST_CASE("a loss that is itself a parameter or an input") {
    Var p = par({2}), q = par({3});
    Tape tape;
    const Var m = p * q;
    CHECK(tape.gradients(p, std::vector<Var>{p}, Tape::Keep::yes)[0].item() == 1);
    CHECK(!tape.gradients(p, std::vector<Var>{q}, Tape::Keep::yes)[0].defined());
    CHECK(tape.gradients(m, std::vector<Var>{m}, Tape::Keep::yes)[0].item() == 1);
    CHECK(!p.grad().defined());
    CHECK(!q.grad().defined());
    tape.backward(p);
    CHECK(p.grad().item() == 1);
  }

  TEST_CASE("hooks run once in a pass, with the complete gradient") {
    Var x = par({1, 2});
    x.set_grad(vec({100, 100}));
    int leaf_calls = 0, middle_calls = 0;
    Values leaf_saw, middle_saw;
    x.on_grad([&](const Tensor& g) {
      ++leaf_calls, leaf_saw = g.values<double>();
      return (Var(g) * 10.0).value();
    });
    Tape tape;
    Var m = 3 * x;
    m.on_grad([&](const Tensor& g) {
      ++middle_calls, middle_saw = g.values<double>();
      return Tensor();
    });
    const Var loss = sum(m * 2.0 + m * m + x);
    tape.backward(loss);
    CHECK(middle_calls == 1);
    CHECK(middle_saw == Values{2 + 2 * 3, 2 + 2 * 6});
    CHECK(leaf_calls == 1);
    CHECK(leaf_saw == Values{25, 43});
    CHECK(grad(x) == Values{100 + 250, 100 + 430});
  }

  TEST_CASE("NoGrad, detach and no tape record nothing") {
    Var x = par({1, 2});
    CHECK(!(x * x).requires_grad());
    Tape tape;
    {
      const NoGrad guard;
      CHECK(Tape::current() == nullptr);
      CHECK(!(x * x).requires_grad());
    }
    CHECK(Tape::current() == &tape);
    CHECK(!(x.detach() * 2.0).requires_grad());
    CHECK(tape.size() == 0);
    tape.backward(sum(x * x.detach()));
    CHECK(grad(x) == Values{1, 2});
  }

  TEST_CASE("tapes nest; a result of the outer one may be used on the inner one") {
    Var x = par({3});
    Tape outer;
    const Var m = x * x;
    {
      Tape inner;
      CHECK(Tape::current() == &inner);
      Var y = par({5});
      inner.backward(y * m);
      CHECK(grad(y) == Values{9});
      CHECK(!x.grad().defined());
    }
    CHECK(Tape::current() == &outer);
    outer.backward(m);  // 1 from here, 5 from the inner tape
    CHECK(grad(x) == Values{6 * (1 + 5)});
  }

  TEST_CASE("a saved tensor that was overwritten is named") {
    Var x = par({1, 2});
    Tape tape;
    const Var y = exp(x);
    const Var loss = sum(y);
    Tensor alias = y.value();
    alias.fill_(3);
    const std::string m = message([&] { tape.backward(loss); });
    CHECK(contains(m, "exp"));
    CHECK(contains(m, "overwritten"));
    // Nothing of the failed pass is left behind.
    x.zero_grad();
    Tape next;
    next.backward(sum(2 * x));
    CHECK(grad(x) == Values{2, 2});
  }

  TEST_CASE("a failed pass leaves no gradients on a kept tape, and parameters as they were") {
    Var x = par({1, 2});
    x.set_grad(vec({1, 1}));
    Tape tape;
    const Var y = exp(x), z = 2 * y, loss = sum(z);
    Tensor alias = y.value();
    const Tensor before = alias.clone();
    alias.fill_(3);
    const std::vector<Var> inputs{x};
    CHECK_THROWS_AS((void)tape.gradients(loss, inputs, Tape::Keep::yes), AutogradError);
    CHECK(grad(x) == Values{1, 1});
    CHECK(!z.grad().defined());
    CHECK(!y.grad().defined());
    CHECK(tape.gradients(loss, std::vector<Var>{z}, Tape::Keep::yes)[0].values<double>() ==
          Values{1, 1});
  }

  TEST_CASE("anomaly mode names the op that first made a NaN or infinity") {
    const AnomalyMode guard;
    Var x = par({-1, 1});
    Tape tape;
    CHECK(contains(message([&] { (void)(2 * sqrt(x)); }), "sqrt"));
    CHECK(contains(message([&] { (void)(2 * log(abs(x) - 1.0)); }), "log"));
    const Var y = apply(BadBackward{}, 2 * x);
    const Var loss = sum(y);
    CHECK(contains(message([&] { tape.backward(loss); }), "bad_backward"));
  }

  TEST_CASE("errors: constant, foreign and used losses, wrong seeds") {
    Var x = par({1, 2});
    Var foreign;
    {
      Tape other;
      foreign = sum(x * x);
    }
    Tape tape;
    const std::vector<Var> inputs{x};
    const Var loss = sum(x * x), wide = x * x;
    CHECK(contains(message([&] { tape.backward(sum(Var(vec({1})))); }), "not recorded"));
    CHECK(contains(message([&] { tape.backward(foreign); }), "not recorded"));
    CHECK(contains(message([&] { (void)tape.gradients(foreign, inputs, Tape::Keep::yes); }),
                   "not recorded"));
    CHECK(contains(message([&] {
                     (void)tape.gradients(loss, std::vector<Var>{Var(vec({1}))}, Tape::Keep::yes);
                   }),
                   "constant"));
    CHECK_THROWS_AS(tape.backward(wide), ShapeError);
    CHECK_THROWS_AS(tape.backward(wide, vec({1})), ShapeError);
    CHECK_THROWS_AS((void)tape.gradients(wide, inputs, Tape::Keep::yes), ShapeError);
    CHECK(!x.grad().defined());
    tape.backward(loss);
    CHECK(contains(message([&] { tape.backward(loss); }), "already used"));
    CHECK(grad(x) == Values{2, 4});
    CHECK_THROWS_AS((void)Var::parameter(Tensor::arange(3)), DTypeError);
  }

  TEST_CASE("gradients of parameters own their memory") {
    Var p = par({1, 2}), q = par({3, 4});
    Tape tape;
    tape.backward(sum(p + q));
    CHECK(!p.grad().shares_storage(q.grad()));
    CHECK(p.grad().contiguous_layout());
    Tensor g = p.grad();
    g.fill_(9);
    CHECK(grad(q) == Values{1, 1});
  }

  TEST_CASE("a million ops in a chain") {
    constexpr int kOps = 1000000;
    Var x = par({1});
    {
      Tape tape;
      Var y = x;
      for (int i = 0; i < kOps; ++i) y = y + 1.0;
      CHECK(tape.size() == kOps);
      CHECK(y.value().item() == kOps + 1);
      tape.backward(y);
      CHECK(grad(x) == Values{1});
    }
    Tape dropped;  // its entries go one by one, too
    Var y = x;
    for (int i = 0; i < kOps; ++i) y = y + 1.0;
  }

  TEST_CASE("the printed tape") {
    Var x = Var::parameter(Tensor::zeros({2, 3})), w = Var::parameter(Tensor::zeros({4, 3}));
    Tape tape;
    tape.time_ops(true);
    const Var y = sum(square(linear(x, w)));
    const auto lines = tape.listing();
    REQUIRE(lines.size() == 3);
    CHECK(lines[0].op == "linear");
    CHECK(lines[0].outputs == "f32[2, 4]");
    CHECK(lines[0].bytes_kept == (2 * 3 + 4 * 3) * 4);
    CHECK(lines[1].op == "square");
    CHECK(lines[1].bytes_kept == 2 * 4 * 4);
    CHECK(lines[2].bytes_kept == 0);
    CHECK(contains(tape.str(), "f32[2, 4] <- f32[2, 3] f32[4, 3]"));
    CHECK(contains(tape.str(), "3 ops, 104 B kept"));
    tape.clear();
    CHECK(tape.size() == 0);
  }
}
