// The subcommands of `tenun`: plain option structs, which main.cc fills from the command line, and
// one function each. They return the exit code (0, or 1 for a failure) and throw UsageError or
// ConfigError for exit code 2. Results go to stdout, progress and logs to stderr.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace tenun::tools {

struct Common {
  std::string device{};  ///< "": what the command takes by itself
  int threads = 0;
  int64_t seed = -1;  ///< -1: not given
  int verbosity = 0;
  std::set<std::string> given{};  ///< the flags that were written, by their long names
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
  std::string what, dtype = "f32", json, svg, preset = "B/16";
  double seconds = 1;
  std::vector<int64_t> batch{};  ///< empty: 1 for attention, 4 for networks
  std::vector<std::string> methods{}, directions{};
  std::vector<double> sparsity{};
  std::vector<int64_t> seq{}, dim{}, topk{};
  int64_t heads = 12, block_q = 128, block_k = 64;
  std::string pv = "int8";              ///< low-bit type of p v where the dtype is int8
  std::string tensors, capture, save;   ///< attention: q, k, v of a file or of a checkpoint
  int64_t layer = -1;                   ///< of those; -1: the middle one
  int64_t image = 0, sample_steps = 0;  ///< networks: pixels (0: the preset's), timed sampling
};
int bench_command(const Common& common, const BenchOptions& o);

struct TrainCommandOptions {
  std::vector<std::string> configs, overrides;  ///< overrides as they were written: --a.b=c
  std::string resume, init_from, command;
  bool dry_run = false, print_config = false;
};
int train_command(const Common& common, const TrainCommandOptions& o);

struct SampleCommandOptions {
  std::string ckpt, config, output, sampler;
  std::vector<int64_t> classes;
  int64_t num = 16, steps = 0;  ///< 0: the configured ones
  double cfg = -1;              ///< < 0: the configured one
  bool ema = true, grid = false, grid_only = false, trajectory = false, check_classes = false;
};
int sample_command(const Common& common, const SampleCommandOptions& o);

struct InitOptions {
  std::string folder;
};
int init_command(const InitOptions& o);

struct InspectOptions {
  std::string path;
  std::vector<std::string> overrides;
  bool tensors = false;
};
int inspect_command(const InspectOptions& o);

struct TraceOptions {
  std::string config;
  std::vector<std::string> overrides;
  int64_t batch = 2;
};
int trace_command(const Common& common, const TraceOptions& o);

struct DataCommandOptions {
  std::string what, output, input;
  std::vector<std::string> classes;
  int64_t num = 100, size = 256;
  bool sheet = false;
};
int data_command(const Common& common, const DataCommandOptions& o);

struct VizOptions {
  std::string what, ckpt, config, input, output, method, save;
  std::vector<int64_t> classes{};
  std::vector<int64_t> query{};                          ///< empty: the middle block, four tokens
  int64_t steps = 10, layer = -1;                        ///< -1: all blocks
  int64_t block_q = 0, block_k = 0, grid = 0, tile = 0;  ///< 0: as the file or network says
  double sparsity = -1;                                  ///< < 0: likewise
};
int viz_command(const Common& common, const VizOptions& o);

int devices_command();

}  // namespace tenun::tools
