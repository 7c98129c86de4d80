// Start-up of the library. A program calls init() once, before its first tensor: it checks that the
// processor has what the library was compiled for (x86-64-v3) and fills the kernel slots of the
// CUDA backend, if this build has one and the machine a GPU. Without CUDA it changes nothing.
// Errors: DeviceError names the missing instruction set, ConfigError a value of TENUN_CPU_ISA that
// is no level or not one of this processor. A missing driver or GPU is no error;
// cuda_status() (core/version.h) tells about it.
//
//   int main() { tenun::init(); ... }
#pragma once

namespace tenun {

void init();

}  // namespace tenun
