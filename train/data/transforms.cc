#include "tenun/train/data/transforms.h"

#include <algorithm>
#include <cmath>

#include "tenun/core/check.h"

namespace tenun {
namespace {

double filter_value(Filter f, double x) {
  if (f == Filter::box) return x > -0.5 && x <= 0.5 ? 1 : 0;  // a pixel on the edge counts once
  x = std::abs(x);
  switch (f) {
    case Filter::bilinear: return x < 1 ? 1 - x : 0;
    default: {
      constexpr double a = -0.5;
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    }
  }
}
double filter_support(Filter f) { return f == Filter::box ? 0.5 : f == Filter::bilinear ? 1 : 2; }

struct Taps {
  int first = 0;
  std::vector<float> weights;
};

std::vector<Taps> taps(int in, int out, Filter f) {
  const double scale = static_cast<double>(in) / out, stretch = std::max(scale, 1.0),
               squeeze = 1 / stretch, support = filter_support(f) * stretch;
  std::vector<Taps> all(static_cast<size_t>(out));
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    const int lo = std::max(0, static_cast<int>(centre - support + 0.5)),
              hi = std::min(in, static_cast<int>(centre + support + 0.5));
    std::vector<double> w;
    double sum = 0;
    for (int j = lo; j < hi; ++j) {
      w.push_back(filter_value(f, (j - centre + 0.5) * squeeze));
      sum += w.back();
    }
    Taps& t = all[static_cast<size_t>(i)];
    t.first = lo;
    for (const double v : w) t.weights.push_back(static_cast<float>(v / sum));
  }
  return all;
}

uint8_t to_byte(float v) {
  return static_cast<uint8_t>(std::clamp(static_cast<int>(std::floor(v + 0.5f)), 0, 255));
}

Image crop(const Image& in, int x0, int y0, int size) {
  Image out(size, size);
  for (int y = 0; y < size; ++y)
    std::copy_n(in.at(x0, y0 + y), static_cast<size_t>(size) * 3, out.at(0, y));
  return out;
}

}  // namespace

Image resize_image(const Image& in, int width, int height, Filter filter) {
  check(width > 0 && height > 0 && in.width > 0 && in.height > 0, "resize_image", "{}x{} to {}x{}",
        in.width, in.height, width, height);
  Image rows(width, in.height);
  const auto across = taps(in.width, width, filter), down = taps(in.height, height, filter);
  for (int y = 0; y < in.height; ++y)
    for (int x = 0; x < width; ++x) {
      const Taps& t = across[static_cast<size_t>(x)];
      float sum[3] = {};
      for (size_t k = 0; k < t.weights.size(); ++k) {
        const uint8_t* p = in.at(t.first + static_cast<int>(k), y);
        for (int c = 0; c < 3; ++c) sum[c] += t.weights[k] * static_cast<float>(p[c]);
      }
      for (int c = 0; c < 3; ++c) rows.at(x, y)[c] = to_byte(sum[c]);
    }
  Image out(width, height);
  std::vector<float> sums(static_cast<size_t>(width) * 3);
  for (int y = 0; y < height; ++y) {
    const Taps& t = down[static_cast<size_t>(y)];
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (size_t k = 0; k < t.weights.size(); ++k) {
      const uint8_t* p = rows.at(0, t.first + static_cast<int>(k));
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += t.weights[k] * static_cast<float>(p[i]);
    }
    uint8_t* q = out.at(0, y);
    for (size_t i = 0; i < sums.size(); ++i) q[i] = to_byte(sums[i]);
  }
  return out;
}

