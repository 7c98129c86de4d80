// The door of the CUDA backend; tenun::init() opens it. In a build without CUDA it leads nowhere.
#pragma once

namespace tenun::cuda {

/// Looks for a driver and a GPU; if there is one, fills the kernel slots (cuda/register.cc) and
/// returns true. Either way cuda_status() says what was found. Does not throw. Later calls return
/// what the first one found.
bool init();

}  // namespace tenun::cuda
