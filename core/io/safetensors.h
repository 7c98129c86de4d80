// safetensors: named tensors and text metadata in one file (github.com/huggingface/safetensors):
// u64 length N, N bytes of JSON, then the data, little-endian, row-major, without holes.
//
//   save_safetensors("model.safetensors", tensors, {{"format", "pt"}});
//   TensorFile f = load_safetensors("model.safetensors");
//   const Tensor* w = f.find("blocks.0.attn.qkv.weight");      // nullptr if it is not there
//
// Tensors keep the order of the JSON header (the order of a state dict), in both directions; the
// data are laid out as by the reference writer (by dtype, widest first, then by name), so that
// every tensor is aligned to its elements. Tensors are copied out of the file on the CPU.
// dtypes: f32 f64 bf16 f16 i8 u8 i32 i64 bool; ranks 0 to 6; sizes may be 0. Any other dtype and
// everything that the format forbids (holes, overlaps, trailing bytes, duplicate names, sizes that
// do not match or overflow, headers above 100 MB) is an IoError with path, tensor and cause.
#pragma once
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenun/core/tensor.h"

namespace tenun {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct TensorFile {
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> metadata;

  [[nodiscard]] const Tensor* find(std::string_view name) const;
  [[nodiscard]] const Tensor& at(std::string_view name) const;  ///< IoError if it is not there
};

/// What the header says of a tensor. The offsets count from the start of the data.
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  size_t begin = 0, end = 0;
};
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
  size_t data_start = 0;  ///< where the data start in the file
};

/// A path that ends in `.index.json` is a sharded model: the files that it names are read, too.
[[nodiscard]] TensorFile load_safetensors(const std::string& path);
/// The header alone, fully checked: cheap for files of any size.
[[nodiscard]] SafetensorsHeader load_safetensors_header(const std::string& path);
/// Streams the tensors to a temporary file and renames it (core/io/atomic_file.h). Tensors may be
/// strided or on a device. ValueError for names that come twice or are not UTF-8.
void save_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                      const std::map<std::string, std::string>& metadata = {});

// The same on memory. `where` opens the error messages.
[[nodiscard]] TensorFile parse_safetensors(std::span<const std::byte> file,
                                           std::string_view where = "safetensors");
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                                         std::string_view where = "safetensors");
[[nodiscard]] std::string dump_safetensors(std::span<const NamedTensor> tensors,
                                           const std::map<std::string, std::string>& metadata = {});

}  // namespace tenun
