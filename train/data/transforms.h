// Image transforms of the training data: ADM's centre crop, random crop, flip, and the step to
// tensors. Filters work as in Pillow: separable, antialiased, 8-bit results with rounding.
#pragma once
#include "tenun/core/image.h"
#include "tenun/core/tensor.h"

namespace tenun {

enum class Filter : uint8_t { box, bilinear, bicubic };  ///< bicubic: a = -0.5

/// Antialiased resampling: the filter is stretched by max(1, in / out) and renormalised at the
/// border.
[[nodiscard]] Image resize_image(const Image& in, int width, int height, Filter filter);
/// Centre crop of guided-diffusion (ADM): halve with a box while the shorter side is at least twice
/// `size`, bicubic to the shorter side, crop the middle.
[[nodiscard]] Image adm_center_crop(const Image& in, int size);
/// Bilinear to the shorter side, then a window at (u, v) in [0, 1) of the free range.
[[nodiscard]] Image random_crop(const Image& in, int size, double u, double v);
/// The window of size x size pixels at (u, v) in [0, 1) of the free range.
[[nodiscard]] Image cut_window(const Image& in, int size, double u, double v);
[[nodiscard]] Image flip_horizontal(const Image& in);

/// (3, H, W) f32 in [-1, 1]: (v / 255 - 0.5) / 0.5.
void image_to_tensor(const Image& in, Tensor& out);
/// The reverse with rounding and clipping: uint8 = round((x + 1) 127.5). x (3, H, W) of any float
/// type.
[[nodiscard]] Image tensor_to_image(const Tensor& x);
/// Images of one size side by side, `columns` in a row, with `gap` pixels of white between them.
[[nodiscard]] Image image_grid(const std::vector<Image>& images, int columns, int gap = 2);

}  // namespace tenun
