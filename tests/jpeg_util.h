// Writes JPEG files for the tests; the library only reads them.
#pragma once
#include <doctest/doctest.h>
#include <turbojpeg.h>

#include <string>

#include "tenun/core/image.h"
#include "tenun/tests/io_util.h"

namespace tenun::test {

/// `sampling`: TJSAMP_444 keeps every pixel's colour, TJSAMP_420 is what cameras write.
inline void write_jpeg(const std::string& path, const Image& im, TJSAMP sampling, int quality) {
  tjhandle h = tjInitCompress();
  unsigned char* data = nullptr;
  unsigned long size = 0;
  REQUIRE(tjCompress2(h, im.rgb.data(), im.width, 0, im.height, TJPF_RGB, &data, &size, sampling,
                      quality, 0) == 0);
  spill(path, std::string(data, data + size));
  tjFree(data);
  tjDestroy(h);
}

}  // namespace tenun::test
