// Every op of the table, every case, on the CUDA kernels against the CPU: forward and gradients in
// f64, f32, bf16 and f16, strided inputs too. The device is a GPU where there is one and the
// emulated device otherwise; that one must give the same bits when blocks and threads run in
// another order and fresh memory holds another pattern. What a case lacks is listed by name, in
// cuda_missing.h: the list must agree with what is found, so nothing is left out in silence, and it
// must shrink to nothing.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/core/random.h"
#include "tenun/init.h"
#include "tenun/ops/cases/registry.h"
#include "tenun/tests/cuda_missing.h"
#include "tenun/tests/emulated_util.h"
#include "tenun/tests/table_util.h"

using namespace tenun;

namespace {

enum class Lay { plain, strided };

// Outputs and gradients (for fixed random seeds) of a call on a device.
std::vector<Tensor> results(const OpDef& def, OpArgs a, Device where, Lay layout) {
  Tape tape;
  std::vector<Var> params;
  for (Var& v : a.values) {
    if (!v.defined()) continue;
    Tensor t = v.value().to(where);
    if (layout == Lay::strided) t = test::strided_copy(t);
    v = is_floating(t.dtype()) ? Var::parameter(t) : Var(t);
    if (is_floating(t.dtype())) params.push_back(v);
  }
  const auto out = def.call(a);
  std::vector<Tensor> all, seeds;
  std::vector<Var> losses;
  for (size_t k = 0; k < out.size(); ++k) {
    if (!out[k].defined()) continue;
    all.push_back(out[k].value());
    if (!out[k].requires_grad()) continue;
    Tensor s(out[k].shape(), out[k].dtype());
    fill_normal(s, RandomKey::derive(3, Purpose::test, k));
    losses.push_back(out[k]), seeds.push_back(s.to(where));
  }
  if (def.differentiable && !losses.empty())
    for (const Tensor& g : tape.gradients(losses, params, Tape::Keep::no, seeds)) all.push_back(g);
  return all;
}

double largest(const Tensor& t) {
  double size = 0;
  if (t.defined())
    for (const double v : doubles(t))
      if (std::isfinite(v)) size = std::max(size, std::abs(v));
  return size;
}
// What the distance of each result is measured by: its largest value. Where all terms cancel (the
// gradients of a softmax over one key), what is left is rounding, on any device: a result that is
// zero in f64 is measured by the largest value of all results.
std::vector<double> sizes(const std::vector<Tensor>& want, const std::vector<Tensor>& exact) {
  double all = 1e-30, all_exact = 0;
  for (const Tensor& t : want) all = std::max(all, largest(t));
  for (const Tensor& t : exact) all_exact = std::max(all_exact, largest(t));
  std::vector<double> out;
  for (size_t k = 0; k < want.size(); ++k)
    out.push_back(largest(exact[k]) <= 1e-12 * all_exact ? all : std::max(largest(want[k]), 1e-30));
  return out;
}

// How far two results are apart: the largest distance, as a share of `size`.
double distance(const Tensor& got, const Tensor& want, double size) {
  if (got.defined() != want.defined()) return HUGE_VAL;
  if (!got.defined()) return 0;
  if (got.shape() != want.shape() || got.dtype() != want.dtype()) return HUGE_VAL;
  const auto a = doubles(got), b = doubles(want);
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double d = std::abs(a[i] - b[i]);
    worst = std::isfinite(d) ? std::max(worst, d) : HUGE_VAL;
  }
  return worst / size;
}

// A number that is rounded to 8 bits may fall to the other side of a half: a 255th of one weight.
// The CPU's exponential in front of 8-bit weights is right to a fortieth of such a step.
bool rounds_to_8_bits(const OpDef& d, const OpCase& c) {
  return d.name == "int8_attention" || std::string(c.name).find("quant") != std::string::npos;
}
double allowed(DType type, bool rounds) {
  return type == DType::f64
             ? 1e-10
             : (type == DType::f32 ? 4e-5 : 4 * epsilon_of(type)) + (rounds ? 4e-3 : 0);
}

