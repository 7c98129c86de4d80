#include "tenun/tools/flags.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "tenun/core/check.h"

namespace tenun::tools {

namespace fs = std::filesystem;

void check_flags(const Common& common, const std::string& command, const std::string& kind,
                 const std::vector<FlagReaders>& readers) {
  for (const FlagReaders& r : readers) {
    if (std::find(r.kinds.begin(), r.kinds.end(), kind) != r.kinds.end()) continue;
    std::string others;
    for (const std::string& k : r.kinds)
      others += fmt::format("{}`{} {}`", others.empty() ? "" : ", ", command, k);
    refuse_flag(common, r.flag,
                fmt::format("is for {}; `{} {}` has no use for it", others, command, kind));
  }
}

void refuse_flag(const Common& common, const std::string& flag, const std::string& why) {
  check<UsageError>(!common.given.contains(flag), "--" + flag, "{}", why);
}

void check_target(const std::string& path, const char* flag) {
  if (path.empty()) return;
  std::error_code none;
  const fs::path folder = fs::path(path).parent_path();
  check<UsageError>(folder.empty() || fs::is_directory(folder, none), flag, "there is no folder {}",
                    folder.string());
  check<UsageError>(!fs::is_directory(path, none), flag, "{} is a folder", path);
}

void check_folder(const std::string& path, const char* flag) {
  check<UsageError>(!path.empty(), flag, "needs a folder");
  std::error_code none;
  fs::path there = fs::absolute(path).lexically_normal();
  while (!fs::exists(there, none) && there.has_relative_path()) there = there.parent_path();
  check<UsageError>(fs::is_directory(there, none), flag, "{} is a file, and no folder{}",
                    there.string(),
                    there == fs::absolute(path) ? "" : fmt::format(" for {}", path));
  check<UsageError>(access(there.c_str(), W_OK) == 0, flag, "nothing may be written in {}",
                    there.string());
}

void check_memory(double bytes, const std::string& what) {
  const double all =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  constexpr double kGiB = 1024.0 * 1024 * 1024;
  check<UsageError>(bytes <= all, what, "needs about {:.3g} GiB, and this machine has {:.3g} GiB",
                    bytes / kGiB, all / kGiB);
}

namespace {
template <class F>
auto flag(const char* name, F&& f) {
  try {
    return f();
  } catch (const ValueError& e) {
    const std::string_view text = e.what();  // "dtype: unknown ..."
    fail<UsageError>(name, "{}", text.substr(text.find(": ") + 2));
  }
}
}  // namespace

DType dtype_flag(const std::string& text) {
  return flag("--dtype", [&] { return dtype_from_name(text); });
}
Device device_flag(const Common& common) {
  if (common.device.empty()) return cpu();
  if (common.device == "auto")
    return has_device(DeviceType::cuda) ? Device{DeviceType::cuda} : cpu();
  const Device d = flag("--device", [&] { return device_from_name(common.device); });
  try {
    (void)device_ops(d.type);
  } catch (const DeviceError& e) {
    fail<UsageError>("--device", "{}: {}", d.str(), e.what());
  }
  check<UsageError>(
      d.index == 0, "--device",
      "{}: one device of a kind is used, number 0; CUDA_VISIBLE_DEVICES chooses which", d.str());
  return d;
}

void only_cpu(const Common& common, const std::string& what) {
  check<UsageError>(device_flag(common) == cpu(), "--device",
                    "'{}' is not available: {} on the CPU in this build", common.device, what);
}

}  // namespace tenun::tools
