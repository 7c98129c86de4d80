#include <doctest/doctest.h>

#include <fmt/core.h>

#include <cstring>

#include "tenun/core/io/npy.h"
#include "tenun/core/io/zip.h"
#include "tenun/tests/io_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

std::string npy(std::string dict, const std::string& data, int version = 1) {
  dict += '\n';
  std::string s = "\x93NUMPY";
  s += static_cast<char>(version);
  s += '\0';
  const auto n = static_cast<uint32_t>(dict.size());
  s.append(reinterpret_cast<const char*>(&n), version == 1 ? 2 : 4);
  return s + dict + data;
}
std::string error_in(const std::string& dict, size_t data) {
  return error_of([&] { (void)parse_npy(bytes(npy(dict, std::string(data, '\1'))), "a.npy"); });
}

}  // namespace

TEST_SUITE("core_io_npy") {
  TEST_CASE("round trip of every dtype and odd shapes") {
    const TempDir dir;
    for (DType d : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8, DType::u8,
                    DType::i32, DType::i64, DType::boolean})
      for (const Shape& s :
           {Shape{}, Shape{3}, Shape{2, 3, 4}, Shape{3, 0, 2}, Shape{0}, Shape{1, 1, 1, 1, 1, 5}}) {
        CAPTURE(name(d));
        CAPTURE(s.str());
        const Tensor x = Tensor::arange(s.numel(), DType::i64).to(d).reshape(s);
        save_npy(dir / "x.npy", x);
        const std::string text = slurp(dir / "x.npy");
        CHECK(text == dump_npy(x));
        CHECK((text.size() - x.nbytes()) % 64 == 0);
        const Tensor y = load_npy(dir / "x.npy", {.u2_is_bf16 = true});
        CHECK(y.dtype() == d);
        CHECK(y.shape() == s);
        CHECK(y.values<double>() == x.values<double>());
      }
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
    CHECK(parse_npy(bytes(dump_npy(x.transpose(0, 1)))).values<float>() ==
          std::vector<float>{1, 4, 2, 5, 3, 6});
  }

  TEST_CASE("files of NumPy") {
    const Tensor x = Tensor::arange(24).to(DType::f32).reshape({2, 3, 4});
    CHECK(slurp(fixture("f4.npy")) == dump_npy(x));
    for (const char* file : {"f4.npy", "fortran.npy"}) {
      const Tensor y = load_npy(fixture(file));
      CHECK(y.shape() == x.shape());
      CHECK(y.contiguous_layout());
      CHECK(y.values<float>() == x.values<float>());
    }
    CHECK(load_npy(fixture("scalar.npy")).item() == 2.5);
    CHECK(load_npy(fixture("scalar.npy")).rank() == 0);
    CHECK(load_npy(fixture("bool.npy")).values<int64_t>() == std::vector<int64_t>{1, 0, 1, 0, 1});
    CHECK(load_npy(fixture("u2.npy"), {.u2_is_bf16 = true}).values<float>() ==
          std::vector<float>{1, -2});
    CHECK(contains(error_of([] { (void)load_npy(fixture("u2.npy")); }), "u2_is_bf16"));
    CHECK(contains(error_of([] { (void)load_npy(fixture("big.npy")); }), "big-endian data (>f4)"));
  }

  TEST_CASE("versions 2 and 3, and other ways to write the header") {
    const std::string data(8, '\0');
    for (int v : {2, 3})
      CHECK(parse_npy(
                bytes(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", data, v)))
                .dim(0) == 2);
    CHECK(parse_npy(bytes(npy("{\"shape\":(2,1),'fortran_order':True,'descr':'<f4'}  ", data)))
              .shape() == Shape{2, 1});
    CHECK(contains(error_of([&] { (void)parse_npy(bytes(npy("{}", data, 4))); }), "version 4"));
  }

  TEST_CASE("what is refused") {
    const auto dict = [](const char* descr, const char* shape) {
      return fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", descr, shape);
    };
    CHECK(error_in(dict("<f4", "(2,)"), 8) == "no error");
    CHECK(contains(error_in(dict("<f4", "(2,)"), 7), "does not take the 7 bytes"));
    CHECK(contains(error_in(dict("<f4", "(2,)"), 9), "does not take the 9 bytes"));
    CHECK(contains(error_in(dict("<f4", "(-2,)"), 8), "non-negative"));
    CHECK(contains(error_in(dict("<f4", "(2;)"), 8), "expected ')'"));
    CHECK(contains(error_in(dict("<f4", "(2 3)"), 8), "expected ')'"));
    CHECK(contains(error_in(dict("<f4", "2"), 8), "expected '('"));
    CHECK(contains(error_in(dict("<f4", "(4294967296,4294967296)"), 8), "overflow"));
    CHECK(contains(error_in(dict("<f4", "(4611686018427387904,4)"), 8), "overflow"));
    CHECK(
        contains(error_in(dict("<f4", "(4611686018427387904,)"), 0), "does not take the 0 bytes"));
    CHECK(contains(error_in(dict("<f4", "(1,1,1,1,1,1,2)"), 8), "more than 6 dimensions"));
    CHECK(contains(error_in(dict("<c8", "(1,)"), 8), "dtype <c8 is not supported"));
    CHECK(contains(error_in(dict("|O", "(1,)"), 8), "dtype |O is not supported"));
    CHECK(contains(error_in(dict("", "(1,)"), 8), "dtype  is not supported"));
    CHECK(contains(error_in("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", 8),
                   "structured"));
    CHECK(contains(error_in("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", 8),
                   "True or False"));
    CHECK(contains(error_in("{'descr': '<f4', 'shape': (2,)}", 8), "missing"));
    CHECK(contains(
        error_in("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8),
        "comes twice"));
    CHECK(contains(error_in("{'x': '<f4'}", 8), "unknown"));
    CHECK(contains(error_in("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", 8),
                   "after the dict"));
    CHECK(contains(error_in("{'descr", 8), "does not end"));
    CHECK(contains(error_of([] { (void)parse_npy(bytes("PK")); }), "not an NPY file"));
    const std::string whole = npy(dict("<f4", "(2,)"), std::string(8, '\0'), 2);
    for (size_t n = 0; n < whole.size(); ++n) {
      const std::string part = whole.substr(0, n);
      CHECK_THROWS_AS((void)parse_npy(bytes(part)), IoError);
    }
  }

  TEST_CASE("NPZ, stored and deflated") {
    const auto stored = load_npz(fixture("stored.npz"));
    REQUIRE(stored.size() == 2);
    CHECK(stored[0].name == "mu");
    CHECK(stored[0].tensor.dtype() == DType::f64);
    CHECK(stored[0].tensor.shape() == Shape{3, 4});
    CHECK(stored[1].tensor.values<int64_t>() == std::vector<int64_t>{0, 1, 2});
    const auto deflated = load_npz(fixture("deflated.npz"));
    REQUIRE(deflated.size() == 2);
    CHECK(deflated[0].tensor.shape() == Shape{64, 64});
    CHECK(deflated[1].tensor.values<int64_t>().back() == 6);
  }

  TEST_CASE("broken archives") {
    const std::string zip = slurp(fixture("deflated.npz"));
    CHECK(contains(error_of([&] { (void)parse_npz(bytes(zip), "a.npz", {}, 1000); }),
                   "more than the limit of 1000"));
    for (size_t n = 0; n < zip.size(); n += 7) {
      const std::string part = zip.substr(0, n);
      CHECK(contains(error_of([&] { (void)parse_npz(bytes(part), "a.npz"); }),
                     "a.npz: not a zip archive"));
    }
    std::string flipped = slurp(fixture("stored.npz"));
    flipped[flipped.find("NUMPY") + 140] ^= 1;  // in the data: only the checksum knows
    CHECK(contains(error_of([&] { (void)parse_npz(bytes(flipped)); }), "is damaged"));
    std::string other = slurp(fixture("stored.npz"));
    for (size_t at = 0; (at = other.find("mu.npy", at)) != std::string::npos; ++at)
      other.replace(at, 6, "mu.txt");
    CHECK(contains(error_of([&] { (void)parse_npz(bytes(other)); }), "holds .npy entries only"));
  }

  TEST_CASE("views of stored entries") {
    const std::string text = slurp(fixture("stored.npz"));
    const ZipReader zip(bytes(text), "z");
    REQUIRE(zip.entries().size() == 2);
    const auto view = zip.view(*zip.find("mu.npy"));
    CHECK(std::memcmp(view.data(), zip.read(*zip.find("mu.npy"), 1 << 20).data(), view.size()) ==
          0);
    CHECK(zip.find("none") == nullptr);
    const std::string packed = slurp(fixture("deflated.npz"));
    const ZipReader two(bytes(packed), "z");
    CHECK(contains(error_of([&] { (void)two.view(two.entries()[0]); }), "is compressed"));
  }
}
