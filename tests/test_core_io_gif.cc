#include <doctest/doctest.h>

#include <cmath>

#include "tenun/core/io/gif.h"
#include "tenun/tests/io_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

/// Sizes and pixels of the frames of a GIF; a straightforward decoder (GIF89a, appendix F).
std::vector<Image> decode_gif(const std::string& s) {
  const auto byte = [&](size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(s.at(i)));
  };
  const auto u16 = [&](size_t i) { return static_cast<int>(byte(i) | byte(i + 1) << 8); };
  std::vector<Image> frames;
  size_t at = 13;
  while (byte(at) != 0x3b) {
    if (byte(at) == 0x21) {  // extension
      at += 2;
      while (byte(at) != 0) at += 1 + byte(at);
      ++at;
      continue;
    }
    REQUIRE(byte(at) == 0x2c);
    Image im(u16(at + 5), u16(at + 7));
    const int colours = 2 << (byte(at + 9) & 7);
    const size_t palette = at + 10;
    at = palette + static_cast<size_t>(colours) * 3;
    const int min_bits = static_cast<int>(byte(at++));
    std::string data;
    while (byte(at) != 0) {
      data += s.substr(at + 1, byte(at));
      at += 1 + byte(at);
    }
    ++at;
    const int clear = 1 << min_bits, end = clear + 1;
    std::vector<std::string> table;
    std::string pixels, last;
    int bits = min_bits + 1;
    for (size_t bit = 0;;) {
      int code = 0;
      for (int k = 0; k < bits; ++k, ++bit)
        code |= (static_cast<unsigned char>(data.at(bit / 8)) >> (bit % 8) & 1) << k;
      if (code == end) break;
      if (code == clear) {
        table.assign(static_cast<size_t>(clear) + 2, "");
        for (int i = 0; i < clear; ++i)
          table[static_cast<size_t>(i)] = std::string(1, static_cast<char>(i));
        bits = min_bits + 1;
        last.clear();
        continue;
      }
      const auto c = static_cast<size_t>(code);
      REQUIRE(c <= table.size());
      const std::string now = c < table.size() ? table[c] : last + last[0];
      if (!last.empty() && table.size() < 4096) table.push_back(last + now[0]);
      if (table.size() == size_t{1} << bits && bits < 12) ++bits;
      pixels += now;
      last = now;
    }
    REQUIRE(pixels.size() == im.rgb.size() / 3);
    for (size_t i = 0; i < im.rgb.size(); ++i)
      im.rgb[i] =
          static_cast<uint8_t>(s[palette + 3 * static_cast<unsigned char>(pixels[i / 3]) + i % 3]);
    frames.push_back(im);
  }
  return frames;
}

}  // namespace

TEST_SUITE("core_io_gif") {
  TEST_CASE("up to 256 colours are exact") {
    const TempDir dir;
    std::vector<Image> frames;
    for (int i = 0; i < 3; ++i) {
      Image im(61, 47);
      for (int y = 0; y < im.height; ++y)
        for (int x = 0; x < im.width; ++x)
          im.at(x, y)[i] = static_cast<uint8_t>((x * x + y * (3 + i)) & 255);
      frames.push_back(im);
    }
    frames.emplace_back(61, 47);  // one colour
    write_gif(dir / "a.gif", frames, {.delay_ms = 80});
    const std::string gif = slurp(dir / "a.gif");
    CHECK(gif.starts_with("GIF89a"));
    CHECK(contains(gif, "NETSCAPE2.0"));
    const auto back = decode_gif(gif);
    REQUIRE(back.size() == 4);
    for (size_t i = 0; i < 4; ++i) CHECK(back[i].rgb == frames[i].rgb);
  }

  TEST_CASE("more colours are near") {
    const std::vector<Image> frames{picture(300, 200), picture(300, 200, 40)};
    const auto back = decode_gif(encode_gif(frames));
    REQUIRE(back.size() == 2);
    for (size_t f = 0; f < 2; ++f) {
      double sum = 0;
      for (size_t i = 0; i < frames[f].rgb.size(); ++i)
        sum += std::pow(int{frames[f].rgb[i]} - int{back[f].rgb[i]}, 2);
      CHECK(std::sqrt(sum / static_cast<double>(frames[f].rgb.size())) < 20.0);
    }
  }

  TEST_CASE("delays") {
    const std::vector<Image> frames{Image(1, 1), Image(1, 1)};
    const std::string gif =
        encode_gif(frames, {.delay_ms = 2570, .last_delay_ms = 100, .repeats = 3});
    CHECK(contains(gif, std::string("\x21\xf9\x04\x04\x01\x01\0\0", 8)));
    CHECK(contains(gif, std::string("\x21\xf9\x04\x04\x0a\0\0\0", 8)));
    CHECK(contains(gif, std::string("\x03\x01\x03\0\0", 5)));
  }

  TEST_CASE("what cannot be written") {
    CHECK_THROWS_AS((void)encode_gif({}), ValueError);
    const std::vector<Image> two{Image(1, 1), Image(2, 1)}, none{Image()};
    CHECK_THROWS_AS((void)encode_gif(two), ValueError);
    CHECK_THROWS_AS((void)encode_gif(none), ValueError);
  }
}
