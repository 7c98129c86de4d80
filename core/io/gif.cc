#include "tenun/core/io/gif.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"

namespace tenun {
namespace {

struct Indexed {
  std::vector<std::array<uint8_t, 3>> palette;
  std::vector<uint8_t> pixels;
};

/// False if the image has more than 256 colours.
bool index_exactly(const Image& image, Indexed& out) {
  std::unordered_map<uint32_t, uint8_t> known;
  out.pixels.resize(image.rgb.size() / 3);
  for (size_t i = 0; i < out.pixels.size(); ++i) {
    const uint8_t* p = &image.rgb[3 * i];
    const auto [it, fresh] = known.try_emplace(uint32_t{p[0]} << 16 | uint32_t{p[1]} << 8 | p[2],
                                               static_cast<uint8_t>(out.palette.size()));
    if (!fresh) {
      out.pixels[i] = it->second;
      continue;
    }
    if (out.palette.size() == 256) return false;
    out.pixels[i] = it->second;
    out.palette.push_back({p[0], p[1], p[2]});
  }
  return true;
}

/// A cell of the coarse colour cube: 5 bits a channel.
struct Cell {
  uint64_t count = 0, sum[3] = {};
  int coarse[3] = {};
};
constexpr size_t cell_of(const uint8_t* p) {
  return size_t{p[0]} >> 3 << 10 | size_t{p[1]} >> 3 << 5 | size_t{p[2]} >> 3;
}

/// A box of cells [begin, end) and its longest axis.
struct Box {
  size_t begin, end;
  int axis = 0, length = 0;
};
Box measure(const std::vector<Cell>& cells, size_t begin, size_t end) {
  Box box{begin, end};
  for (int k = 0; k < 3; ++k) {
    int low = 31, high = 0;
    for (size_t i = begin; i < end; ++i) {
      low = std::min(low, cells[i].coarse[k]);
      high = std::max(high, cells[i].coarse[k]);
    }
    if (high - low > box.length) {
      box.length = high - low;
      box.axis = k;
    }
  }
  return box;
}

/// Cuts the box with the longest side in half (by pixels) until there are 256.
std::vector<Box> median_cut(std::vector<Cell>& cells) {
  std::vector<Box> boxes{measure(cells, 0, cells.size())};
  while (boxes.size() < 256) {
    auto widest = std::max_element(boxes.begin(), boxes.end(),
                                   [](const Box& a, const Box& b) { return a.length < b.length; });
    if (widest->length == 0) break;
    const Box box = *widest;
    const auto begin = cells.begin() + static_cast<std::ptrdiff_t>(box.begin),
               end = cells.begin() + static_cast<std::ptrdiff_t>(box.end);
    std::stable_sort(begin, end, [&](const Cell& a, const Cell& b) {
      return a.coarse[box.axis] < b.coarse[box.axis];
    });
    uint64_t total = 0, half = 0;
    for (auto it = begin; it != end; ++it) total += it->count;
    size_t cut = box.begin;
    while (cut + 1 < box.end && (cut == box.begin || 2 * half < total)) half += cells[cut++].count;
    *widest = measure(cells, box.begin, cut);
    boxes.push_back(measure(cells, cut, box.end));
  }
  return boxes;
}

Indexed index_by_median_cut(const Image& image) {
  std::vector<Cell> all(32768), cells;
  for (size_t i = 0; i + 2 < image.rgb.size(); i += 3) {
    const uint8_t* p = &image.rgb[i];
    Cell& c = all[cell_of(p)];
    ++c.count;
    for (int k = 0; k < 3; ++k) {
      c.sum[k] += p[k];
      c.coarse[k] = p[k] >> 3;
    }
  }
  for (const Cell& c : all)
    if (c.count > 0) cells.push_back(c);

  Indexed out;
  std::vector<uint8_t> index_of_cell(all.size());
  for (const Box& box : median_cut(cells)) {
    uint64_t count = 0, sum[3] = {};
    for (size_t i = box.begin; i < box.end; ++i) {
      const Cell& c = cells[i];
      index_of_cell[static_cast<size_t>(c.coarse[0] << 10 | c.coarse[1] << 5 | c.coarse[2])] =
          static_cast<uint8_t>(out.palette.size());
      count += c.count;
      for (int k = 0; k < 3; ++k) sum[k] += c.sum[k];
    }
    std::array<uint8_t, 3> mean{};
    for (size_t k = 0; k < 3; ++k) mean[k] = static_cast<uint8_t>((sum[k] + count / 2) / count);
    out.palette.push_back(mean);
  }
  out.pixels.resize(image.rgb.size() / 3);
  for (size_t i = 0; i < out.pixels.size(); ++i)
    out.pixels[i] = index_of_cell[cell_of(&image.rgb[3 * i])];
  return out;
}

Indexed index_colours(const Image& image) {
  Indexed out;
  return index_exactly(image, out) ? out : index_by_median_cut(image);
}

/// Variable-width LZW, in blocks of at most 255 bytes.
class Lzw {
 public:
  Lzw(std::string& out, int bits) : out_(out), min_bits_(bits) { out_ += static_cast<char>(bits); }

