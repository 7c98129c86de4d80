// JPEG through libjpeg-turbo's TurboJPEG interface.
#include <turbojpeg.h>

#include <algorithm>
#include <memory>

#include "tenun/core/check.h"
#include "tenun/core/io/image_file.h"

namespace tenun {
namespace {

struct Markers {
  int orientation = 1;  ///< Exif, 1 to 8
  bool adobe = false;   ///< Adobe writes CMYK inverted
};

/// The orientation tag of a TIFF header; 1 where it is absent or malformed.
int exif_orientation(std::span<const std::byte> tiff) {
  const auto byte = [&](size_t i) {
    return i < tiff.size() ? std::to_integer<unsigned>(tiff[i]) : 0u;
  };
  const bool little = byte(0) == 'I';
  const auto u16 = [&](size_t i) {
    return little ? byte(i) | byte(i + 1) << 8 : byte(i) << 8 | byte(i + 1);
  };
  const auto u32 = [&](size_t i) {
    return little ? u16(i) | u16(i + 2) << 16 : u16(i) << 16 | u16(i + 2);
  };
  if ((byte(0) != 'I' && byte(0) != 'M') || byte(1) != byte(0) || u16(2) != 42) return 1;
  const size_t ifd = u32(4);
  for (size_t i = 0; i < u16(ifd); ++i) {
    const size_t entry = ifd + 2 + 12 * i;
    if (entry + 12 > tiff.size()) break;
    if (u16(entry) != 0x0112) continue;
    const unsigned value = u16(entry + 8);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

/// Walks the segments before the pixels. What is malformed there is the decoder's to report.
Markers scan_markers(std::span<const std::byte> file) {
  Markers m;
  const auto byte = [&](size_t i) { return std::to_integer<unsigned>(file[i]); };
  for (size_t at = 2; at + 4 <= file.size() && byte(at) == 0xff;) {
    const unsigned marker = byte(at + 1);
    if (marker == 0xff) {  // fill byte
      ++at;
      continue;
    }
    const size_t length = byte(at + 2) << 8 | byte(at + 3);
    if (marker == 0xda || length < 2 || at + 2 + length > file.size()) break;
    const auto body = file.subspan(at + 4, length - 2);
    const auto starts = [&](std::string_view s) {
      return body.size() >= s.size() &&
             std::equal(s.begin(), s.end(), reinterpret_cast<const char*>(body.data()));
    };
    if (marker == 0xe1 && starts(std::string_view("Exif\0\0", 6)))
      m.orientation = exif_orientation(body.subspan(6));
    if (marker == 0xee && starts("Adobe")) m.adobe = true;
    at += 2 + length;
  }
  return m;
}

Image oriented(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool turned = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out(turned ? image.height : image.width, turned ? image.width : image.height);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) {
      int u = turned ? y : x, v = turned ? x : y;
      if (flip_x) u = image.width - 1 - u;
      if (flip_y) v = image.height - 1 - v;
      std::copy_n(image.at(u, v), 3, out.at(x, y));
    }
  return out;
}

struct FreeDecoder {
  void operator()(void* h) const { tjDestroy(h); }
};

}  // namespace

Image detail::decode_jpeg(std::span<const std::byte> file, std::string_view where,
                          const DecodeOptions& options) {
  const std::unique_ptr<void, FreeDecoder> h(tjInitDecompress());
  check<OutOfMemory>(h != nullptr, where, "no memory for the JPEG decoder");
  const auto require = [&](int code) {
    check<IoError>(code == 0, where, "broken JPEG: {}", tjGetErrorStr2(h.get()));
  };
  const auto* data = reinterpret_cast<const unsigned char*>(file.data());
  int width = 0, height = 0, sampling = 0, colours = 0;
  require(tjDecompressHeader3(h.get(), data, file.size(), &width, &height, &sampling, &colours));
  check_image_size(width, height, where, options);
  const Markers markers = scan_markers(file);

  int scale = 1;
  const auto scaled = [](int n, int s) { return (n + s - 1) / s; };
  if (options.min_size > 0)
    while (scale < 8 &&
           std::min(scaled(width, 2 * scale), scaled(height, 2 * scale)) >= options.min_size)
      scale *= 2;

  Image image(scaled(width, scale), scaled(height, scale));
  const auto decode = [&](std::vector<uint8_t>& to, int format) {
    require(tjDecompress2(h.get(), data, file.size(), to.data(), image.width, 0, image.height,
                          format, TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT));
  };
  if (colours == TJCS_CMYK || colours == TJCS_YCCK) {
    std::vector<uint8_t> cmyk(image.rgb.size() / 3 * 4);
    decode(cmyk, TJPF_CMYK);
    const unsigned flip = markers.adobe ? 0 : 255;
    for (size_t i = 0; i < cmyk.size() / 4; ++i)
      for (size_t k = 0; k < 3; ++k)
        image.rgb[3 * i + k] =
            static_cast<uint8_t>(((cmyk[4 * i + k] ^ flip) * (cmyk[4 * i + 3] ^ flip) + 127) / 255);
  } else {
    decode(image.rgb, TJPF_RGB);
  }
  return oriented(std::move(image), options.orient ? markers.orientation : 1);
}

}  // namespace tenun
