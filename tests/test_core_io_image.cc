#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tenun/core/io/image_file.h"
#include "tenun/core/io/safetensors.h"
#include "tenun/tests/io_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

int max_difference(const Image& a, const uint8_t* b) {
  int worst = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i)
    worst = std::max(worst, std::abs(int{a.rgb[i]} - int{b[i]}));
  return worst;
}

}  // namespace

TEST_SUITE("core_io_image") {
  TEST_CASE("pictures of every kind, against another decoder") {
    const TensorFile expected = load_safetensors(fixture("images.safetensors"));
    int count = 0;
    for (const NamedTensor& e : expected.tensors) {
      if (e.name == "large.jpg") continue;
      CAPTURE(e.name);
      const Image im = read_image(fixture(e.name));
      REQUIRE(im.height == e.tensor.dim(0));
      REQUIRE(im.width == e.tensor.dim(1));
      REQUIRE(e.tensor.dim(2) == 3);
      // JPEG decoders may round differently; blending may round a half either way.
      const int tolerance = e.name.ends_with(".jpg") ? 3 : e.name.starts_with("rgba") ? 1 : 0;
      CHECK(max_difference(im, e.tensor.data<uint8_t>()) <= tolerance);
      ++count;
    }
    CHECK(count == 11);
  }

  TEST_CASE("PNG round trip with text") {
    const TempDir dir;
    for (auto [w, h] : {std::pair{1, 1}, {5, 3}, {64, 33}}) {
      const Image im = picture(w, h);
      write_png(dir / "a.png", im,
                {{"parameters", "steps=50, cfg=2\nseed=7"}, {"title", "b\xc3\xa1tik"}});
      const Image back = read_image(dir / "a.png");
      CHECK(back.width == w);
      CHECK(back.height == h);
      CHECK(back.rgb == im.rgb);
      const ImageText text = read_png_text(dir / "a.png");
      REQUIRE(text.size() == 2);
      CHECK(text[0] ==
            std::pair<std::string, std::string>("parameters", "steps=50, cfg=2\nseed=7"));
      CHECK(text[1] == std::pair<std::string, std::string>("title", "b\xc3\xa1tik"));
    }
    CHECK(dir.count() == 1);
    CHECK(decode_png_text(bytes(encode_png(picture(2, 2)))).empty());
    CHECK(encode_png(picture(64, 64), {}, 0).size() > encode_png(Image(64, 64)).size());
    const ImageText others = read_png_text(fixture("rgb8.png"));
    REQUIRE(others.size() == 3);
    CHECK(others[0].second == "steps=50");
    CHECK(others[1].second == "b\xc3\xa1tik");
    CHECK(others[2].second == std::string(300, 'z'));
  }

  TEST_CASE("what cannot be encoded") {
    CHECK_THROWS_AS((void)encode_png(Image()), ValueError);
    Image bad(2, 2);
    bad.rgb.pop_back();
    CHECK_THROWS_AS((void)encode_png(bad), ValueError);
    CHECK_THROWS_AS((void)encode_png(Image(1, 1), {{"", "x"}}), ValueError);
    CHECK_THROWS_AS((void)encode_png(Image(1, 1), {{std::string(80, 'k'), "x"}}), ValueError);
    CHECK_THROWS_AS((void)encode_png(Image(1, 1), {{"k", "\xff"}}), ValueError);
  }

  TEST_CASE("the eight Exif orientations") {
    std::string jpeg = slurp(fixture("exif6.jpg"));
    const size_t tag = jpeg.find(std::string("\x01\x12\0\x03\0\0\0\x01\0\x06", 10));
    REQUIRE(tag != std::string::npos);
    const Image plain = decode_image(bytes(jpeg), "x", {.orient = false});
    CHECK(plain.width == 24);
    // Where the pixel (0, 0) and its right neighbour go, from the definition of the tag.
    struct Case {
      int orientation, x, y, dx, dy;
    };
    for (const Case& c : {Case{1, 0, 0, 1, 0},
                          {2, 23, 0, -1, 0},
                          {3, 23, 15, -1, 0},
                          {4, 0, 15, 1, 0},
                          {5, 0, 0, 0, 1},
                          {6, 15, 0, 0, 1},
                          {7, 15, 23, 0, -1},
                          {8, 0, 23, 0, -1}}) {
      CAPTURE(c.orientation);
      jpeg[tag + 9] = static_cast<char>(c.orientation);
      const Image im = decode_image(bytes(jpeg));
      CHECK(im.width == (c.orientation < 5 ? 24 : 16));
      CHECK(im.height == (c.orientation < 5 ? 16 : 24));
      for (int i = 0; i < 24; ++i)
        REQUIRE(
            std::equal(plain.at(i, 0), plain.at(i, 0) + 3, im.at(c.x + i * c.dx, c.y + i * c.dy)));
    }
    jpeg[tag + 9] = 9;  // not an orientation
    CHECK(decode_image(bytes(jpeg)).rgb == plain.rgb);
  }

  TEST_CASE("JPEG at a smaller scale") {
    const std::string path = fixture("large.jpg");
    const auto size = [&](int min_size) { return read_image(path, {.min_size = min_size}).width; };
    CHECK(size(0) == 240);
    CHECK(size(160) == 240);
    CHECK(size(81) == 240);
    CHECK(size(80) == 120);
    CHECK(size(40) == 60);
    CHECK(size(20) == 30);
    CHECK(size(1) == 30);
    const Image small = read_image(path, {.min_size = 20});
    const Tensor expected = load_safetensors(fixture("images.safetensors")).at("large.jpg");
    double sum = 0;
    for (size_t i = 0; i < small.rgb.size(); ++i)
      sum += std::abs(int{small.rgb[i]} - int{expected.data<uint8_t>()[i]});
    CHECK(sum / static_cast<double>(small.rgb.size()) < 2.0);
  }

  TEST_CASE("truncated files are errors wherever they are cut") {
    for (const char* name :
         {"rgb8.png", "palette_alpha.png", "exif6.jpg", "large.jpg", "cmyk.jpg"}) {
      const std::string whole = slurp(fixture(name));
      for (size_t n = 0; n + 2 < whole.size(); n += 1 + whole.size() / 60) {
        CAPTURE(name);
        CAPTURE(n);
        const std::string part = whole.substr(0, n);
        CHECK(
            error_of([&] { (void)decode_image(bytes(part), "a/b.png"); }).starts_with("a/b.png: "));
      }
    }
    const std::string jpeg = slurp(fixture("large.jpg"));
    const std::string half = jpeg.substr(0, jpeg.size() / 2);
    CHECK(contains(error_of([&] { (void)decode_image(bytes(half), "x"); }), "broken JPEG: "));
    const std::string png = slurp(fixture("rgb8.png"));
    const std::string most = png.substr(0, png.size() - 20);
    CHECK(error_of([&] { (void)decode_image(bytes(most), "x"); }) == "x: broken PNG: truncated");
  }

  TEST_CASE("broken files and files of other kinds") {
    std::string png = slurp(fixture("rgb8.png"));
    png[png.find("IDAT") + 10] ^= 1;
    CHECK(contains(error_of([&] { (void)decode_image(bytes(png), "x"); }), "broken PNG: "));
    CHECK(contains(error_of([&] { (void)decode_image({}, "x"); }), "x: an empty file"));
    CHECK(contains(error_of([&] { (void)decode_image(bytes("GIF89a..."), "x"); }),
                   "neither PNG nor JPEG"));
    CHECK(contains(error_of([&] { (void)read_image("/none.png"); }), "/none.png: cannot open"));
    for (const char* name : {"rgb8.png", "large.jpg"})
      CHECK(contains(error_of([&] { (void)read_image(fixture(name), {.max_pixels = 383}); }),
                     "more than the limit of 383"));
    // A header that claims 2^31 - 1 pixels a side, without the pixels.
    std::string huge = encode_png(Image(1, 1));
    for (size_t i : {16u, 20u}) huge.replace(i, 4, "\x7f\xff\xff\xff");
    CHECK_THROWS_AS((void)decode_image(bytes(huge)), IoError);
  }
}
