// Private to cuda/: the list of kernels, called by cuda::init().
#pragma once

namespace tenun::cuda {

void register_kernels();

}  // namespace tenun::cuda
