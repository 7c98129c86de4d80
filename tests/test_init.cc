#include <doctest/doctest.h>

#include "tenun/core/cpu_features.h"
#include "tenun/core/device.h"
#include "tenun/core/version.h"
#include "tenun/cuda/cuda.h"
#include "tenun/init.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"

using namespace tenun;

TEST_SUITE("init") {
  TEST_CASE("start-up works with and without a GPU, and says which") {
    init();
    init();  // a second call is harmless
    const bool gpu = cuda::init();
    INFO(cuda_status());
    CHECK(kernel::map<fn::Silu>.has(DeviceType::cpu));
    CHECK(kernel::map<fn::Silu>.has(DeviceType::cuda) == gpu);
    CHECK(kernel::map<fn::Grad<fn::Silu>>.has(DeviceType::cuda) == gpu);
    CHECK(emulated::init() == has_device(DeviceType::emulated));
    CHECK(kernel::map<fn::Silu>.has(DeviceType::emulated) == has_device(DeviceType::emulated));
    CHECK((cuda_status().find("found") != std::string::npos) == gpu);
    const Var y = silu(Var(Tensor::zeros({2})));
    CHECK(y.value().data<float>()[1] == 0.0f);
  }

  TEST_CASE("the baseline instruction sets are reported") {
#if defined(__x86_64__)
    for (const char* feature : {"avx2", "fma", "f16c"})
      CHECK(cpu_features().find(feature) != std::string::npos);
#endif
  }

  TEST_CASE("a GPU that is not there is an error with a reason") {
    if (has_device(DeviceType::cuda)) return;
    CHECK_THROWS_WITH_AS((void)Tensor::zeros({2}, DType::f32, {DeviceType::cuda, 0}),
                         doctest::Contains(cuda_status().c_str()), DeviceError);
  }

  TEST_CASE("an emulated device that is not in the build is an error that says how to get it") {
    if (has_device(DeviceType::emulated)) return;
    CHECK_THROWS_WITH_AS((void)Tensor::zeros({2}, DType::f32, {DeviceType::emulated, 0}),
                         doctest::Contains("-Demulation=true"), DeviceError);
  }
}
