// Private to cuda/: fills the kernel slots of ops/attention.
#pragma once

namespace tenun::TENUN_BACKEND::attention {

void register_flash();   ///< flash.cu: forward, backward, row_dot
void register_linear();  ///< linear.cu: the linear branch and the mix
void register_select();  ///< select.cu: pooling, selectors, lists
void register_rows();    ///< row_steps.cu: the small steps between them

inline void register_kernels() {
  register_flash();
  register_linear();
  register_select();
  register_rows();
}

}  // namespace tenun::TENUN_BACKEND::attention
