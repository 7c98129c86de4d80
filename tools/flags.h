// Judging the command line before any work: flags of another benchmark or picture, files and
// folders that cannot be written, names, sizes that no memory holds. All throw UsageError (exit
// code 2) with the flag in front.
//
//   check_flags(common, "bench gemm", {"dtype", "json", "seconds"}, kBenchFlags);
//   check_folder(o.output, "-o");
#pragma once
#include <string>
#include <vector>

#include "tenun/core/device.h"
#include "tenun/core/dtype.h"
#include "tenun/tools/commands.h"

namespace tenun::tools {

/// A flag, and the kinds of a subcommand that read it: "seq", {"attention"}.
struct FlagReaders {
  std::string flag;
  std::vector<std::string> kinds;
};
/// Refuses a flag that was given and that `kind` of the subcommand would ignore. Flags that the
/// list does not name are everybody's.
void check_flags(const Common& common, const std::string& command, const std::string& kind,
                 const std::vector<FlagReaders>& readers);
/// Refuses `flag` if it was given: `why` says what makes it useless.
void refuse_flag(const Common& common, const std::string& flag, const std::string& why);

/// A file can be written there; "" is none.
void check_target(const std::string& path, const char* flag);
/// A folder is there or can be made.
void check_folder(const std::string& path, const char* flag);
/// `bytes` fit into this machine's memory; `what` needs them.
void check_memory(double bytes, const std::string& what);

[[nodiscard]] DType dtype_flag(const std::string& text);
/// --device, the CPU without it; `auto` is the GPU where there is one. UsageError for a device that
/// is not there.
[[nodiscard]] Device device_flag(const Common& common);
/// --device of what runs on the CPU only.
void only_cpu(const Common& common, const std::string& what);

}  // namespace tenun::tools
