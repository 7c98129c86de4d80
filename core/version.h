// The version of the library, and what its build contains.
#pragma once
#include <string>

namespace tenun {

[[nodiscard]] const char* version();  ///< "0.1.0"
/// Why there is no CUDA device, in words: not in this build, no driver, no GPU.
[[nodiscard]] std::string cuda_status();
/// For the CUDA backend, which knows.
void set_cuda_status(std::string text);

}  // namespace tenun
