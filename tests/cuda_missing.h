// Kernels that CUDA does not have yet, by the name of their slot; "host code of X": the op X reads
// device memory on the CPU. tests/test_cuda_table.cc fails if this list is not exact.
#pragma once
#include <set>
#include <string>

inline const std::set<std::string> kMissingKernels{};
