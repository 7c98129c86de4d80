#include "tenun/autograd/gradcheck.h"

#include <cmath>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/core/random.h"

namespace tenun {
namespace {

double dot(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.values<double>(), y = b.values<double>();
  double s = 0;
  for (size_t i = 0; i < x.size(); ++i) s += x[i] * y[i];
  return s;
}

class Checker {
 public:
  Checker(const GradcheckFn& fn, const std::vector<Tensor>& inputs, const GradcheckOptions& o)
      : fn_(fn), o_(o) {
    for (const Tensor& t : inputs) x_.push_back(t.defined() ? t.clone() : Tensor());
    wanted_.resize(x_.size());
    for (size_t i = 0; i < x_.size(); ++i) {
      wanted_[i] = x_[i].defined() && is_floating(x_[i].dtype()) &&
                   !(i < o.constant.size() && o.constant[i]);
      check<DTypeError>(!wanted_[i] || x_[i].dtype() == DType::f64, "gradcheck",
                        "input {} must be f64, got {}", i, x_[i]);
    }
  }

  GradcheckResult run() {
    analytic();
    for (size_t i = 0; i < x_.size(); ++i)
      if (wanted_[i]) numeric(i);
    return r_;
  }

 private:
  // sum over outputs of <output, direction>; the directions are drawn on the first call.
  double value() {
    const NoGrad guard;
    std::vector<Var> in(x_.begin(), x_.end());
    const std::vector<Var> out = fn_(in);
    double s = 0;
    for (size_t k = 0; k < out.size(); ++k)
      if (directions_[k].defined()) s += dot(out[k].value(), directions_[k]);
    return s;
  }

  void analytic() {
    Tape tape;
    std::vector<Var> in, params;
    for (size_t i = 0; i < x_.size(); ++i)
      in.push_back(wanted_[i] ? Var::parameter(x_[i]) : Var(x_[i]));
    const std::vector<Var> out = fn_(in);
    std::vector<Var> losses;
    std::vector<Tensor> seeds;
    for (size_t k = 0; k < out.size(); ++k) {
      Tensor d;
      if (out[k].defined() && is_floating(out[k].dtype())) {
        d = empty_like(out[k].value());
        fill_uniform(d, RandomKey::derive(o_.seed, Purpose::test, k), 0.5, 1.5);
        if (out[k].requires_grad()) losses.push_back(out[k]), seeds.push_back(d);
      }
      directions_.push_back(d);
    }
    for (size_t i = 0; i < in.size(); ++i)
      if (wanted_[i]) params.push_back(in[i]);
    if (losses.empty()) {
      grads_.assign(x_.size(), {});
      return;
    }
    const auto first = tape.gradients(losses, params, Tape::Keep::yes, seeds);
    const auto second = tape.gradients(losses, params, Tape::Keep::no, seeds);
    grads_.assign(x_.size(), {});
    for (size_t i = 0, p = 0; i < in.size(); ++i) {
      if (!wanted_[i]) continue;
      grads_[i] = first[p];
      const bool same =
          first[p].defined() == second[p].defined() &&
          (!first[p].defined() || first[p].values<double>() == second[p].values<double>() ||
           !first[p].all_finite());
      if (o_.check_kept_tape && !same)
        failed(
            fmt::format("input {}: the second backward pass on a kept tape gives other bits", i));
      ++p;
    }
  }

  void numeric(size_t i) {
    Tensor& x = x_[i];
    const int64_t n = x.numel();
    const std::vector<double> g = grads_[i].defined()
                                      ? grads_[i].values<double>()
                                      : std::vector<double>(static_cast<size_t>(n), 0.0);
    const RandomKey pick = RandomKey::derive(o_.seed, Purpose::test, 1000 + i);
    const int64_t count = std::min(n, o_.most_elements);
    Tensor host = x.to(cpu());  // the memory of x itself, if that is on the CPU
    double* p = host.mutable_data<double>();
    const auto moved_value = [&] {
      if (x.device() != cpu()) x.copy_(host.to(x.device()));
      return value();
    };
    for (int64_t j = 0; j < count; ++j) {
      const int64_t e = count == n ? j
                                   : static_cast<int64_t>(pick.below(static_cast<uint64_t>(j),
                                                                     static_cast<uint64_t>(n)));
      const double x0 = p[e], up = x0 + o_.eps, down = x0 - o_.eps;
      p[e] = up;
      const double a = moved_value();
      p[e] = down;
      const double b = moved_value();
      p[e] = x0;
      compare(i, fmt::format("element {}", e), (a - b) / (up - down), g[static_cast<size_t>(e)]);
    }
    if (x.device() != cpu()) x.copy_(host.to(x.device()));
    if (count == n) return;
    // One direction over all elements covers those that were not sampled.
    const std::vector<double> x0(p, p + n);
    Tensor d({n}, DType::f64);
    fill_normal(d, RandomKey::derive(o_.seed, Purpose::test, 2000 + i));
    const std::vector<double> dir = d.values<double>();
    double slope = 0, side[2];
    for (int s = 0; s < 2; ++s) {
      for (size_t k = 0; k < x0.size(); ++k) p[k] = x0[k] + (s == 0 ? o_.eps : -o_.eps) * dir[k];
      side[s] = moved_value();
    }
    for (size_t k = 0; k < x0.size(); ++k) p[k] = x0[k], slope += g[k] * dir[k];
    if (x.device() != cpu()) x.copy_(host.to(x.device()));
    compare(i, "a random direction", (side[0] - side[1]) / (2 * o_.eps), slope);
  }

  void compare(size_t input, const std::string& where, double numeric, double analytic) {
    ++r_.compared;
    const double error = std::abs(numeric - analytic), relative = error / (1 + std::abs(numeric));
    if (!(relative <= r_.max_error)) r_.max_error = relative;
    if (!(error <= o_.atol + o_.rtol * std::abs(numeric)))
      failed(fmt::format("input {}, {}: numeric {:.9g}, backward {:.9g}", input, where, numeric,
                         analytic));
  }
  void failed(const std::string& message) {
    r_.ok = false;
    if (r_.message.empty()) r_.message = message;
  }

  const GradcheckFn& fn_;
  const GradcheckOptions& o_;
  std::vector<Tensor> x_, grads_, directions_;
  std::vector<bool> wanted_;
  GradcheckResult r_;
};

}  // namespace

GradcheckResult gradcheck(const GradcheckFn& fn, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& options) {
  return Checker(fn, inputs, options).run();
}

}  // namespace tenun
