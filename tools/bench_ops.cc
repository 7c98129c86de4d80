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
Timing time_recording(Device device, double seconds, bool backward) {
  const Var x = Var::parameter(Tensor::scalar(1, DType::f32, device));
  Timing t = time_call(
      [&] {
        Tape tape;
        Var y = x;
        for (int i = 0; i < 1000; ++i) y = y * x;
        if (backward) tape.backward(y);
      },
      seconds, 50, device);
  return {t.ms / 1000, t.ms_min / 1000};
}

}  // namespace

void bench_ops(const Common& common, const BenchOptions& o, Report& report) {
  const Device device = device_flag(common);
  const DType dtype = dtype_flag(o.dtype);
  check<UsageError>(is_floating(dtype), "--dtype", "takes f32, f64, bf16 and f16 here, got '{}'",
                    o.dtype);
  report.add("record", "mul", {1}, "f32", "fwd", time_recording(device, o.seconds, false), 0);
  report.add("record", "mul", {1}, "f32", "fwd+bwd", time_recording(device, o.seconds, true), 0);
  for (const OpDef* d : all_ops()) {
    if (d->cases.empty() || !d->reference) continue;
    const OpCase* largest = &d->cases[0];
    for (const OpCase& c : d->cases)
      if (elements(c) > elements(*largest)) largest = &c;
    OpArgs args = make_case(*d, *largest, dtype);
    for (Var& v : args.values)
      if (v.defined()) v = Var(v.value().to(device));
    std::vector<int64_t> shape;
    for (const Var& v : args.values)
      if (v.defined() && shape.empty()) shape.assign(v.shape().begin(), v.shape().end());
    const NoGrad guard;
    try {
      report.add(d->name, largest->name, shape, o.dtype, "fwd",
                 time_call([&] { (void)d->call(args); }, o.seconds / 20, 50, device), 0);
    } catch (const DTypeError& e) {
      fmt::print(stderr, "{}: {}\n", d->name, e.what());
    } catch (const DeviceError& e) {  // the other ops may have their kernels
      fmt::print(stderr, "{}: {}\n", d->name, e.what());
    }
  }
}

}  // namespace tenun::tools
