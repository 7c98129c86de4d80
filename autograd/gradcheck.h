// Gradient check by central differences in f64. The function's outputs are projected on random
// directions, so one number per output tensor is differentiated; each input element (or a random
// sample of them, for large inputs) is moved by +-eps and the slope compared with the recorded
// gradient.
//
//   auto r = gradcheck([](std::span<const Var> in) { return std::vector<Var>{softmax(in[0])}; },
//   {x}); r.ok, r.max_error, r.message
//
// It also runs the backward pass twice on a kept tape and demands equal bits, and checks that an
// input without a gradient truly does not influence the outputs.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tenun/autograd/var.h"

namespace tenun {

struct GradcheckOptions {
  double eps = 1e-6;
  double rtol = 1e-4, atol = 1e-6;  ///< |numeric - analytic| <= atol + rtol * |numeric|
  int64_t most_elements = 64;  ///< of each input; the others are covered by one random direction
  uint64_t seed = 1;
  std::vector<bool> constant;  ///< inputs that are not differentiated (empty: non-floating ones)
  bool check_kept_tape = true;
};

struct GradcheckResult {
  bool ok = true;
  double max_error = 0;  ///< largest |numeric - analytic| / (1 + |numeric|)
  int64_t compared = 0;  ///< how many slopes were compared
  std::string message;   ///< the worst element, where ok is false
};

using GradcheckFn = std::function<std::vector<Var>(std::span<const Var>)>;
[[nodiscard]] GradcheckResult gradcheck(const GradcheckFn& fn, const std::vector<Tensor>& inputs,
                                        const GradcheckOptions& options = {});

}  // namespace tenun
