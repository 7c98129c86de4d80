#include "tenun/core/io/image_file.h"

#include <cstring>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/io/mapped_file.h"

namespace tenun {

void detail::check_image_size(int64_t width, int64_t height, std::string_view where,
                              const DecodeOptions& options) {
  check<IoError>(width > 0 && height > 0, where, "an empty image: {} x {}", width, height);
  check<IoError>(width <= options.max_pixels / height, where,
                 "{} x {} pixels, more than the limit of {}", width, height, options.max_pixels);
}

Image decode_image(std::span<const std::byte> file, std::string_view where,
                   const DecodeOptions& options) {
  const auto starts_with = [&](std::string_view magic) {
    return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
  };
  check<IoError>(!file.empty(), where, "an empty file");
  if (starts_with("\x89PNG\r\n\x1a\n")) return detail::decode_png(file, where, options);
  if (starts_with("\xff\xd8\xff")) return detail::decode_jpeg(file, where, options);
  fail<IoError>(where, "neither PNG nor JPEG; convert the image to one of them");
}

Image read_image(const std::string& path, const DecodeOptions& options) {
  return decode_image(MappedFile(path).bytes(), path, options);
}
ImageText read_png_text(const std::string& path) {
  return decode_png_text(MappedFile(path).bytes(), path);
}

void write_png(const std::string& path, const Image& image, const ImageText& text, int level) {
  write_file(path, encode_png(image, text, level));
}

}  // namespace tenun
