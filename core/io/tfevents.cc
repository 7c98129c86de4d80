#include "tenun/core/io/tfevents.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <filesystem>

#include "tenun/core/check.h"
#include "tenun/core/io/image_file.h"

namespace tenun {
namespace {

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = (c >> 1) ^ ((c & 1) != 0 ? 0x82f63b78u : 0u);
    table[i] = c;
  }
  return table;
}

/// The mask keeps a CRC of data that hold CRCs from being degenerate.
uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

/// A protocol buffer message, field by field.
class Message {
 public:
  Message& varint(int field, uint64_t value) {
    key(field, 0);
    raw_varint(value);
    return *this;
  }
  Message& fixed(int field, double value) {
    return key(field, 1).little(std::bit_cast<uint64_t>(value), 8);
  }
  Message& fixed(int field, float value) {
    return key(field, 5).little(std::bit_cast<uint32_t>(value), 4);
  }
  Message& bytes(int field, std::string_view value) {
    key(field, 2);
    raw_varint(value.size());
    text_ += value;
    return *this;
  }
  Message& little(uint64_t value, int n) {
    for (int i = 0; i < n; ++i) text_ += static_cast<char>(value >> (8 * i));
    return *this;
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  Message& key(int field, int wire_type) {
    raw_varint(static_cast<uint64_t>(field << 3 | wire_type));
    return *this;
  }
  void raw_varint(uint64_t value) {
    for (; value > 127; value >>= 7) text_ += static_cast<char>(value | 128);
    text_ += static_cast<char>(value);
  }
  std::string text_;
};

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Event {wall_time = 1, step = 2, summary = 5 {value = 1}}
std::string summary_event(int64_t step, const Message& value) {
  const Message summary = Message().bytes(1, value.text());
  return Message()
      .fixed(1, now())
      .varint(2, static_cast<uint64_t>(step))
      .bytes(5, summary.text())
      .text();
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t c = ~0u;
  for (char b : bytes) c = kTable[(c ^ static_cast<unsigned char>(b)) & 255] ^ (c >> 8);
  return ~c;
}

EventWriter::EventWriter(const std::string& folder) {
  static std::atomic<int> count{0};
  std::error_code ec;
  std::filesystem::create_directories(folder, ec);
  check<IoError>(!ec, folder, "cannot create the folder: {}", ec.message());
  char host[256] = "localhost";
  if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  path_ = fmt::format("{}/events.out.tfevents.{:010}.{}.{}.{}", folder, static_cast<int64_t>(now()),
                      host, getpid(), count.fetch_add(1));
  file_ = open_append(path_);
  record(Message().fixed(1, now()).bytes(3, "brain.Event:2").text());
}
void EventWriter::scalar(std::string_view tag, int64_t step, double value) {
  record(summary_event(step, Message().bytes(1, tag).fixed(2, static_cast<float>(value))));
}
void EventWriter::image(std::string_view tag, int64_t step, const Image& image) {
  constexpr uint64_t kRgb = 3;
  const Message im = Message()
                         .varint(1, static_cast<uint64_t>(image.height))
                         .varint(2, static_cast<uint64_t>(image.width))
                         .varint(3, kRgb)
                         .bytes(4, encode_png(image));
  record(summary_event(step, Message().bytes(1, tag).bytes(4, im.text())));
}

void EventWriter::record(const std::string& event) {
  const std::string length = Message().little(event.size(), 8).text();
  const std::string head = Message().little(masked_crc(length), 4).text();
  const std::string tail = Message().little(masked_crc(event), 4).text();
  write_all(file_, length + head + event + tail,
            path_);  // in one call: a reader sees whole records
}

}  // namespace tenun
