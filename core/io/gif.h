// Animated GIF (GIF89a): the moving pictures of sampling trajectories. Every frame has a palette of
// its own: its exact colours if there are at most 256, else median cut (Heckbert 1982) on 5 bits a
// channel, each entry the mean of the pixels that it stands for.
//
//   write_gif("trajectory.gif", frames, {.delay_ms = 80, .last_delay_ms = 1500});
//
// All frames have one size, at most 65535 a side; else ValueError. IoError if the file cannot be
// written.
#pragma once
#include <span>
#include <string>

#include "tenun/core/image.h"

namespace tenun {

struct GifOptions {
  int delay_ms = 100;        ///< rounded to 10 ms
  int last_delay_ms = 1000;  ///< the last frame stands still for that long
  int repeats = 0;           ///< 0: for ever
};

[[nodiscard]] std::string encode_gif(std::span<const Image> frames, const GifOptions& options = {});
/// The same to a file, atomically.
void write_gif(const std::string& path, std::span<const Image> frames,
               const GifOptions& options = {});

}  // namespace tenun
