// PyTorch checkpoints (.pt, .pth, .ckpt; the zip format since PyTorch 1.6), read-only.
//
//   const PytorchFile file("model.ckpt");
//   const PickleValue* weights = file.root().find("state_dict");
//   for (const NamedTensor& t : collect_tensors(*weights)) load(t.name, t.tensor);
//
// The pickle is read by core/io/pickle.h, which never calls anything. Understood are tensors and
// parameters (any strides; views of one storage become separate tensors), dicts, lists, tuples and
// plain values; other objects stay opaque but keep their attributes (hyper-parameters, say).
// Tensors stay in the mapped file until PickleValue::tensor() copies them. A tensor of a dtype or
// rank that Tenun lacks is opaque. Broken files, the legacy format, big-endian files: IoError with
// advice.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenun/core/io/pickle.h"
#include "tenun/core/io/safetensors.h"

namespace tenun {

class MappedFile;

class PytorchFile {
 public:
  explicit PytorchFile(const std::string& path);
  /// On memory, which must outlive this object.
  PytorchFile(std::span<const std::byte> file, std::string_view where);
  ~PytorchFile();
  PytorchFile(PytorchFile&&) noexcept;
  PytorchFile& operator=(PytorchFile&&) noexcept;
  [[nodiscard]] const PickleValue& root() const { return *root_; }

 private:
  void read(std::span<const std::byte> file, std::string_view where);
  std::unique_ptr<MappedFile> map_;
  PicklePool pool_;
  const PickleValue* root_ = nullptr;
};

/// All tensors below `value`, in order, named by the keys and indices on the way, joined by dots:
/// "optimizer_states.0.state.3.exp_avg". IoError for values that contain themselves.
[[nodiscard]] std::vector<NamedTensor> collect_tensors(const PickleValue& value);

}  // namespace tenun
