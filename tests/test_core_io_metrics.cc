#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tenun/core/io/image_file.h"
#include "tenun/core/io/jsonl.h"
#include "tenun/core/io/tfevents.h"
#include "tenun/tests/io_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

template <class T>
T read(const std::string& s, size_t at) {
  T v{};
  REQUIRE(at + sizeof v <= s.size());
  std::memcpy(&v, s.data() + at, sizeof v);
  return v;
}
uint32_t unmask(uint32_t m) {
  const uint32_t r = m - 0xa282ead8u;
  return r << 15 | r >> 17;
}

/// The records of an event file, their checksums verified.
std::vector<std::string> records(const std::string& file) {
  std::vector<std::string> out;
  for (size_t at = 0; at < file.size();) {
    const auto n = read<uint64_t>(file, at);
    CHECK(unmask(read<uint32_t>(file, at + 8)) == crc32c(file.substr(at, 8)));
    out.push_back(file.substr(at + 12, n));
    CHECK(unmask(read<uint32_t>(file, at + 12 + n)) == crc32c(out.back()));
    at += 16 + n;
  }
  return out;
}

}  // namespace

TEST_SUITE("core_io_metrics") {
  TEST_CASE("CRC-32C known answers") {
    CHECK(crc32c("123456789") == 0xe3069283u);
    CHECK(crc32c("") == 0);
    CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);  // RFC 3720, B.4
  }

  TEST_CASE("tfevents: scalars and images") {
    const TempDir dir;
    std::string path;
    {
      EventWriter w(dir / "sub/logs");
      path = w.path();
      w.scalar("train/loss", 300, 0.5);
      w.scalar("x", -1, std::nan(""));
      Image im(3, 2);
      im.at(1, 1)[2] = 200;
      w.image("grid", 7, im);
      EventWriter second(dir / "sub/logs");
      CHECK(second.path() != path);
    }
    CHECK(contains(path, "events.out.tfevents."));
    const auto r = records(slurp(path));
    REQUIRE(r.size() == 4);
    CHECK(r[0].substr(9) ==
          "\x1a\x0d"
          "brain.Event:2");
    CHECK(r[0][0] == '\x09');
    CHECK(std::abs(read<double>(r[0], 1) - static_cast<double>(time(nullptr))) < 60);
    // step 300 = ac 02; Summary of 19 bytes > Value of 17 bytes > tag, simple_value
    CHECK(r[1].substr(9) ==
          std::string("\x10\xac\x02\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15\0\0\0\x3f", 24));
    CHECK(r[2].substr(9, 11) == "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    CHECK(contains(r[3], "\x0a\x04grid\x22"));
    CHECK(contains(r[3], "\x08\x02\x10\x03\x18\x03\x22"));
    const std::string png = r[3].substr(r[3].find("\x89PNG"));
    CHECK(int{decode_image(bytes(png)).at(1, 1)[2]} == 200);
  }

  TEST_CASE("tfevents: a folder that cannot be made") {
    CHECK(contains(error_of([] { EventWriter w("/proc/none/logs"); }), "cannot create the folder"));
  }
  TEST_CASE("jsonl: rows, numbers that are not finite, resume") {
    const TempDir dir;
    const std::string path = dir / "metrics.jsonl";
    {
      JsonlWriter w(path, Json::object({{"version", "0.1"}}));
      for (int step = 1; step <= 4; ++step)
        w.write(Json::object({{"step", step}, {"loss", 0.1f * static_cast<float>(step)}}));
      w.write(Json::object({{"step", 5},
                            {"loss", std::nanf("")},
                            {"lr", 1e-4},
                            {"norm", std::numeric_limits<double>::infinity()}}));
    }
    const std::string head = "{\"version\":\"0.1\"}\n", one = "{\"step\":1,\"loss\":0.1}\n",
                      two = "{\"step\":2,\"loss\":0.2}\n";
    CHECK(slurp(path).starts_with(head + one + two));
    CHECK(
        slurp(path).ends_with("{\"step\":5,\"loss\":null,\"lr\":1e-04,\"norm\":null,\"nonfinite\":"
                              "[\"loss\",\"norm\"]}\n"));
    CHECK(JsonlWriter::truncate_after(path, 2) == 3);
    CHECK(slurp(path) == head + one + two);
    CHECK(JsonlWriter::truncate_after(path, 2) == 0);
    {
      JsonlWriter w(path, Json::object({{"version", "0.2"}}));  // no second header
      w.write(Json::object({{"step", 3}}));
    }
    CHECK(slurp(path) == head + one + two + "{\"step\":3}\n");
  }

  TEST_CASE("jsonl: an incomplete line is removed") {
    const TempDir dir;
    const std::string path = dir / "m.jsonl";
    spill(path, "{\"version\":1}\n{\"step\":1}\n{\"step\":2,\"lo");
    {
      JsonlWriter w(path, Json::object());
      w.write(Json::object({{"step", 2}}));
    }
    CHECK(slurp(path) == "{\"version\":1}\n{\"step\":1}\n{\"step\":2}\n");
    CHECK(dir.count() == 1);
    CHECK(JsonlWriter::truncate_after(dir / "none", 1) == 0);
    spill(path, "{\"ver");
    const JsonlWriter fresh(path, Json::object({{"h", 1}}));
    CHECK(slurp(path) == "{\"h\":1}\n");
  }

  TEST_CASE("jsonl: errors") {
    CHECK(contains(error_of([] { JsonlWriter w("/none/m.jsonl", Json::object()); }),
                   "/none/m.jsonl: cannot open for writing"));
    const TempDir dir;
    JsonlWriter w(dir / "m", Json::object());
    CHECK_THROWS_AS(w.write(Json(3)), IoError);
  }
}
