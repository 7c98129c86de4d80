// tenun bench ops: what recording costs, and every op of the table at the largest of its cases.
#include <chrono>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/ops/cases/golden.h"
#include "tenun/ops/elementwise.h"
#include "tenun/tools/bench.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

int64_t elements(const OpCase& c) {
  int64_t n = 0;
  for (const CaseInput& i : c.inputs) n += i.present ? i.shape.numel() : 0;
  return n;
}

// A thousand recorded products of one element; milliseconds for one.
Timing time_recording(double seconds, bool backward) {
  const Var x = Var::parameter(Tensor::scalar(1));
  Timing t = time_call(
      [&] {
        Tape tape;
        Var y = x;
        for (int i = 0; i < 1000; ++i) y = y * x;
        if (backward) tape.backward(y);
      },
      seconds);
  return {t.ms / 1000, t.ms_min / 1000};
}

}  // namespace

void bench_ops(const BenchOptions& o, Report& report) {
  const DType dtype = dtype_flag(o.dtype);
  check<UsageError>(is_floating(dtype), "--dtype", "takes f32, f64, bf16 and f16 here, got '{}'",
                    o.dtype);
  report.add("record", "mul", {1}, "f32", "fwd", time_recording(o.seconds, false), 0);
  report.add("record", "mul", {1}, "f32", "fwd+bwd", time_recording(o.seconds, true), 0);
  for (const OpDef* d : all_ops()) {
    if (d->cases.empty() || !d->reference) continue;
    const OpCase* largest = &d->cases[0];
    for (const OpCase& c : d->cases)
      if (elements(c) > elements(*largest)) largest = &c;
    const OpArgs args = make_case(*d, *largest, dtype);
    std::vector<int64_t> shape;
    for (const Var& v : args.values)
      if (v.defined() && shape.empty()) shape.assign(v.shape().begin(), v.shape().end());
    const NoGrad guard;
    try {
      report.add(d->name, largest->name, shape, o.dtype, "fwd",
                 time_call([&] { (void)d->call(args); }, o.seconds / 20), 0);
    } catch (const DTypeError& e) {
      fmt::print(stderr, "{}: {}\n", d->name, e.what());
    }
  }
}

}  // namespace tenun::tools
