// Profile: where the time of a piece of code goes, by named sections. Every kernel slot
// (core/kernel.h) is a section under its own name; other code marks what deserves one.
//
//   Profile profile;                              // collects on this thread while it lives
//   (void)attention(q, k, v, spec);
//   for (const auto& e : profile.entries()) fmt::print("{} {:.3f} ms\n", e.name, e.ms);
//
//   const Section section("block lists");         // in the code that is measured
//
// Times are self times: a section inside another one is taken off the outer one, so the entries add
// up to the time spent in sections. A Profile of another device than the CPU waits for it where a
// section begins and ends, so that each is charged with its own work. Sections count on the thread
// that made the Profile (kernels fork and join inside a section); elsewhere, and without a Profile,
// one costs one read of a thread-local pointer. The inner Profile of two nested ones gets the
// sections. Not for .cu files' device code.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tenun/core/device.h"

namespace tenun {

class Section;

class Profile {
 public:
  struct Entry {
    std::string name;
    double ms = 0;        ///< self time
    double total_ms = 0;  ///< with the sections inside
    int64_t calls = 0;
  };

  explicit Profile(Device device = cpu());
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;
  /// In the order in which the sections first ended.
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] double total_ms() const;  ///< in sections
  void clear() { entries_.clear(); }

 private:
  friend class Section;
  void add(const char* name, double ms, double total_ms);
  [[nodiscard]] int64_t now_ns() const;  // once the device has come so far
  Device device_;
  std::vector<Entry> entries_;
  Section* open_ = nullptr;  // the innermost section that has not ended
  Profile* outer_ = nullptr;
};

namespace detail {
extern constinit thread_local Profile* current_profile;
}

class Section {
 public:
  explicit Section(const char* name) : profile_(detail::current_profile) {
    if (profile_ != nullptr) [[unlikely]]
      begin(name);
  }
  ~Section() {
    if (profile_ != nullptr) [[unlikely]]
      end();
  }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;

 private:
  void begin(const char* name);
  void end();
  Profile* profile_;
  const char* name_ = nullptr;
  Section* outer_ = nullptr;
  int64_t start_ns_ = 0, inner_ns_ = 0;
};

}  // namespace tenun
