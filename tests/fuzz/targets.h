// One function for each reader of untrusted files: it must return or throw IoError, whatever the
// bytes. The fuzz_*.cc programs feed them from libFuzzer; test_core_io_fuzz.cc replays the corpus.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <span>
#include <string_view>

#include "tenun/core/error.h"
#include "tenun/core/io/image_file.h"
#include "tenun/core/io/json.h"
#include "tenun/core/io/npy.h"
#include "tenun/core/io/pytorch.h"
#include "tenun/core/io/safetensors.h"

namespace tenun::fuzz {

using Bytes = std::span<const std::byte>;

inline void require(bool ok) {
  if (!ok) std::abort();
}

/// What is read must survive being written and read again.
inline void json(Bytes b) {
  const Json j = Json::parse({reinterpret_cast<const char*>(b.data()), b.size()});
  require(Json::parse(j.dump()) == j);
}
inline void safetensors(Bytes b) {
  const TensorFile f = parse_safetensors(b);
  const std::string text = dump_safetensors(f.tensors, f.metadata);
  const TensorFile again = parse_safetensors(std::as_bytes(std::span(text)));
  require(again.tensors.size() == f.tensors.size() && again.metadata == f.metadata);
}
inline void npy(Bytes b) {
  if (!b.empty() && b[0] == std::byte{'P'}) {
    (void)parse_npz(b, "npz", {}, size_t{1} << 24);
    return;
  }
  const Tensor x = parse_npy(b, "npy", {.u2_is_bf16 = true});
  const std::string text = dump_npy(x);
  require(parse_npy(std::as_bytes(std::span(text)), "npy", {.u2_is_bf16 = true}).shape() ==
          x.shape());
}
/// A whole archive where it looks like one, else the pickle alone.
inline void pickle(Bytes b) {
  if (!b.empty() && b[0] == std::byte{'P'}) {
    const PytorchFile f(b, "pytorch");
    if (b.size() < 100'000) (void)collect_tensors(f.root());
    return;
  }
  struct NoHooks : PickleHooks {
    void persistent(const PickleValue&, PickleValue&) override {}
    PickleValue* reduce(std::string_view, const PickleValue&, PickleValue&) override {
      return nullptr;
    }
  } hooks;
  PicklePool pool;
  const PickleValue& v =
      unpickle({reinterpret_cast<const char*>(b.data()), b.size()}, "pickle", hooks, pool);
  (void)collect_tensors(v);
}
inline void image(Bytes b) {
  const Image im = decode_image(b, "image", {.max_pixels = 1 << 20});
  require(im.rgb.size() == static_cast<size_t>(im.width) * static_cast<size_t>(im.height) * 3);
  if (b[0] == std::byte{0x89}) (void)decode_png_text(b);
  (void)decode_image(b, "image", {.min_size = 8, .orient = false, .max_pixels = 1 << 20});
}

/// The frame of every target.
inline int run(void (*target)(Bytes), const unsigned char* data, size_t size) {
  try {
    target(std::as_bytes(std::span(data, size)));
  } catch (const IoError&) {  // the answer to a broken file
  }
  return 0;
}

}  // namespace tenun::fuzz
