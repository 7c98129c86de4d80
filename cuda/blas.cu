// Matrix products by cuBLASLt (cuda/matmul.h), which is looked for at the first product: the
// program needs neither the library nor its time to load otherwise. TENUN_CUDA_BLAS=0 does without
// it, TENUN_CUDA_BLAS=FILE takes that one. cuBLASLt thinks in columns: our c = a b, read column by
// column, is c^T = b^T a^T, so b is its first operand, and the bias, one number for each of our
// columns, is its bias for rows. What the library chooses for a product (sizes, strides, alignment)
// is asked once and kept.
#include "tenun/cuda/matmul.h"

#if __has_include(<cublasLt.h>)

#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "tenun/core/error.h"
#include "tenun/cuda/device_code.h"
#include "tenun/ops/matmul.h"

namespace tenun::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError(std::string("matmul: cuBLASLt: ") + what + " failed with status " +
                      std::to_string(static_cast<int>(status)) +
                      "; TENUN_CUDA_BLAS=0 uses Tenun's own kernels");
}

/// The functions of the library; `usable` if all are there.
struct Library {
  bool usable = false;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;

  Library() {
    const char* const value = std::getenv("TENUN_CUDA_BLAS");
    const std::string wish = value == nullptr ? "" : value;
    if (wish == "0") return;
    if (!wish.empty()) {
      open(wish.c_str());
      if (!usable)
        throw DeviceError("matmul: TENUN_CUDA_BLAS=" + wish +
                          " is no cuBLASLt that can be used; without the variable the loader looks "
                          "for one, 0 uses Tenun's own kernels");
    }
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so",
                             "/usr/local/cuda/lib64/libcublasLt.so"})
      if (!usable) open(name);
    if (usable)
      workspace = allocate_raw(kWorkspace);
    else
      note_slow_matmul(
          "no usable libcublasLt.so.12 or .13 (LD_LIBRARY_PATH, or TENUN_CUDA_BLAS=FILE): Tenun's "
          "own kernels multiply");
  }
  void open(const char* file) {
    void* const lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (lib == nullptr) return;
    decltype(&cublasLtCreate) create = nullptr;
    const auto find = [&]<class F>(F& f, const char* name) {
      f = reinterpret_cast<F>(dlsym(lib, name));
      return f != nullptr;
    };
    usable = find(create, "cublasLtCreate") && find(desc_create, "cublasLtMatmulDescCreate") &&
             find(desc_set, "cublasLtMatmulDescSetAttribute") &&
             find(layout_create, "cublasLtMatrixLayoutCreate") &&
             find(layout_set, "cublasLtMatrixLayoutSetAttribute") &&
             find(preference_create, "cublasLtMatmulPreferenceCreate") &&
             find(preference_set, "cublasLtMatmulPreferenceSetAttribute") &&
             find(preference_destroy, "cublasLtMatmulPreferenceDestroy") &&
             find(choose, "cublasLtMatmulAlgoGetHeuristic") && find(matmul, "cublasLtMatmul") &&
             create(&handle) == CUBLAS_STATUS_SUCCESS;
  }
};
const Library& library() {
  static const Library lib;  // stays loaded until the program ends
  return lib;
}

/// An operand in the library's words: its contiguous axis, and the step of the other one.
struct Matrix {
  bool by_k = false;  ///< k is the contiguous axis
  int64_t rows = 0, columns = 0, lead = 0, batch_stride = 0;
  bool fits = false;
};
Matrix matrix_of(const Operand& x, int64_t lanes, int64_t k) {
  Matrix m;
  m.by_k = x.k_stride == 1 || k == 1;
  m.rows = m.by_k ? k : lanes, m.columns = m.by_k ? lanes : k;
  const int64_t step = m.by_k ? x.lane_stride : x.k_stride;
  m.lead = m.columns == 1 ? m.rows : step;  // a single column has no step
  m.batch_stride = x.batch_stride;
  m.fits = m.lead >= m.rows && (m.by_k || x.lane_stride == 1 || lanes == 1);
  return m;
}

struct Plan {
  bool usable = false;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr;
  cublasLtMatmulAlgo_t algo{};
};

unsigned alignment(const void* p) {
  const auto low = reinterpret_cast<uintptr_t>(p) & 255u;
  return low == 0 ? 256u : static_cast<unsigned>(low & (~low + 1));
}

