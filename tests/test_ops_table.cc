// Every op of the table, every case: forward against the naive f64 reference (in f64, f32 and
// bf16), strided inputs, gradients by finite differences, and equal bits for any number of threads.
#include <doctest/doctest.h>

#include <cmath>

#include "tenun/autograd/gradcheck.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/parallel.h"
#include "tenun/core/random.h"
#include "tenun/ops/cases/registry.h"
#include "tenun/tests/table_util.h"

using namespace tenun;

namespace {

double largest(const std::vector<double>& v) {
  double m = 0;
  for (double x : v)
    if (std::isfinite(x)) m = std::max(m, std::abs(x));
  return m;
}

void compare(const Tensor& got, const Tensor& want, double rtol, double atol,
             const std::string& what) {
  INFO(what);
  REQUIRE(got.defined());
  REQUIRE(got.shape() == want.shape());
  const auto a = doubles(got), b = doubles(want);
  size_t bad = 0, worst = 0;
  double most = -1;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double e = std::abs(a[i] - b[i]);
    if (!(e <= atol + rtol * std::abs(b[i]))) {
      ++bad;
      if (!(e <= most)) most = e, worst = i;
    }
  }
  INFO("element ", worst, ": got ", a.empty() ? 0 : a[worst], ", expected ",
       b.empty() ? 0 : b[worst], "; ", bad, " of ", a.size(), " differ");
  CHECK(bad == 0);
}

GradcheckFn function_of(const OpDef& def, const OpArgs& args, bool surrogate) {
  return [&def, args, surrogate](std::span<const Var> in) {
    OpArgs a = args;
    a.values.assign(in.begin(), in.end());
    return surrogate ? def.surrogate(a) : def.call(a);
  };
}

std::vector<Tensor> tensors(const OpArgs& a) {
  std::vector<Tensor> t;
  for (const Var& v : a.values) t.push_back(v.value());
  return t;
}

// Outputs and gradients (for fixed random seeds) of a call, as raw values.
std::vector<std::vector<double>> everything(const OpDef& def, const OpArgs& args) {
  Tape tape;
  OpArgs a = args;
  std::vector<Var> params;
  for (Var& v : a.values)
    if (v.defined() && is_floating(v.dtype())) v = Var::parameter(v.value()), params.push_back(v);
  const auto out = def.call(a);
  std::vector<std::vector<double>> all;
  std::vector<Var> losses;
  std::vector<Tensor> seeds;
  for (size_t k = 0; k < out.size(); ++k) {
    if (!out[k].defined()) continue;
    all.push_back(doubles(out[k].value()));
    if (!out[k].requires_grad()) continue;
    Tensor s(out[k].shape(), out[k].dtype());
    fill_normal(s, RandomKey::derive(3, Purpose::test, k));
    losses.push_back(out[k]), seeds.push_back(s);
  }
  if (def.differentiable && !losses.empty())
    for (const Tensor& g : tape.gradients(losses, params, Tape::Keep::no, seeds))
      all.push_back(doubles(g));
  return all;
}

}  // namespace

TEST_SUITE("ops_table") {
  TEST_CASE("every op has a call, a reference and cases") {
    REQUIRE(!op_table().all().empty());
    for (const OpDef& d : op_table().all()) {
      INFO(d.name);
      CHECK(d.call);
      CHECK(d.reference);
      CHECK(!d.cases.empty());
      CHECK(!d.summary.empty());
      for (const OpCase& c : d.cases) CHECK_NOTHROW(check_args(d, make_case(d, c, DType::f64)));
    }
  }

  TEST_CASE("forward agrees with the reference in f64, f32 and bf16, with strided inputs too") {
    for (const OpDef& d : op_table().all())
      for (const OpCase& c : d.cases) {
        const std::string what = d.name + " " + c.name;
        CAPTURE(what);
        const OpArgs exact = make_case(d, c, DType::f64);
        const auto want = d.reference(exact);
        for (const DType type : {DType::f64, DType::f32}) {
          OpArgs args = make_case(d, c, type);
          for (const bool strided : {false, true}) {
            if (strided)
              for (Var& v : args.values)
                if (v.defined()) v = test::strided_copy(v.value());
            const auto got = d.call(args);
            REQUIRE(got.size() == want.size());
            for (size_t k = 0; k < want.size(); ++k) {
              if (!want[k].defined()) continue;
              const double tol = type == DType::f64 ? 1e-11 : c.rtol32;
              compare(got[k].value(), want[k], tol,
                      tol * largest(doubles(want[k])) + (type == DType::f64 ? 1e-14 : 1e-9),
                      what + " " + name(type) + (strided ? " strided" : ""));
            }
          }
        }
      }
  }

  TEST_CASE("gradients agree with central differences") {
    for (const OpDef& d : op_table().all()) {
      if (!d.differentiable) continue;
      for (const OpCase& c : d.cases) {
        if (!c.smooth && !d.surrogate) continue;
        CAPTURE(d.name);
        CAPTURE(c.name);
        const OpArgs args = make_case(d, c, DType::f64);
        GradcheckOptions o;
        o.most_elements = 24;
        if (d.surrogate) {
          // The slopes of the surrogate are the definition: compare the two backward passes
          // instead.
          const auto mine = everything(d, args);
          OpDef other = d;
          other.call = d.surrogate;
          const auto theirs = everything(other, args);
          REQUIRE(mine.size() == theirs.size());
          const size_t outputs = d.outputs.size();
          for (size_t k = outputs; k < mine.size(); ++k) {
            REQUIRE(mine[k].size() == theirs[k].size());
            for (size_t i = 0; i < mine[k].size(); ++i)
              CHECK(std::abs(mine[k][i] - theirs[k][i]) <= 1e-9 * (1 + std::abs(theirs[k][i])));
          }
          continue;
        }
        for (const bool strided : {false, true}) {
          OpArgs a = args;
          auto x = tensors(a);
          GradcheckFn fn = function_of(d, a, false);
          if (strided)  // the op sees permuted views of what is differentiated
            fn = [&d, a](std::span<const Var> in) {
              OpArgs b = a;
              b.values.assign(in.begin(), in.end());
              for (Var& v : b.values)
                if (v.defined()) v = Var::with_slot(test::strided_copy(v.value()), v.slot());
              return d.call(b);
            };
          o.most_elements = strided ? 4 : 24;
          const GradcheckResult r = gradcheck(fn, x, o);
          INFO(r.message);
          CHECK(r.ok);
        }
      }
    }
  }

  TEST_CASE("the same bits for 1, 2, 3 and 8 threads") {
    for (const OpDef& d : op_table().all())
      for (const OpCase& c : d.cases) {
        CAPTURE(d.name);
        CAPTURE(c.name);
        const OpArgs args = make_case(d, c, DType::f32);
        set_num_threads(1);
        const auto want = everything(d, args);
        for (const int n : {2, 3, 8}) {
          set_num_threads(n);
          const auto got = everything(d, args);
          REQUIRE(got.size() == want.size());
          for (size_t k = 0; k < got.size(); ++k) {
            bool same = got[k].size() == want[k].size();
            for (size_t i = 0; same && i < got[k].size(); ++i)
              same = got[k][i] == want[k][i] || (std::isnan(got[k][i]) && std::isnan(want[k][i]));
            CHECK(same);
          }
        }
        set_num_threads(0);
      }
  }
}
