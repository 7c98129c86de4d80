// tenun devices: what this machine offers, and which ops run where.
#include <fmt/core.h>

#include <vector>

#include "tenun/core/cpu_features.h"
#include "tenun/core/parallel.h"
#include "tenun/core/version.h"
#include "tenun/ops/simd/isa.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

// The support matrix is what happens when the first case of an op is run, not a claim.
bool runs(const OpDef& d, DType dtype, Device device) {
  if (!has_device(device.type) || d.cases.empty()) return false;
  try {
    OpArgs a = make_case(d, d.cases[0], dtype);
    for (Var& v : a.values)
      if (v.defined()) v = Var(v.value().to(device));
    (void)d.call(a);
    device_ops(device.type).synchronize();  // a fault inside a kernel shows here
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

int devices_command() {
  fmt::print("tenun {}\n\ncpu: {} threads; {}; kernels: {}\n", version(), num_threads(),
             cpu_features(), simd::name(simd::active_isa()));
  fmt::print("cuda: {}\n", cuda_status());
  fmt::print("emulated: {}\n\n", has_device(DeviceType::emulated)
                                     ? "the CUDA kernels on the CPU, for tests"
                                     : "not in this build (-Demulation=true)");
  const DType types[] = {DType::f32, DType::f64, DType::bf16, DType::f16};
  fmt::print("{:<26}", "op");
  for (const DType t : types) fmt::print(" cpu:{:<5}", name(t));
  std::vector<Device> others;
  for (const DeviceType t : {DeviceType::cuda, DeviceType::emulated})
    if (has_device(t)) others.push_back({t, 0});
  for (const Device& d : others)
    for (const DType t : types)
      fmt::print(" {:<10}",
                 fmt::format("{}:{}", d.type == DeviceType::cuda ? "cuda" : "emu", name(t)));
  fmt::print("\n");
  for (const OpDef* d : all_ops()) {
    fmt::print("{:<26}", d->name);
    for (const DType t : types) fmt::print(" {:<9}", runs(*d, t, cpu()) ? "yes" : "-");
    for (const Device& other : others)
      for (const DType t : types) fmt::print(" {:<10}", runs(*d, t, other) ? "yes" : "-");
    fmt::print("\n");
  }
  return 0;
}

}  // namespace tenun::tools
