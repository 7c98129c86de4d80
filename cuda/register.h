// Private to cuda/: the lists of kernels, one for each file that has some. register.cu calls all of
// them.
#pragma once

namespace tenun::TENUN_BACKEND {

void register_device();  ///< the device's memory operations
void register_arithmetic();
void register_comparisons();
void register_unary();
void register_unary_gradients();
void register_parts();
void register_reductions();
void register_scans();
void register_softmax();
void register_norms();
void register_cosine();
void register_rope();
void register_gates();
void register_updates();
void register_combine();
void register_index();
void register_topk();
void register_int8_scale();
void register_pool();
void register_matmul();
void register_conv();

}  // namespace tenun::TENUN_BACKEND