Plan make_plan(const Library& lib, const MatrixProduct& p, const Matrix& a, const Matrix& b) {
  const bool wide = p.type == DType::f64;
  const cudaDataType_t type = p.type == DType::f32    ? CUDA_R_32F
                              : p.type == DType::f64  ? CUDA_R_64F
                              : p.type == DType::bf16 ? CUDA_R_16BF
                                                      : CUDA_R_16F;
  Plan plan;
  const auto set = [&](cublasLtMatmulDescAttributes_t what, auto value) {
    check_blas(lib.desc_set(plan.desc, what, &value, sizeof(value)), "an attribute");
  };
  check_blas(lib.desc_create(&plan.desc, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                             wide ? CUDA_R_64F : CUDA_R_32F),
             "a description");
  // b as [k x lanes] by columns is what its transpose would be: turn it, or not.
  set(CUBLASLT_MATMUL_DESC_TRANSA, b.by_k ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, a.by_k ? CUBLAS_OP_N : CUBLAS_OP_T);
  if (p.bias != nullptr) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  }
  const auto layout = [&](cublasLtMatrixLayout_t& l, const Matrix& m) {
    check_blas(lib.layout_create(&l, type, static_cast<uint64_t>(m.rows),
                                 static_cast<uint64_t>(m.columns), m.lead),
               "a layout");
    if (p.batch == 1) return;
    const auto count = static_cast<int32_t>(p.batch);
    check_blas(lib.layout_set(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)),
               "a batch");
    check_blas(lib.layout_set(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.batch_stride,
                              sizeof(m.batch_stride)),
               "a batch");
  };
  layout(plan.first, b);
  layout(plan.second, a);
  layout(plan.result, {.by_k = false,
                       .rows = p.n,
                       .columns = p.m,
                       .lead = p.n,
                       .batch_stride = p.m * p.n,
                       .fits = true});
  cublasLtMatmulPreference_t wish = nullptr;
  check_blas(lib.preference_create(&wish), "a preference");
  const size_t bytes = lib.workspace == nullptr ? 0 : kWorkspace;
  lib.preference_set(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes));
  // Where k is cut, partial sums stay in f32 (f64): by default they may be rounded to 16 bits.
  const uint32_t reductions =
      CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  lib.preference_set(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                     sizeof(reductions));
  const auto aligned = [&](cublasLtMatmulPreferenceAttributes_t what, const void* at) {
    const uint32_t n = alignment(at);
    lib.preference_set(wish, what, &n, sizeof(n));
  };
  aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b.data);
  aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a.data);
  aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.c);
  aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.c);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = lib.choose(lib.handle, plan.desc, plan.first, plan.second,
                                           plan.result, plan.result, wish, 1, &best, &found);
  lib.preference_destroy(wish);
  plan.usable =
      status == CUBLAS_STATUS_SUCCESS && found == 1 && best.state == CUBLAS_STATUS_SUCCESS;
  plan.algo = best.algo;
  return plan;
}

}  // namespace

bool blas_product(const MatrixProduct& p) {
  const Library& lib = library();
  const Matrix a = matrix_of(p.a, p.m, p.k), b = matrix_of(p.b, p.n, p.k);
  if (!lib.usable || p.k == 0) return false;
  if (!a.fits || !b.fits || p.batch > 0x7fffffff) {
    note_slow_matmul(
        "an operand that is expanded, or has gaps along both axes, goes to Tenun's own kernels; "
        "after contiguous() cuBLASLt multiplies it");
    return false;
  }
  // Everything that the choice depends on.
  const std::array<int64_t, 16> key{static_cast<int64_t>(p.type),
                                    p.batch,
                                    p.m,
                                    p.n,
                                    p.k,
                                    a.by_k,
                                    a.lead,
                                    a.batch_stride,
                                    b.by_k,
                                    b.lead,
                                    b.batch_stride,
                                    p.bias != nullptr,
                                    alignment(p.a.data),
                                    alignment(p.b.data),
                                    alignment(p.c),
                                    alignment(p.bias)};
  static std::mutex mutex;
  static std::map<std::array<int64_t, 16>, Plan> plans;
  const std::lock_guard lock(mutex);
  auto it = plans.find(key);
  if (it == plans.end()) it = plans.emplace(key, make_plan(lib, p, a, b)).first;
  const Plan& plan = it->second;
  if (!plan.usable) {
    note_slow_matmul("cuBLASLt has no way for a product; Tenun's own kernels make it");
    return false;
  }
  if (p.bias != nullptr)
    check_blas(lib.desc_set(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, sizeof(p.bias)),
               "an attribute");
  const double one = 1, zero = 0;
  const float one32 = 1, zero32 = 0;
  const bool wide = p.type == DType::f64;
  check_blas(lib.matmul(lib.handle, plan.desc, wide ? static_cast<const void*>(&one) : &one32,
                        p.b.data, plan.first, p.a.data, plan.second,
                        wide ? static_cast<const void*>(&zero) : &zero32, p.c, plan.result, p.c,
                        plan.result, &plan.algo, lib.workspace,
                        lib.workspace == nullptr ? 0 : kWorkspace, stream()),
             "a product");
  return true;
}

}  // namespace tenun::cuda

#else

#include "tenun/ops/matmul.h"

namespace tenun::cuda {

bool blas_product(const MatrixProduct&) {
  note_slow_matmul("built without cublasLt.h: Tenun's own kernels multiply");
  return false;
}

}  // namespace tenun::cuda

#endif
