// The door of the CUDA backend, and of its emulation on the CPU; tenun::init() opens both. In a
// build without them they lead nowhere.
#pragma once

namespace tenun::cuda {

/// Looks for a driver and a GPU; if there is one, fills the kernel slots (cuda/register.cu) and
/// returns true. Either way cuda_status() says what was found. Does not throw. Later calls return
/// what the first one found.
bool init();

}  // namespace tenun::cuda

namespace tenun::emulated {

/// The same for the device `emulated` (-Demulation=true).
bool init();

}  // namespace tenun::emulated
