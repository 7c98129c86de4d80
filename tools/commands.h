// The subcommands of `tenun`: plain option structs, which main.cc fills from the command line, and
// one function each. They return the exit code (0, or 1 for a failure) and throw UsageError or
// ConfigError for exit code 2. Results go to stdout, progress and logs to stderr.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tenun::tools {

struct Common {
  std::string device = "cpu";
  int threads = 0;
  int64_t seed = -1;  ///< -1: not given
  int verbosity = 0;
};

struct CheckOptions {
  std::vector<std::string> paths;
  std::string dtype = "f64";
  bool all = false;  ///< print passing files, too
};
int check_command(const Common& common, const CheckOptions& o);

struct GradcheckCommandOptions {
  std::vector<std::string> ops;
  bool verbose = false;
};
int gradcheck_command(const Common& common, const GradcheckCommandOptions& o);

struct OpOptions {
  std::string name, input, attrs = "{}", output, dtype = "f64";
  bool grad = false;
};
int op_command(const Common& common, const OpOptions& o);

struct OpsOptions {
  std::vector<std::string> names;
  bool markdown = false;
};
int ops_command(const OpsOptions& o);

struct BenchOptions {
  std::string what, dtype = "f32", json;
  double seconds = 1;
};
int bench_command(const Common& common, const BenchOptions& o);

int devices_command();

}  // namespace tenun::tools
