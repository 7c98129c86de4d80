#include "tenun/tools/bench.h"

#include <dlfcn.h>

#include <algorithm>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/core/random.h"
#include "tenun/ops/int8_matmul.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/quant.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

Tensor random_tensor(const Shape& shape, DType dtype, uint64_t stream) {
  Tensor t(shape, DType::f32);
  fill_normal(t, RandomKey::derive(1, Purpose::test, stream));
  return t.to(dtype);
}

// OpenBLAS as a peer, if the machine has it: never needed by the library.
struct OpenBlas {
  using Sgemm = void (*)(int order, int ta, int tb, int m, int n, int k, float alpha,
                         const float* a, int lda, const float* b, int ldb, float beta, float* c,
                         int ldc);
  Sgemm sgemm = nullptr;
  OpenBlas() {
    void* lib = dlopen("libopenblas.so.0", RTLD_NOW);
    if (lib == nullptr) return;
    sgemm = reinterpret_cast<Sgemm>(dlsym(lib, "cblas_sgemm"));
    if (auto* set = reinterpret_cast<void (*)(int)>(dlsym(lib, "openblas_set_num_threads")))
      set(num_threads());
  }
};

// y = x w^T and its two gradients at the shapes of a JiT-B/16 step, batch 4; beside OpenBLAS, or
// for 16 and 8 bits beside our f32. int8: the product of codes alone, without their making.
void bench_gemm(const Common& common, const BenchOptions& o, Report& report) {
  const Device device = device_flag(common);
  const bool int8 = o.dtype == "int8";
  check<UsageError>(
      int8 || o.dtype == "f32" || o.dtype == "f64" || o.dtype == "bf16" || o.dtype == "f16",
      "--dtype", "takes f32, f64, bf16, f16 and int8, got '{}'", o.dtype);
  const DType dtype = int8 ? DType::f32 : dtype_flag(o.dtype);
  static const OpenBlas blas;
  if (device == cpu() && blas.sgemm == nullptr && dtype == DType::f32 && !int8)
    fmt::print(stderr, "no libopenblas.so.0 here: no peer to compare with\n");
  const std::vector<std::vector<int64_t>> shapes = {
      {256, 768, 768},   {1152, 768, 768},   {1152, 2304, 768},
      {1152, 4096, 768}, {1152, 768, 2048},  {2304, 768, 1152},
      {4096, 768, 1152}, {1024, 1024, 1024}, {2048, 2048, 2048}};
  for (const auto& s : shapes) {
    const int64_t m = s[0], n = s[1], k = s[2];
    const double flops =
        2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    // x w^T for a layer; for the gradient of a weight (K = tokens) dy^T x
    const bool weight_gradient = k == 1152;
    const auto left = [&](DType t) {
      return weight_gradient ? random_tensor({k, m}, t, 1).to(device).transpose(0, 1)
                             : random_tensor({m, k}, t, 1).to(device);
    };
    const auto right = [&](DType t) {
      return weight_gradient ? random_tensor({k, n}, t, 2).to(device)
                             : random_tensor({n, k}, t, 2).to(device).transpose(0, 1);
    };
    const Tensor a = left(dtype), b = right(dtype);
    Tensor peer({m, n}, DType::f32);
    std::vector<std::function<void()>> fs = {[&] { (void)matmul(a, b); }};
    if (int8) {
      const Quantized qa = quantize_int8(a, {.granularity = Granularity::token}),
                      qb = quantize_int8(b.transpose(0, 1), {.granularity = Granularity::token});
      fs[0] = [=, bytes_a = qa.q.view({1, m, k}), bytes_b = qb.q.transpose(0, 1).view({1, k, n})] {
        Tensor c({1, m, n}, DType::f32, device);
        kernel::gemm_int8(device, c, bytes_a, bytes_b, qa.scale, qb.scale);
      };
    }
    const bool compare = device == cpu() && blas.sgemm != nullptr && dtype == DType::f32 && !int8;
    if (compare)
      fs.emplace_back([&] {
        blas.sgemm(101, weight_gradient ? 112 : 111, weight_gradient ? 111 : 112,
                   static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1,
                   a.data<float>(), static_cast<int>(weight_gradient ? m : k), b.data<float>(),
                   static_cast<int>(weight_gradient ? n : k), 0, peer.mutable_data<float>(),
                   static_cast<int>(n));
      });
    const bool low = int8 || size_of(dtype) < 4;
    if (low) fs.emplace_back([x = left(DType::f32), y = right(DType::f32)] { (void)matmul(x, y); });
    const auto t = time_together(fs, o.seconds, 50, device);
    Json more = Json::object();
    if (compare) more.set("share_of_openblas", paired_speedup(t[0], t[1]));
    if (low) more.set("speedup_f32", paired_speedup(t[0], t[1]));
    report.add("gemm", "tenun", s, o.dtype, "fwd", t[0], flops, more);
    if (compare) report.add("gemm", "openblas", s, o.dtype, "fwd", t[1], flops);
  }
}

// Who reads what; the flags that are not here are everybody's.
const std::vector<FlagReaders>& readers() {
  static const std::vector<FlagReaders> all = {{"preset", {"model", "train"}},
                                               {"image", {"model", "train"}},
                                               {"sample-steps", {"model"}},
                                               {"batch", {"attention", "model", "train"}},
                                               {"methods", {"attention", "model", "train"}},
                                               {"sparsity", {"attention", "model", "train"}},
                                               {"block-q", {"attention", "model", "train"}},
                                               {"block-k", {"attention", "model", "train"}},
                                               {"topk", {"attention"}},
                                               {"seq", {"attention"}},
                                               {"dim", {"attention"}},
                                               {"heads", {"attention"}},
                                               {"direction", {"attention"}},
                                               {"pv", {"attention"}},
                                               {"svg", {"attention"}},
                                               {"tensors", {"attention"}},
                                               {"capture", {"attention"}},
                                               {"save", {"attention"}},
                                               {"layer", {"attention"}}};
  return all;
}

}  // namespace

int bench_command(const Common& common, const BenchOptions& o) {
  static const std::vector<std::string> known = {"attention", "gemm", "ops", "model", "train"};
  check<UsageError>(std::find(known.begin(), known.end(), o.what) != known.end(), "bench",
                    "unknown benchmark '{}'{}", o.what, did_you_mean(o.what, known));
  check_flags(common, "bench", o.what, readers());
  check_target(o.svg, "--svg");
  check_target(o.save, "--save");
  check<UsageError>(o.json.empty() || o.json != o.svg, "--svg", "and --json name the same file");
  Report report(common, o.json);
  if (o.what == "gemm")
    bench_gemm(common, o, report);
  else if (o.what == "ops")
    bench_ops(common, o, report);
  else if (o.what == "attention")
    bench_attention(common, o, report);
  else
    bench_model(common, o, report);
  report.write();
  return 0;
}

}  // namespace tenun::tools
