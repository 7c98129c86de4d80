// The backend's table of contents, and its start.
#include "tenun/cuda/register.h"

#include "tenun/core/error.h"
#include "tenun/core/version.h"
#include "tenun/cuda/attention/register.h"
#include "tenun/cuda/cuda.h"
#include "tenun/cuda/runtime.h"

namespace tenun::TENUN_BACKEND {
namespace {

void register_all() {
  register_device();
  register_arithmetic();
  register_comparisons();
  register_unary();
  register_unary_gradients();
  register_parts();
  attention::register_kernels();
  register_reductions();
  register_scans();
  register_softmax();
  register_norms();
  register_cosine();
  register_rope();
  register_gates();
  register_updates();
  register_combine();
  register_index();
  register_topk();
  register_int8_scale();
  register_pool();
  register_matmul();
  register_conv();
}

bool start() {
  const Found found = look_for_device();
  if constexpr (kDevice == DeviceType::cuda)
    set_cuda_status(found.usable ? found.words : "in this build, but not usable: " + found.words);
  if (found.usable) register_all();
  return found.usable;
}

}  // namespace

bool init() {
  static const bool found = start();
  return found;
}

}  // namespace tenun::TENUN_BACKEND