  void run(const std::vector<uint8_t>& pixels) {
    clear();
    int prefix = pixels.front();
    for (size_t i = 1; i < pixels.size(); ++i) {
      const uint32_t key = static_cast<uint32_t>(prefix) << 8 | pixels[i];
      uint16_t& code = lookup(key);
      if (code != 0) {
        prefix = code;
        continue;
      }
      put(prefix);
      if (next_ == 4096) {
        clear();
      } else {
        code = static_cast<uint16_t>(next_);
        if (next_++ == 1 << bits_) ++bits_;
      }
      prefix = pixels[i];
    }
    put(prefix);
    put((1 << min_bits_) + 1);  // end
    if (held_ > 0) byte();
    flush();
    out_ += '\0';
  }

 private:
  /// Open addressing; a code of 0 means free (0 is never the code of a pair).
  uint16_t& lookup(uint32_t key) {
    size_t i = (key * 2654435761u) >> 19;
    while (codes_[i] != 0 && keys_[i] != key) i = (i + 1) % kSlots;
    keys_[i] = key;
    return codes_[i];
  }
  void clear() {
    if (bits_ == 0) bits_ = min_bits_ + 1;
    put(1 << min_bits_);
    bits_ = min_bits_ + 1;
    next_ = (1 << min_bits_) + 2;
    codes_.fill(0);
  }
  void put(int code) {
    pending_ |= static_cast<uint32_t>(code) << held_;
    for (held_ += bits_; held_ >= 8; held_ -= 8) {
      byte();
      pending_ >>= 8;
    }
  }
  void byte() {
    block_ += static_cast<char>(pending_ & 0xff);
    if (block_.size() == 255) flush();
  }
  void flush() {
    if (block_.empty()) return;
    out_ += static_cast<char>(block_.size());
    out_ += block_;
    block_.clear();
  }

  static constexpr size_t kSlots = 8192;  // 2^13: the hash keeps the 13 upper bits
  std::string& out_;
  std::string block_;
  std::array<uint32_t, kSlots> keys_{};
  std::array<uint16_t, kSlots> codes_{};
  int min_bits_, bits_ = 0, next_ = 0, held_ = 0;
  uint32_t pending_ = 0;
};

void append_u16(std::string& s, int v) {
  s += static_cast<char>(v & 0xff);
  s += static_cast<char>(v >> 8 & 0xff);
}

void append_frame(std::string& out, const Image& image, int delay_ms) {
  const Indexed frame = index_colours(image);
  int bits = 2;  // of the palette; LZW needs at least 2
  while (1u << bits < frame.palette.size()) ++bits;
  out.append("\x21\xf9\x04\x04", 4);  // graphic control: leave the frame in place
  append_u16(out, std::clamp((delay_ms + 5) / 10, 0, 65535));
  out.append("\0\0\x2c\0\0\0\0", 7);
  append_u16(out, image.width);
  append_u16(out, image.height);
  out += static_cast<char>(0x80 | (bits - 1));  // a palette of its own
  for (size_t i = 0; i < size_t{1} << bits; ++i)
    for (size_t k = 0; k < 3; ++k)
      out += i < frame.palette.size() ? static_cast<char>(frame.palette[i][k]) : '\0';
  Lzw(out, bits).run(frame.pixels);
}

}  // namespace

std::string encode_gif(std::span<const Image> frames, const GifOptions& options) {
  constexpr std::string_view kOp = "encode_gif";
  check(!frames.empty(), kOp, "no frames");
  const int width = frames[0].width, height = frames[0].height;
  check(width > 0 && height > 0 && width < 65536 && height < 65536, kOp,
        "frames of {} x {}: 1 to 65535 are possible", width, height);
  for (const Image& f : frames)
    check(f.width == width && f.height == height &&
              f.rgb.size() == static_cast<size_t>(width) * static_cast<size_t>(height) * 3,
          kOp, "frames of {} x {} and {} x {}: all must have one size", width, height, f.width,
          f.height);

  std::string out = "GIF89a";
  append_u16(out, width);
  append_u16(out, height);
  out.append("\x70\0\0", 3);  // no common palette
  out.append("\x21\xff\x0bNETSCAPE2.0\x03\x01", 16);
  append_u16(out, std::clamp(options.repeats, 0, 65535));
  out += '\0';
  for (const Image& f : frames)
    append_frame(out, f, &f == &frames.back() ? options.last_delay_ms : options.delay_ms);
  out += ';';
  return out;
}

void write_gif(const std::string& path, std::span<const Image> frames, const GifOptions& options) {
  write_file(path, encode_gif(frames, options));
}

}  // namespace tenun
