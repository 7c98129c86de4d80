// tenun data: the built-in batik pictures as files, and ADM crops of photographs.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tenun/core/check.h"
#include "tenun/core/io/image_file.h"
#include "tenun/core/log.h"
#include "tenun/core/parallel.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/table.h"
#include "tenun/train/batik/batik.h"
#include "tenun/train/data/dataset.h"
#include "tenun/train/data/transforms.h"

namespace tenun::tools {
namespace {

namespace fs = std::filesystem;

std::vector<int> chosen(const std::vector<std::string>& names) {
  std::vector<int> all;
  for (const std::string& n : names) {
    const auto& known = batik_class_names();
    check<UsageError>(std::find(known.begin(), known.end(), n) != known.end(), "--classes",
                      "no batik class is named '{}'{}; `tenun data batik -o FOLDER --num 1` "
                      "draws one of each",
                      n, did_you_mean(n, known));
    all.push_back(batik_class(n));
  }
  if (names.empty())
    for (size_t i = 0; i < batik_class_names().size(); ++i) all.push_back(static_cast<int>(i));
  return all;
}

int batik(const Common& common, const DataCommandOptions& o) {
  const std::vector<int> classes = chosen(o.classes);
  const auto seed = static_cast<uint64_t>(common.seed < 0 ? 0 : common.seed);
  if (o.sheet) {
    fs::create_directories(o.output);
    write_png(o.output + "/contact_sheet.png",
              batik_contact_sheet(classes, static_cast<int>(std::min<int64_t>(o.num, 8)),
                                  static_cast<int>(o.size), seed, classes.size() > 10 ? 2 : 1));
    fmt::print("{}/contact_sheet.png\n", o.output);
    return 0;
  }
  for (const int c : classes)
    fs::create_directories(
        fmt::format("{}/{}", o.output, batik_class_names()[static_cast<size_t>(c)]));
  const auto count = static_cast<int64_t>(classes.size()) * o.num;
  parallel_for(0, count, 1, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int c = classes[static_cast<size_t>(i / o.num)];
      write_png(fmt::format("{}/{}/{:05}.png", o.output,
                            batik_class_names()[static_cast<size_t>(c)], i % o.num),
                draw_batik(c, static_cast<int>(o.size), seed, static_cast<uint64_t>(i % o.num)),
                {{"parameters",
                  fmt::format("batik {}, seed {}, index {}",
                              batik_class_names()[static_cast<size_t>(c)], seed, i % o.num)}},
                1);
    }
  });
  fmt::print("{} images of {} classes in {}\n", count, classes.size(), o.output);
  return 0;
}

int crop(const DataCommandOptions& o) {
  check<UsageError>(!o.input.empty() && fs::is_directory(o.input), "data crop",
                    "--in needs a folder of class folders");
  int64_t done = 0, broken = 0;
  for (const auto& e : fs::recursive_directory_iterator(o.input)) {
    if (!e.is_regular_file()) continue;
    try {
      const Image im =
          adm_center_crop(read_image(e.path().string(), {.min_size = 2 * static_cast<int>(o.size)}),
                          static_cast<int>(o.size));
      fs::path to = fs::path(o.output) / fs::relative(e.path(), o.input);
      to.replace_extension(".png");
      fs::create_directories(to.parent_path());
      write_png(to.string(), im);
      ++done;
    } catch (const IoError& error) {
      logging::warn("{}; skipped", error.what());
      ++broken;
    }
  }
  fmt::print("{} images cropped to {} px in {}, {} skipped\n", done, o.size, o.output, broken);
  return done > 0 ? 0 : 1;
}

int stats(const DataCommandOptions& o) {
  check<UsageError>(!o.input.empty(), "data stats", "--in needs a folder of class folders");
  ImageFolderOptions f;
  f.root = o.input;
  f.resolution = o.size;
  const auto data = make_image_folder(f);
  std::vector<int64_t> count(data->class_names().size());
  double sum[3] = {}, square[3] = {}, pixels = 0;
  for (int64_t i = 0; i < data->size(); ++i) {
    const Dataset::Item item = data->load(i, {});
    ++count[static_cast<size_t>(item.label)];
    for (size_t k = 0; k < item.image.rgb.size(); ++k) {
      const double v = item.image.rgb[k] / 255.0;
      sum[k % 3] += v, square[k % 3] += v * v;
    }
    pixels += static_cast<double>(item.image.rgb.size()) / 3;
  }
  for (size_t c = 0; c < count.size(); ++c)
    fmt::print("{:<24} {}\n", data->class_names()[c], count[c]);
  fmt::print("{} images; mean", data->size());
  for (const double s : sum) fmt::print(" {:.4f}", s / pixels);
  fmt::print(", deviation");
  for (size_t k = 0; k < 3; ++k)
    fmt::print(" {:.4f}",
               std::sqrt(std::max(0.0, square[k] / pixels - sum[k] * sum[k] / pixels / pixels)));
  fmt::print("\n");
  return 0;
}

}  // namespace

int data_command(const Common& common, const DataCommandOptions& o) {
  static const std::vector<std::string> known = {"batik", "crop", "stats"};
  check<UsageError>(std::find(known.begin(), known.end(), o.what) != known.end(), "data",
                    "takes batik, crop or stats, got '{}'{}", o.what, did_you_mean(o.what, known));
  check_flags(common, "data", o.what,
              {{"num", {"batik"}},
               {"classes", {"batik"}},
               {"sheet", {"batik"}},
               {"seed", {"batik"}},
               {"in", {"crop", "stats"}},
               {"output", {"batik", "crop"}}});
  if (o.what != "stats" && !o.output.empty()) check_folder(o.output, "-o");
  check<UsageError>(o.what == "stats" || !o.output.empty(), "data " + o.what, "-o DIR is missing");
  if (o.what == "batik") return batik(common, o);
  if (o.what == "crop") return crop(o);
  return stats(o);
}

}  // namespace tenun::tools
