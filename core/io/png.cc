// PNG through libspng.
#include <spng.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tenun/core/check.h"
#include "tenun/core/io/image_file.h"
#include "tenun/core/io/utf8.h"

namespace tenun {
namespace {

struct FreeContext {
  void operator()(spng_ctx* c) const { spng_ctx_free(c); }
};
using Context = std::unique_ptr<spng_ctx, FreeContext>;

void require(int code, std::string_view where, const char* what) {
  check<IoError>(code == 0, where, "{} PNG: {}", what,
                 code == SPNG_IO_EOF ? "truncated" : spng_strerror(code));
}

Context open_png(std::span<const std::byte> file, std::string_view where) {
  constexpr size_t kMaxChunk = size_t{16} << 20, kMaxChunks = size_t{64} << 20;  // text, profiles
  Context c(spng_ctx_new(0));
  check<OutOfMemory>(c != nullptr, where, "no memory for the PNG decoder");
  require(spng_set_chunk_limits(c.get(), kMaxChunk, kMaxChunks), where, "cannot read");
  require(spng_set_crc_action(c.get(), SPNG_CRC_ERROR, SPNG_CRC_DISCARD), where, "cannot read");
  require(spng_set_png_buffer(c.get(), file.data(), file.size()), where, "cannot read");
  return c;
}

Image blend_over_white(const std::vector<uint8_t>& rgba, int width, int height) {
  Image image(width, height);
  for (size_t i = 0; i < rgba.size() / 4; ++i) {
    const unsigned a = rgba[4 * i + 3];
    for (size_t k = 0; k < 3; ++k)
      image.rgb[3 * i + k] =
          static_cast<uint8_t>((rgba[4 * i + k] * a + 255 * (255 - a) + 127) / 255);
  }
  return image;
}

std::string latin1_to_utf8(std::string_view s) {
  std::string out;
  for (char c : s) append_utf8(out, static_cast<unsigned char>(c));
  return out;
}

bool is_ascii(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return c > 0; });
}

}  // namespace

Image detail::decode_png(std::span<const std::byte> file, std::string_view where,
                         const DecodeOptions& options) {
  const Context c = open_png(file, where);
  spng_ihdr head{};
  require(spng_get_ihdr(c.get(), &head), where, "broken");
  check_image_size(head.width, head.height, where, options);
  spng_trns trns{};
  const bool alpha = (head.color_type & 4) != 0 || spng_get_trns(c.get(), &trns) == 0;
  const int width = static_cast<int>(head.width), height = static_cast<int>(head.height);
  const auto decode = [&](std::vector<uint8_t>& to, spng_format format) {
    require(spng_decode_image(c.get(), to.data(), to.size(), format, SPNG_DECODE_TRNS), where,
            "broken");
    require(spng_decode_chunks(c.get()), where, "broken");  // up to the end of the file
  };
  if (!alpha) {
    Image image(width, height);
    decode(image.rgb, SPNG_FMT_RGB8);
    return image;
  }
  std::vector<uint8_t> rgba(static_cast<size_t>(width) * static_cast<size_t>(height) * 4);
  decode(rgba, SPNG_FMT_RGBA8);
  return blend_over_white(rgba, width, height);
}

ImageText decode_png_text(std::span<const std::byte> file, std::string_view where) {
  const Context c = open_png(file, where);
  spng_ihdr head{};
  require(spng_get_ihdr(c.get(), &head), where, "broken");
  // The text may stand behind the pixels, which must be passed row by row to get there.
  require(spng_decode_image(c.get(), nullptr, 0, SPNG_FMT_PNG, SPNG_DECODE_PROGRESSIVE), where,
          "broken");
  size_t bytes = 0;
  require(spng_decoded_image_size(c.get(), SPNG_FMT_PNG, &bytes), where, "broken");
  std::vector<uint8_t> row(bytes / head.height);
  int code = 0;
  while (code == 0) code = spng_decode_row(c.get(), row.data(), row.size());
  if (code != SPNG_EOI) require(code, where, "broken");
  require(spng_decode_chunks(c.get()), where, "broken");

  uint32_t count = 0;
  const int none = spng_get_text(c.get(), nullptr, &count);
  if (none == SPNG_ECHUNKAVAIL) return {};
  require(none, where, "broken");
  std::vector<spng_text> chunks(count);
  require(spng_get_text(c.get(), chunks.data(), &count), where, "broken");
  ImageText text;
  for (const spng_text& t : chunks) {
    const std::string_view value(t.text, t.length);
    text.emplace_back(latin1_to_utf8(t.keyword),
                      t.type == SPNG_ITXT ? std::string(value) : latin1_to_utf8(value));
  }
  return text;
}

std::string encode_png(const Image& image, const ImageText& text, int level) {
  constexpr std::string_view kOp = "encode_png";
  check(image.width > 0 && image.height > 0 &&
            image.rgb.size() ==
                static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3,
        kOp, "an image of {} x {} with {} bytes", image.width, image.height, image.rgb.size());
  const Context c(spng_ctx_new(SPNG_CTX_ENCODER));
  check<OutOfMemory>(c != nullptr, kOp, "no memory for the PNG encoder");
  spng_ihdr head{};
  head.width = static_cast<uint32_t>(image.width);
  head.height = static_cast<uint32_t>(image.height);
  head.bit_depth = 8;
  head.color_type = SPNG_COLOR_TYPE_TRUECOLOR;
  require(spng_set_ihdr(c.get(), &head), kOp, "cannot write");
  require(spng_set_option(c.get(), SPNG_ENCODE_TO_BUFFER, 1), kOp, "cannot write");
  require(spng_set_option(c.get(), SPNG_IMG_COMPRESSION_LEVEL, level), kOp, "cannot write");

  ImageText values = text;  // spng wants pointers to non-const characters
  std::vector<spng_text> chunks(values.size());
  char no_text[1] = {};
  for (size_t i = 0; i < values.size(); ++i) {
    auto& [key, value] = values[i];
    check(!key.empty() && key.size() < sizeof chunks[i].keyword && is_ascii(key), kOp,
          "\"{}\" cannot be the keyword of a text: 1 to 79 ASCII characters", key);
    check(is_utf8(value) && value.find('\0') == std::string::npos, kOp,
          "the text of \"{}\" is not UTF-8 or holds a zero byte", key);
    std::memcpy(chunks[i].keyword, key.c_str(), key.size() + 1);
    chunks[i].type = is_ascii(value) ? SPNG_TEXT : SPNG_ITXT;
    chunks[i].text = value.data();
    chunks[i].length = value.size();
    chunks[i].language_tag = no_text;
    chunks[i].translated_keyword = no_text;
  }
  if (!chunks.empty())
    require(spng_set_text(c.get(), chunks.data(), static_cast<uint32_t>(chunks.size())), kOp,
            "cannot write the text of a");
  require(spng_encode_image(c.get(), image.rgb.data(), image.rgb.size(), SPNG_FMT_PNG,
                            SPNG_ENCODE_FINALIZE),
          kOp, "cannot write");
  size_t size = 0;
  int code = 0;
  const std::unique_ptr<void, decltype(&std::free)> png(spng_get_png_buffer(c.get(), &size, &code),
                                                        &std::free);
  require(code, kOp, "cannot write");
  return {static_cast<const char*>(png.get()), size};
}

}  // namespace tenun
