// NumPy's files: NPY (one array) read and written, NPZ (a zip of them) read.
//
//   save_npy("latents.npy", x);   Tensor y = load_npy("latents.npy");
//   for (const NamedTensor& t : load_npz("fid_stats.npz")) ...      // names without ".npy"
//
// Versions 1 to 3, little-endian, dtypes f4 f8 f2 i1 u1 i4 i8 b1; arrays in Fortran order are read
// as what they mean and returned row-major. NumPy has no bf16: it is written as u2 (the bits), and
// u2 is read as bf16 only if asked for. Anything else is an IoError that names the cause.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenun/core/io/safetensors.h"
#include "tenun/core/tensor.h"

namespace tenun {

struct NpyOptions {
  bool u2_is_bf16 = false;  ///< take 16-bit integers for the bits of bf16
};

[[nodiscard]] Tensor load_npy(const std::string& path, const NpyOptions& options = {});
[[nodiscard]] Tensor parse_npy(std::span<const std::byte> file, std::string_view where = "npy",
                               const NpyOptions& options = {});
void save_npy(const std::string& path, const Tensor& x);  ///< atomically
[[nodiscard]] std::string dump_npy(const Tensor& x);

[[nodiscard]] std::vector<NamedTensor> load_npz(const std::string& path,
                                                const NpyOptions& options = {});
/// `max_bytes` limits the inflated size of all arrays together.
[[nodiscard]] std::vector<NamedTensor> parse_npz(std::span<const std::byte> file,
                                                 std::string_view where = "npz",
                                                 const NpyOptions& options = {},
                                                 size_t max_bytes = size_t{16} << 30);

}  // namespace tenun
