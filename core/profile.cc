#include "tenun/core/profile.h"

#include <chrono>
#include <string_view>

namespace tenun {
namespace detail {
constinit thread_local Profile* current_profile = nullptr;
}

Profile::Profile(Device device) : device_(device), outer_(detail::current_profile) {
  detail::current_profile = this;
}
Profile::~Profile() { detail::current_profile = outer_; }

double Profile::total_ms() const {
  double sum = 0;
  for (const Entry& e : entries_) sum += e.ms;
  return sum;
}

int64_t Profile::now_ns() const {
  if (device_ != cpu()) device_ops(device_.type).synchronize();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Profile::add(const char* name, double ms, double total_ms) {
  for (Entry& e : entries_)
    if (e.name == name) {
      e.ms += ms, e.total_ms += total_ms;
      ++e.calls;
      return;
    }
  entries_.push_back({name, ms, total_ms, 1});
}

void Section::begin(const char* name) {
  name_ = name;
  outer_ = profile_->open_;
  profile_->open_ = this;
  start_ns_ = profile_->now_ns();
}

void Section::end() {
  const int64_t ns = profile_->now_ns() - start_ns_;
  profile_->open_ = outer_;
  if (outer_ != nullptr) outer_->inner_ns_ += ns;
  bool again = false;  // inside a section of the same name: its total has this time already
  for (const Section* s = outer_; s != nullptr && !again; s = s->outer_)
    again = std::string_view(s->name_) == name_;
  profile_->add(name_, static_cast<double>(ns - inner_ns_) * 1e-6,
                again ? 0 : static_cast<double>(ns) * 1e-6);
}

}  // namespace tenun
