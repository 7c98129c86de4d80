// Replays the fuzzers' corpora and the fixtures, as they are and with random damage. Found by
// fuzzing (tests/fuzz): add the input to tests/fuzz/corpus/<target>/.
#include <doctest/doctest.h>

#include <algorithm>

#include "tenun/core/random.h"
#include "tenun/tests/fuzz/targets.h"
#include "tenun/tests/io_util.h"

using namespace tenun;
using namespace tenun::test;
namespace fs = std::filesystem;

namespace {

struct Target {
  const char* name;
  void (*run)(fuzz::Bytes);
  std::vector<std::string> fixtures;
};
const Target kTargets[] = {
    {"json", fuzz::json, {}},
    {"safetensors", fuzz::safetensors, {"all_dtypes.safetensors", "i16.safetensors"}},
    {"npy",
     fuzz::npy,
     {"f4.npy", "fortran.npy", "scalar.npy", "u2.npy", "big.npy", "stored.npz", "deflated.npz"}},
    {"pickle", fuzz::pickle, {"tensors_p2.pt", "tensors_p5.pt", "lightning.ckpt", "legacy.pth"}},
    {"image",
     fuzz::image,
     {"rgb8.png", "palette_alpha.png", "rgb16.png", "exif6.jpg", "cmyk.jpg", "large.jpg"}}};

/// A few bytes changed, removed or repeated.
std::string damaged(std::string s, uint64_t seed) {
  const RandomKey key = RandomKey::derive(seed, Purpose::test);
  const auto count = 1 + key.below(0, 4);
  for (uint64_t i = 0; i < count && !s.empty(); ++i) {
    const uint64_t r = 1 + 3 * i;
    const size_t at = key.below(r, s.size());
    const size_t n = 1 + key.below(r + 2, std::min<uint64_t>(8, s.size() - at));
    switch (key.below(r + 1, 4)) {
      case 0: s[at] = static_cast<char>(key.bits(r + 2)); break;
      case 1: s.erase(at, n); break;
      case 2: s.insert(at, s.substr(at, n)); break;
      default: s[at] = static_cast<char>(s[at] ^ (1 << key.below(r + 2, 8)));
    }
  }
  return s;
}

void feed(const Target& t, const std::string& text) {
  fuzz::run(t.run, reinterpret_cast<const unsigned char*>(text.data()), text.size());
}

}  // namespace

TEST_SUITE("core_io_fuzz") {
  TEST_CASE("corpus and fixtures, plain and damaged") {
    for (const Target& t : kTargets) {
      CAPTURE(t.name);
      std::vector<std::string> seeds;
      for (const auto& e :
           fs::directory_iterator(fs::path(fixture("")) / "../../fuzz/corpus" / t.name))
        seeds.push_back(slurp(e.path()));
      CHECK(seeds.size() >= 10);
      for (const std::string& f : t.fixtures) seeds.push_back(slurp(fixture(f)));
      for (size_t i = 0; i < seeds.size(); ++i) {
        CAPTURE(i);
        CHECK_NOTHROW(feed(t, seeds[i]));
        for (uint64_t k = 0; k < 100; ++k) {
          CAPTURE(k);
          REQUIRE_NOTHROW(feed(t, damaged(seeds[i], 1000 * i + k)));
        }
      }
    }
  }
}
