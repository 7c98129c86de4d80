// PNG and JPEG files <-> Image (core/image.h: 8-bit RGB).
//
//   Image im = read_image("photo.jpg", {.min_size = 256});
//   write_png("out.png", im, {{"parameters", "steps=50, cfg=2"}});
//
// PNG: every colour type; 16 bits become 8 (the upper byte), greys and palettes become RGB, what is
// transparent is blended over white; gamma and colour profiles are ignored. JPEG: grey, YCbCr, RGB
// and CMYK; the Exif orientation is applied; `min_size` decodes at 1/2, 1/4 or 1/8 scale (in the
// DCT: much faster) as long as the shorter side keeps at least that many pixels.
// Anything broken, truncated or too large is an IoError with path and cause; warnings of the JPEG
// decoder count as broken, since it would fill the missing part with grey.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tenun/core/image.h"

namespace tenun {

struct DecodeOptions {
  int min_size = 0;                  ///< JPEG only; 0: full size
  bool orient = true;                ///< apply the Exif orientation
  int64_t max_pixels = 100'000'000;  ///< larger images are refused before they are decoded
};

/// Text of a PNG: keyword and value in UTF-8.
using ImageText = std::vector<std::pair<std::string, std::string>>;

/// Reads PNG or JPEG, told apart by their first bytes, not by the name.
[[nodiscard]] Image read_image(const std::string& path, const DecodeOptions& options = {});
[[nodiscard]] Image decode_image(std::span<const std::byte> file, std::string_view where = "image",
                                 const DecodeOptions& options = {});
/// The tEXt, zTXt and iTXt chunks of a PNG.
[[nodiscard]] ImageText read_png_text(const std::string& path);
[[nodiscard]] ImageText decode_png_text(std::span<const std::byte> file,
                                        std::string_view where = "image");

/// The bytes of a PNG. `level` is zlib's: 0 stored, 1 fast, 9 small. Keywords: 1 to 79 ASCII
/// characters, else ValueError; values that are not ASCII go into iTXt chunks.
[[nodiscard]] std::string encode_png(const Image& image, const ImageText& text = {}, int level = 6);
/// The same to a file, atomically.
void write_png(const std::string& path, const Image& image, const ImageText& text = {},
               int level = 6);

namespace detail {
[[nodiscard]] Image decode_png(std::span<const std::byte> file, std::string_view where,
                               const DecodeOptions& options);
[[nodiscard]] Image decode_jpeg(std::span<const std::byte> file, std::string_view where,
                                const DecodeOptions& options);
/// Width and height as the file claims them; IoError if empty or too large.
void check_image_size(int64_t width, int64_t height, std::string_view where,
                      const DecodeOptions& options);
}  // namespace detail

}  // namespace tenun