Image adm_center_crop(const Image& source, int size) {
  check(size > 0 && source.width > 0 && source.height > 0, "adm_center_crop", "{}x{} to {}",
        source.width, source.height, size);
  Image in = source;
  while (std::min(in.width, in.height) >= 2 * size)
    in = resize_image(in, in.width / 2, in.height / 2, Filter::box);
  const double scale = static_cast<double>(size) / std::min(in.width, in.height);
  // Half to even, as Python rounds; the shorter side comes out as `size` in any case.
  const int w = static_cast<int>(std::nearbyint(in.width * scale)),
            h = static_cast<int>(std::nearbyint(in.height * scale));
  if (w != in.width || h != in.height) in = resize_image(in, w, h, Filter::bicubic);
  return crop(in, (w - size) / 2, (h - size) / 2, size);
}

Image random_crop(const Image& source, int size, double u, double v) {
  check(size > 0 && source.width > 0 && source.height > 0, "random_crop", "{}x{} to {}",
        source.width, source.height, size);
  const int side = std::min(source.width, source.height);
  const int w = std::max(size, static_cast<int>(static_cast<int64_t>(source.width) * size / side));
  const int h = std::max(size, static_cast<int>(static_cast<int64_t>(source.height) * size / side));
  const Image in = w == source.width && h == source.height
                       ? source
                       : resize_image(source, w, h, Filter::bilinear);
  return cut_window(in, size, u, v);
}

Image cut_window(const Image& in, int size, double u, double v) {
  check(size > 0 && in.width >= size && in.height >= size, "cut_window", "{} px of {}x{}", size,
        in.width, in.height);
  const int x = static_cast<int>(u * (in.width - size + 1)),
            y = static_cast<int>(v * (in.height - size + 1));
  return crop(in, std::min(in.width - size, x), std::min(in.height - size, y), size);
}

Image flip_horizontal(const Image& in) {
  Image out(in.width, in.height);
  for (int y = 0; y < in.height; ++y)
    for (int x = 0; x < in.width; ++x) std::copy_n(in.at(in.width - 1 - x, y), 3, out.at(x, y));
  return out;
}

void image_to_tensor(const Image& in, Tensor& out) {
  check<ShapeError>(out.shape() == Shape{3, in.height, in.width} && out.contiguous_layout(),
                    "image_to_tensor", "{}x{} into {}", in.width, in.height, out);
  float* p = out.mutable_data<float>();
  const size_t pixels = in.rgb.size() / 3;
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < pixels; ++i)
      p[c * pixels + i] = (static_cast<float>(in.rgb[i * 3 + c]) / 255.0f - 0.5f) / 0.5f;
}

Image tensor_to_image(const Tensor& x) {
  check<ShapeError>(x.rank() == 3 && x.dim(0) == 3, "tensor_to_image", "needs (3, H, W), got {}",
                    x);
  const std::vector<float> v = x.values<float>();
  Image out(static_cast<int>(x.dim(2)), static_cast<int>(x.dim(1)));
  const size_t pixels = out.rgb.size() / 3;
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < pixels; ++i) {
      const float f = v[c * pixels + i];
      out.rgb[i * 3 + c] = f == f ? to_byte(std::clamp((f + 1) * 127.5f, 0.0f, 255.0f)) : 0;
    }
  return out;
}

Image image_grid(const std::vector<Image>& images, int columns, int gap) {
  check(!images.empty() && columns > 0, "image_grid", "needs images and columns");
  const int w = images[0].width, h = images[0].height,
            rows = (static_cast<int>(images.size()) + columns - 1) / columns;
  Image out(columns * w + (columns - 1) * gap, rows * h + (rows - 1) * gap);
  std::fill(out.rgb.begin(), out.rgb.end(), uint8_t{255});
  for (size_t i = 0; i < images.size(); ++i) {
    check<ShapeError>(images[i].width == w && images[i].height == h, "image_grid",
                      "images of different sizes");
    const int x0 = static_cast<int>(i) % columns * (w + gap),
              y0 = static_cast<int>(i) / columns * (h + gap);
    for (int y = 0; y < h; ++y)
      std::copy_n(images[i].at(0, y), static_cast<size_t>(w) * 3, out.at(x0, y0 + y));
  }
  return out;
}

}  // namespace tenun
