#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tenun/core/error.h"
#include "tenun/core/io/json.h"
#include "tenun/core/io/utf8.h"

using namespace tenun;

namespace {
std::string parse_error(std::string_view text) {
  try {
    (void)Json::parse(text, "f.json");
  } catch (const IoError& e) {
    return e.what();
  }
  return "no error";
}
}  // namespace

TEST_SUITE("core_io_json") {
  TEST_CASE("values and order") {
    const Json j = Json::parse(
        R"( {"z": 1, "a": [true, false, null, -2.5e3, "x\"\\\/\b\f\n\r\té😀"], "o": {}} )");
    REQUIRE(j.members().size() == 3);
    CHECK(j.members()[0].first == "z");
    CHECK(j.at("z").as_int() == 1);
    const auto& a = j.at("a").as_array();
    CHECK(a[0].as_bool());
    CHECK(!a[1].as_bool());
    CHECK(a[2].is_null());
    CHECK(a[3].as_double() == -2500.0);
    CHECK(a[4].as_string() == "x\"\\/\b\f\n\r\t\xc3\xa9\xf0\x9f\x98\x80");
    CHECK(j.at("o").is_object());
    CHECK(j.find("none") == nullptr);
    CHECK_THROWS_WITH_AS((void)j.at("none"), "json: the key \"none\" is missing", IoError);
    CHECK_THROWS_WITH_AS((void)j.at("z").as_string(), "json: expected a string, got an integer",
                         IoError);
    CHECK(Json::parse(j.dump()) == j);
    CHECK(Json::parse(j.dump(2)) == j);
  }

  TEST_CASE("escaped characters") {
    CHECK(Json::parse(R"("\u00e9\ud83d\ude00\u0000")").as_string() ==
          std::string("\xc3\xa9\xf0\x9f\x98\x80\0", 7));
    CHECK(parse_error(R"("\ud83d")").find("surrogate") != std::string::npos);
    CHECK(parse_error(R"("\ud83dA")").find("surrogate") != std::string::npos);
    CHECK(parse_error(R"("\ude00")").find("surrogate") != std::string::npos);
    CHECK(Json("a\"b\\c\n\x01").dump() == R"("a\"b\\c\n\u0001")");
    CHECK(Json("\xff ok").dump() == "\"\xef\xbf\xbd ok\"");
  }

  TEST_CASE("numbers") {
    CHECK(Json::parse("9223372036854775807").as_int() == std::numeric_limits<int64_t>::max());
    CHECK(Json::parse("-9223372036854775808").as_int() == std::numeric_limits<int64_t>::min());
    CHECK(!Json::parse("9223372036854775808").is_int());
    CHECK(std::signbit(Json::parse("-0").as_double()));
    CHECK(Json::parse("1e-999").as_double() == 0.0);
    CHECK(parse_error("1e999").find("range") != std::string::npos);
    CHECK(Json(0.1f).dump() == "0.1");
    CHECK(Json(0.1).dump() == "0.1");
    CHECK(Json(1.0).dump() == "1.0");
    CHECK(!Json::parse(Json(1.0).dump()).is_int());
    CHECK(Json(1e22).dump() == "1e+22");
    CHECK(Json(std::nan("")).dump() == "null");
    CHECK(Json(-std::numeric_limits<float>::infinity()).dump() == "null");
    for (double d : {5e-324, 1.7976931348623157e308, -1.0 / 3, 123456789.125})
      CHECK(Json::parse(Json(d).dump()).as_double() == d);
    CHECK_THROWS_AS(Json(~uint64_t{0}), ValueError);
    CHECK(Json(uint64_t{7}).as_int() == 7);
  }

  TEST_CASE("what is refused, and where") {
    CHECK(parse_error("{\"a\": 1,\n  \"b\" 2}") ==
          "f.json: invalid JSON at line 2, column 7: expected ':' after the key");
    CHECK(parse_error("{\"a\": 1,\n \"b\": 2, \"a\": 3}") ==
          "f.json: invalid JSON at line 2, column 10: the key \"a\" comes twice");
    for (const char* bad : {"",
                            " ",
                            "{",
                            "[",
                            "[1",
                            "[1,]",
                            "{\"a\":1,}",
                            "{a:1}",
                            "01",
                            "-",
                            "1.",
                            ".5",
                            "+1",
                            "1e",
                            "1e+",
                            "tru",
                            "nul",
                            "\"a",
                            "\"\\x\"",
                            "\"\\u12",
                            "\"\\u12g0\"",
                            "\"\n\"",
                            "'a'",
                            "1 2",
                            "[1] x",
                            "NaN",
                            "Infinity",
                            "-Infinity",
                            "{\"a\"}",
                            "{\"a\":}",
                            "[,1]",
                            "// c\n1",
                            "\"\x80\"",
                            "\"\xc0\xaf\"",
                            "\"\xed\xa0\x80\"",
                            "\"\xf4\x90\x80\x80\"",
                            "\"\xe2\x82\""}) {
      CAPTURE(bad);
      CHECK_THROWS_AS((void)Json::parse(bad), IoError);
    }
  }

  TEST_CASE("depth is capped") {
    const auto nested = [](int n) {
      const auto k = static_cast<size_t>(n);
      return std::string(k, '[') + std::string(k, ']');
    };
    CHECK_NOTHROW((void)Json::parse(nested(Json::kMaxDepth)));
    CHECK(parse_error(nested(Json::kMaxDepth + 2)).find("deeply") != std::string::npos);
    CHECK_THROWS_AS((void)Json::parse(std::string(1000000, '[')), IoError);
  }

  TEST_CASE("building") {
    Json j;
    j.set("b", 1).set("a", "x").set("b", Json::array({1, 2.5, nullptr}));
    CHECK(j.dump() == R"({"b":[1,2.5,null],"a":"x"})");
    CHECK(Json::object({{"k", true}}).dump(2) == "{\n  \"k\": true\n}");
    CHECK(Json::object().dump(2) == "{}");
    Json a;
    a.push(1).push("two");
    CHECK(a.dump() == "[1,\"two\"]");
    CHECK_THROWS_AS(j.push(1), IoError);
  }

  TEST_CASE("UTF-8") {
    CHECK(is_utf8("batik \xf0\x9f\x98\x80"));
    CHECK(!is_utf8("\xe0\x80\x80"));
    CHECK(!is_utf8("\xf5\x80\x80\x80"));
    CHECK(utf8_length("") == 0);
  }
}