bool is_low(DType t) { return t == DType::bf16 || t == DType::f16; }

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  const auto x = doubles(a), y = doubles(b);
  if (x.size() != y.size()) return false;
  for (size_t i = 0; i < x.size(); ++i)
    if (x[i] != y[i] && !(std::isnan(x[i]) && std::isnan(y[i]))) return false;
  return true;
}

// The same call with everything turned round that must not matter.
std::vector<Tensor> turned_round(const OpDef& d, const OpArgs& args, Device where) {
  test::Settings s = emulation::settings();
  s.order = s.order == test::Order::reverse ? test::Order::forward : test::Order::reverse;
  s.poison = s.poison == 0x7b ? 0xff : 0x7b;
  s.eager_copies = !s.eager_copies;
  const test::With with(s);
  return results(d, args, where, Lay::plain);
}

// "softmax" of "softmax: no CUDA kernel in this build".
std::string subject(const std::string& message) { return message.substr(0, message.find(": ")); }

}  // namespace

TEST_SUITE("cuda_table") {
  TEST_CASE("the device agrees with the CPU on every case") {
    const Device where = test::gpu();
    std::map<std::string, std::set<std::string>> lacking;  // kernel -> ops that want it
    int compared = 0;
    for (const OpDef& d : op_table().all())
      for (const OpCase& c : d.cases)
        for (const DType type : {DType::f64, DType::f32, DType::bf16, DType::f16})
          for (const Lay lay : {Lay::plain, Lay::strided}) {
            const std::string what = fmt::format("{} {} {}{}", d.name, c.name, name(type),
                                                 lay == Lay::strided ? " strided" : "");
            const OpArgs args = make_case(d, c, type);
            std::vector<Tensor> want, exact;
            try {
              want = results(d, args, cpu(), lay);
              exact = results(d, make_case(d, c, DType::f64), cpu(), lay);
            } catch (const DTypeError&) {
              continue;  // the op takes no such type, on any device
            }
            std::vector<Tensor> got;
            try {
              got = results(d, args, where, lay);
            } catch (const MissingKernel& e) {
              lacking[subject(e.what())].insert(d.name);
              continue;
            } catch (const DeviceError& e) {
              const std::string text = e.what();
              if (text.find("where this code cannot read it") == std::string::npos) {
                INFO(what, ": ", text);
                CHECK(false);
                continue;
              }
              lacking["host code of " + d.name].insert(d.name);
              continue;
            } catch (const Error& e) {
              INFO(what, ": ", std::string(e.what()));
              CHECK(false);
              continue;
            }
            INFO(what);
            REQUIRE(got.size() == want.size());
            REQUIRE(exact.size() == want.size());
            const auto size = sizes(want, exact);
            for (size_t k = 0; k < got.size(); ++k) {
              const double apart = distance(got[k], want[k], size[k]);
              INFO("result ", k, ": ", apart, " of its size apart");
              // Differences of large sums lose more in 16 bits, on the CPU as well.
              double most = allowed(type, rounds_to_8_bits(d, c));
              if (is_low(type)) {
                const double of_cpu = distance(want[k], exact[k].to(type), size[k]);
                most = std::max(most, std::min(2 * of_cpu, 4 * most));
              }
              CHECK(apart <= most);
            }
            ++compared;
            if (where.type != DeviceType::emulated || type == DType::f64 || lay == Lay::strided)
              continue;
            const auto again = turned_round(d, args, where);
            REQUIRE(again.size() == got.size());
            for (size_t k = 0; k < got.size(); ++k) {
              INFO("result ", k, " has other bits in another order, or with other poison");
              CHECK(same_bits(got[k], again[k]));
            }
          }
    for (const auto& [kernel, ops] : lacking) {
      std::string list;
      for (const std::string& o : ops) list += (list.empty() ? "" : ", ") + o;
      INFO("no kernel for '", kernel, "', wanted by ", list);
      CHECK(kMissingKernels.contains(kernel));
    }
    for (const std::string& kernel : kMissingKernels) {
      INFO("'", kernel,
           "' is there, or no case asks for it: take it off the list of missing kernels");
      CHECK(lacking.contains(kernel));
    }
    MESSAGE(compared, " comparisons, ", lacking.size(), " missing kernels");
    CHECK(compared > 200);
  }
}
