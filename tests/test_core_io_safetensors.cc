#include <doctest/doctest.h>

#include <cstring>

#include "tenun/core/io/json.h"
#include "tenun/core/io/safetensors.h"
#include "tenun/tests/io_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

/// A file of this header (padded or not) and that many bytes of data.
std::string file_of(const std::string& json, size_t data) {
  const uint64_t n = json.size();
  return std::string(reinterpret_cast<const char*>(&n), 8) + json + std::string(data, '\1');
}
std::string error_in(const std::string& json, size_t data) {
  return error_of([&] { (void)parse_safetensors(bytes(file_of(json, data)), "m.safetensors"); });
}

std::vector<NamedTensor> samples() {
  std::vector<NamedTensor> t;
  for (DType d : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::u8, DType::i32,
                  DType::i64, DType::boolean}) {
    const Tensor x = Tensor::arange(24, DType::i64).to(d);
    t.push_back({std::string("x.") + name(d), x.reshape({2, 3, 4})});
    t.push_back({std::string("scalar.") + name(d), Tensor::scalar(1, d)});
    t.push_back({std::string("empty.") + name(d), Tensor({3, 0, 2}, d)});
  }
  return t;
}

bool same(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || !(a.shape() == b.shape())) return false;
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.nbytes() == 0 || std::memcmp(x.raw(), y.raw(), x.nbytes()) == 0;
}

}  // namespace

TEST_SUITE("core_io_safetensors") {
  TEST_CASE("round trip of every dtype, in memory and as a file") {
    const auto tensors = samples();
    const std::map<std::string, std::string> metadata{{"format", "pt"}, {"note", "\xc3\xa9\"\n"}};
    const TempDir dir;
    save_safetensors(dir / "a.safetensors", tensors, metadata);
    const std::string text = dump_safetensors(tensors, metadata);
    CHECK(slurp(dir / "a.safetensors") == text);
    CHECK(dir.count() == 1);
    for (const TensorFile& f :
         {load_safetensors(dir / "a.safetensors"), parse_safetensors(bytes(text))}) {
      CHECK(f.metadata == metadata);
      REQUIRE(f.tensors.size() == tensors.size());
      for (size_t i = 0; i < tensors.size(); ++i) {
        CAPTURE(tensors[i].name);
        CHECK(f.tensors[i].name == tensors[i].name);  // the order is kept
        CHECK(same(f.tensors[i].tensor, tensors[i].tensor));
      }
    }
    const auto header = load_safetensors_header(dir / "a.safetensors");
    CHECK(header.tensors[0].name == "x.f32");
    CHECK(header.tensors[0].end - header.tensors[0].begin == 96);
    CHECK(header.data_start % 8 == 0);
    for (const TensorInfo& t : header.tensors)
      CHECK((header.data_start + t.begin) % static_cast<size_t>(size_of(t.dtype)) == 0);
  }

  TEST_CASE("nothing but metadata, and nothing at all") {
    CHECK(parse_safetensors(bytes(dump_safetensors({}))).tensors.empty());
    CHECK(parse_safetensors(bytes(dump_safetensors({}, {{"a", "b"}}))).metadata.at("a") == "b");
  }

  TEST_CASE("strided tensors are written in row-major order") {
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
    const std::vector<NamedTensor> t{{"t", x.transpose(0, 1)}, {"s", x.slice(1, 1, 3)}};
    const TensorFile f = parse_safetensors(bytes(dump_safetensors(t)));
    CHECK(f.at("t").values<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
    CHECK(f.at("s").values<float>() == std::vector<float>{2, 3, 5, 6});
    CHECK(f.find("none") == nullptr);
    CHECK_THROWS_AS((void)f.at("none"), IoError);
  }

  TEST_CASE("a large tensor is copied in pieces") {
    const Tensor x = Tensor::arange(3'000'001, DType::i32);
    Tensor b(Shape{5'000'000}, DType::boolean);
    b.fill_(1);
    const std::vector<NamedTensor> t{{"b", b}, {"x", x}};
    const TensorFile f = parse_safetensors(bytes(dump_safetensors(t)));
    CHECK(same(f.at("x"), x));
    CHECK(same(f.at("b"), b));
  }

  TEST_CASE("files of the reference implementation, byte for byte") {
    const std::string text = slurp(fixture("all_dtypes.safetensors"));
    const TensorFile f = load_safetensors(fixture("all_dtypes.safetensors"));
    REQUIRE(f.tensors.size() == 11);
    CHECK(dump_safetensors(f.tensors, f.metadata) == text);
    CHECK(f.at("scalar").item() == 2.5);
    CHECK(f.at("empty").shape() == Shape{0, 4});
    for (DType d :
         {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::i32, DType::i64}) {
      const Tensor& x = f.at(std::string("x.") + name(d));
      CAPTURE(name(d));
      CHECK(x.dtype() == d);
      const std::vector<double> expected = is_floating(d)
                                               ? std::vector<double>{-4, -2.5, -1, 0.5, 2, 3.5}
                                               : std::vector<double>{-4, -2, -1, 0, 2, 3};
      CHECK(x.to(DType::f64).values<double>() == expected);
    }
    CHECK(f.at("x.bool").to(DType::i64).values<int64_t>() ==
          std::vector<int64_t>{1, 0, 0, 1, 0, 0});
  }

  TEST_CASE("every rule of the format") {
    const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
    CHECK(error_in("{" + a + "}", 8) == "no error");
    CHECK(error_in("{" + a + "}      ", 8) == "no error");

    CHECK(contains(error_of([] { (void)parse_safetensors(bytes("1234567")); }), "only 7 bytes"));
    CHECK(contains(error_of([] { (void)parse_safetensors({}); }), "only 0 bytes"));
    std::string text = file_of("{}", 0);
    const auto set_length = [&](uint64_t n) { std::memcpy(text.data(), &n, 8); };
    const auto error = [&] { return error_of([&] { (void)parse_safetensors(bytes(text)); }); };
    CHECK(error() == "no error");
    set_length(100'000'001);
    CHECK(contains(error(), "claims a header of 100000001 bytes"));
    set_length(~uint64_t{0});
    CHECK(contains(error(), "claims a header"));
    set_length(3);
    CHECK(contains(error(), "truncated: the header takes 3 bytes, 2 are left"));
    set_length(0);
    CHECK(contains(error(), "not a JSON object"));

    CHECK(contains(error_in("[]", 0), "not a JSON object"));
    CHECK(contains(error_in(" {}", 0), "not a JSON object"));
    CHECK(contains(error_in("{", 0), "invalid JSON"));
    CHECK(contains(error_in("{\"\xff\":1}", 0), "UTF-8"));
    CHECK(
        contains(error_in(R"({"__metadata__":{"a":1}})", 0), "the value of \"a\" is not a string"));
    CHECK(contains(error_in(R"({"__metadata__":[]})", 0), "not an object"));
    CHECK(contains(error_in("{" + a + "," + a + "}", 8), "the key \"a\" comes twice"));

    struct Case {
      const char* entry;
      size_t data;
      const char* message;
    };
    for (const Case& c : std::initializer_list<Case>{
             {R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})", 8,
              "tensor \"a\": dtype F33 is not supported"},
             {R"({"dtype":"U16","shape":[2],"data_offsets":[0,4]})", 4,
              "dtype U16 is not supported"},
             {R"({"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]})", 2,
              "dtype F8_E4M3 is not supported"},
             {R"({"dtype":3,"shape":[2],"data_offsets":[0,8]})", 8, "dtype must be a string"},
             {R"({"shape":[2],"data_offsets":[0,8]})", 8,
              "must have dtype, shape and data_offsets"},
             {R"({"dtype":"F32","data_offsets":[0,8]})", 8,
              "must have dtype, shape and data_offsets"},
             {R"({"dtype":"F32","shape":[2]})", 8, "must have dtype, shape and data_offsets"},
             {R"(3)", 8, "not an object"},
             {R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})", 8,
              "non-negative integers, not -2"},
             {R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})", 8, "non-negative integers"},
             {R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})", 8, "non-negative integers"},
             {R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})", 8, "shape a list"},
             {R"({"dtype":"F32","shape":[1,1,1,1,1,1,2],"data_offsets":[0,8]})", 8, "7 dimensions"},
             {R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})", 8,
              "overflows"},
             {R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]})", 8,
              "overflows"},
             {R"({"dtype":"F32","shape":[0,4611686018427387904,8],"data_offsets":[0,0]})", 0,
              "overflows"},
             {R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})", 8,
              "non-negative integers"},
             {R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", 8, "takes 12 bytes"},
             {R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})", 8, "takes 8 bytes"},
             {R"({"dtype":"F32","shape":[2],"data_offsets":[0]})", 8, "a list of two"},
             {R"({"dtype":"F32","shape":[2],"data_offsets":[0,-8]})", 8,
              "offsets must be non-negative"},
             {R"({"dtype":"F32","shape":[2],"data_offsets":[8,16]})", 16, "a hole in the data"},
             {R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 9,
              "1 bytes after the last tensor"},
             {R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 7,
              "truncated: the tensors take 8 bytes"}}) {
      CAPTURE(c.entry);
      const std::string e = error_in(std::string("{\"a\":") + c.entry + "}", c.data);
      CAPTURE(e);
      CHECK(contains(e, c.message));
      CHECK(e.starts_with("m.safetensors: "));
    }
    const auto two = [&](const char* offsets, size_t data) {
      return error_in(
          "{" + a + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":)" + offsets + "}}", data);
    };
    CHECK(two("[8,12]", 12) == "no error");
    CHECK(contains(two("[4,8]", 8), "overlap"));
    CHECK(contains(two("[0,4]", 8), "overlap"));
    CHECK(contains(two("[9,13]", 13), "hole"));
    CHECK(contains(error_of([] { (void)load_safetensors(fixture("i16.safetensors")); }),
                   "tensor \"a\": dtype I16"));
  }

  TEST_CASE("bools are 0 or 1") {
    std::string text = file_of(R"({"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", 3);
    text[text.size() - 3] = '\0';
    text[text.size() - 2] = '\xff';
    const Tensor x = parse_safetensors(bytes(text)).at("a");
    CHECK(std::to_integer<int>(x.raw()[0]) == 0);
    CHECK(std::to_integer<int>(x.raw()[1]) == 1);
  }

  TEST_CASE("names that cannot be saved") {
    const Tensor x = Tensor::scalar(1);
    const auto save = [](const std::vector<NamedTensor>& t) {
      return error_of<ValueError>([&] { (void)dump_safetensors(t); });
    };
    CHECK(contains(save({{"a", x}, {"a", x}}), "two tensors are named \"a\""));
    CHECK(contains(save({{"__metadata__", x}}), "cannot be the name"));
    CHECK(contains(save({{"\xff", x}}), "cannot be the name"));
    CHECK(contains(save({{"a", Tensor()}}), "undefined"));
  }

  TEST_CASE("a failing save leaves the old file") {
    const TempDir dir;
    const std::vector<NamedTensor> good{{"a", Tensor::scalar(1)}}, bad{{"a", Tensor()}};
    save_safetensors(dir / "m", good);
    CHECK_THROWS_AS(save_safetensors(dir / "m", bad), ValueError);
    CHECK(load_safetensors(dir / "m").at("a").item() == 1);
    CHECK(dir.count() == 1);
  }

  TEST_CASE("shards") {
    const TempDir dir;
    const std::vector<NamedTensor> one{{"a", Tensor::scalar(1)}, {"c", Tensor::scalar(3)}},
        two{{"b", Tensor::scalar(2)}};
    save_safetensors(dir / "m-1.safetensors", one, {{"format", "pt"}});
    save_safetensors(dir / "m-2.safetensors", two);
    const auto load = [&](const std::string& map) {
      spill(dir / "m.safetensors.index.json",
            R"({"metadata":{"total_size":12},"weight_map":)" + map + "}");
      return load_safetensors(dir / "m.safetensors.index.json");
    };
    const TensorFile f =
        load(R"({"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-1.safetensors"})");
    REQUIRE(f.tensors.size() == 3);
    CHECK(f.tensors[1].name == "b");
    CHECK(f.at("b").item() == 2);
    CHECK(f.metadata.at("format") == "pt");
    const auto error = [&](const std::string& map) { return error_of([&] { (void)load(map); }); };
    CHECK(contains(error(R"({"a":"m-1.safetensors"})"), "hold 2 tensors, the index names 1"));
    CHECK(contains(error(R"({"x":"m-1.safetensors"})"), "\"x\" is not in m-1.safetensors"));
    CHECK(
        contains(error(R"({"a":"../m-1.safetensors"})"), "must be a file name in the same folder"));
    CHECK(contains(error(R"({"a":"/etc/passwd"})"), "must be a file name in the same folder"));
    CHECK(contains(error(R"({"a":".."})"), "must be a file name"));
    CHECK(contains(error(R"({"a":1})"), "not a string"));
    CHECK(contains(error(R"({"a":"none"})"), "none: cannot open"));
    CHECK(contains(error("3"), "no \"weight_map\""));
  }

  TEST_CASE("missing file") {
    CHECK(contains(error_of([] { (void)load_safetensors("/none.safetensors"); }),
                   "/none.safetensors: cannot open"));
  }
}
