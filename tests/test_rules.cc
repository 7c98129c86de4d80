// The rules of the source tree, checked by reading it: who may include whom, the size of files,
// what headers must not do, and that the build knows every source. Each test prints all offenders.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

struct Source {
  std::string path;  // "core/io/png.cc"
  std::vector<std::string> lines;
  [[nodiscard]] std::string folder() const {  // "core"; "" for files of the root
    const size_t slash = path.find('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  [[nodiscard]] std::string extension() const { return fs::path(path).extension(); }
  [[nodiscard]] bool header() const { return extension() == ".h"; }
};

std::vector<std::string> read_lines(const fs::path& p) {
  std::ifstream in(p);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

const fs::path& root() {
  static const fs::path path = TENUN_SOURCE_DIR;
  return path;
}

const std::vector<Source>& sources() {
  static const auto all = [] {
    std::vector<Source> list;
    for (auto it = fs::recursive_directory_iterator(root()); it != fs::end(it); ++it) {
      const std::string name = it->path().filename();
      if (it->is_directory()) {
        // What stands in packaging/ is a list for the compiler, no source of the library.
        const bool ours = !name.starts_with(".") && !name.starts_with("build") &&
                          name != "packaging" && name != "shared" && name != "runs" &&
                          name != "golden";
        if (it.depth() == 0 && !ours) it.disable_recursion_pending();
        continue;
      }
      const std::string e = it->path().extension();
      if (e == ".h" || e == ".cc" || e == ".cu" || e == ".cuh" || e == ".cpp" || e == ".hpp")
        list.push_back({fs::relative(it->path(), root()), read_lines(it->path())});
    }
    std::sort(list.begin(), list.end(),
              [](const Source& a, const Source& b) { return a.path < b.path; });
    return list;
  }();
  return all;
}

struct Include {
  std::string target;  // "tenun/core/tensor.h" or "vector"
  bool quoted;
};
std::vector<Include> includes(const Source& s) {
  static const std::regex line(R"re(\s*#\s*include\s*(["<])([^">]+)[">].*)re");
  std::vector<Include> list;
  std::smatch m;
  for (const std::string& l : s.lines)
    if (std::regex_match(l, m, line)) list.push_back({m[2], m[1] == "\""});
  return list;
}

// The folders from the bottom to the top.
const std::vector<std::string> kLayers{"core", "autograd", "ops", "nn", "models", "train", "tools"};
bool is_layer(const std::string& folder) {
  return std::find(kLayers.begin(), kLayers.end(), folder) != kLayers.end();
}
bool is_library(const std::string& folder) {
  return folder == "cuda" || (is_layer(folder) && folder != "tools");
}
bool above_all(const std::string& folder) {  // may include everything but private parts
  return folder.empty() || folder == "tests" || folder == "examples" || folder == "tools";
}

bool may_include(const Source& s, const std::string& target) {
  const std::string to =
      target.substr(0, target.find('/') == std::string::npos ? 0 : target.find('/'));
  const std::string from = s.folder();
  if (target == "cuda/cuda.h")
    return from == "tools" || from == "tests" || from == "cuda" || s.path == "init.cc";
  // The kernels, and the emulation under which they are compiled as C++, are one.
  const bool emulation = s.path.starts_with("tests/cuda_emulation/");
  if (target.starts_with("tests/cuda_emulation/")) return from == "cuda" || from == "tests";
  if (to == "cuda") return from == "cuda" || from == "tests";
  if (emulation) return to == "core";
  if (target.starts_with("ops/cases/"))
    return s.path.starts_with("ops/cases/") || from == "tools" || from == "tests";
  if (above_all(from)) return true;
  if (from == "cuda") return to == "core" || to == "ops";
  const auto a = std::find(kLayers.begin(), kLayers.end(), from),
             b = std::find(kLayers.begin(), kLayers.end(), to);
  return a != kLayers.end() && b != kLayers.end() && b <= a;
}

// A message of the offenders, one a line; empty if there are none.
template <class F>
std::string offenders(const F& visit) {
  std::string text;
  for (const Source& s : sources())
    visit(s, [&](size_t line, const std::string& what) {
      text += "\n  " + s.path + (line == 0 ? "" : ":" + std::to_string(line)) + ": " + what;
    });
  return text;
}
// Lines with a describe() among the arguments of check(...).
std::vector<size_t> described_early(const std::vector<std::string>& lines) {
  static const std::regex opens(R"(\bcheck(<\w+>)?\()");
  std::vector<size_t> found;
  int depth = 0;  // of parentheses, inside a check
  for (size_t i = 0; i < lines.size(); ++i) {
    std::smatch m;
    size_t from = 0;
    if (depth == 0) {
      if (!std::regex_search(lines[i], m, opens)) continue;
      from = static_cast<size_t>(m.position());
    }
    bool text = false;
    for (size_t at = from; at < lines[i].size(); ++at) {
      const char c = lines[i][at];
      if (c == '"' && (at == 0 || lines[i][at - 1] != '\\')) text = !text;
      if (text || (c != '(' && c != ')')) continue;
      if (lines[i].compare(at, 2, "()") == 0 && at >= 8 &&
          lines[i].compare(at - 8, 8, "describe") == 0 && depth > 0)
        found.push_back(i + 1);
      depth += c == '(' ? 1 : -1;
      if (depth == 0) break;
    }
  }
  return found;
}
std::string lines_matching(const std::regex& pattern, const std::string& what, auto&& relevant) {
  return offenders([&](const Source& s, const auto& report) {
    if (!relevant(s)) return;
    for (size_t i = 0; i < s.lines.size(); ++i)
      if (std::regex_search(s.lines[i], pattern)) report(i + 1, what);
  });
}

void expect_none(const std::string& offending) {
  INFO(offending);
  CHECK(offending.empty());
}

}  // namespace

TEST_SUITE("rules") {
  TEST_CASE("the walk finds the tree") {
    std::set<std::string> folders;
    for (const Source& s : sources()) folders.insert(s.folder());
    for (const char* f :
         {"core", "autograd", "ops", "cuda", "nn", "models", "train", "tools", "tests"})
      CHECK(folders.contains(f));
    CHECK(sources().size() > 200);
    for (const Source& s : sources()) {
      INFO(s.path, ": sources stand in the folders of the design, as .h, .cc or .cu");
      CHECK((s.folder().empty() || is_layer(s.folder()) || s.folder() == "cuda" ||
             s.folder() == "tests" || s.folder() == "examples"));
      CHECK((s.header() || s.extension() == ".cc" || s.extension() == ".cu"));
    }
  }

  TEST_CASE("a file includes only its own folder and the folders below") {
    expect_none(offenders([](const Source& s, const auto& report) {
      for (const Include& i : includes(s)) {
        if (i.target.starts_with("tenun/")) {
          const std::string target = i.target.substr(6);
          if (!may_include(s, target)) report(0, "must not include " + target);
          if (!fs::exists(root() / target)) report(0, "there is no " + target);
          if (!i.quoted && s.folder() != "examples")
            report(0, "write \"" + i.target + "\" in quotes");
        } else if (i.quoted && !i.target.ends_with(".inc")) {
          report(0, "write \"tenun/FOLDER/" + i.target + "\"");
        }
      }
    }));
  }

  TEST_CASE("the include rule itself can fail") {
    const auto from = [](const std::string& path) { return Source{path, {}}; };
    CHECK_FALSE(may_include(from("core/a.cc"), "autograd/var.h"));
    CHECK_FALSE(may_include(from("ops/a.cc"), "nn/layers.h"));
    CHECK_FALSE(may_include(from("cuda/a.cc"), "autograd/var.h"));
    CHECK_FALSE(may_include(from("train/a.cc"), "cuda/cuda.h"));
    CHECK_FALSE(may_include(from("nn/a.cc"), "ops/cases/registry.h"));
    CHECK_FALSE(may_include(from("core/a.cc"), "init.h"));
    CHECK(may_include(from("train/a.cc"), "core/io/png.h"));
    CHECK(may_include(from("init.cc"), "cuda/cuda.h"));
    CHECK(may_include(from("cuda/a.cu"), "ops/map.h"));
    CHECK(may_include(from("cuda/a.h"), "tests/cuda_emulation/emulation.h"));
    CHECK_FALSE(may_include(from("ops/a.cc"), "tests/cuda_emulation/emulation.h"));
    CHECK_FALSE(may_include(from("tests/cuda_emulation/a.cc"), "ops/map.h"));
  }

  TEST_CASE("no file is longer than 400 lines") {
    expect_none(offenders([](const Source& s, const auto& report) {
      if (s.lines.size() > 400)
        report(0, std::to_string(s.lines.size()) + " lines; split it by subject");
    }));
  }

  TEST_CASE("checks describe tensors only when they fail") {
    // check(...) takes the tensor itself and describes it then; a description as an argument is
    // made at every call.
    expect_none(offenders([](const Source& s, const auto& report) {
      if (!is_library(s.folder())) return;
      for (const size_t line : described_early(s.lines)) report(line, "pass the tensor, not text");
    }));
    CHECK(described_early({"check(ok, op, \"got (\",", "      x.describe());"}) ==
          std::vector<size_t>{2});
    CHECK(described_early({"check<E>(f(a), op, \"{}\", x);", "y = x.describe();"}).empty());
  }

  TEST_CASE("headers say what they are, are included once, and keep their namespaces") {
    expect_none(offenders([](const Source& s, const auto& report) {
      if (!s.header()) return;
      if (s.lines.empty() || !s.lines[0].starts_with("//"))
        report(1, "opens with what it owns, as a comment");
      if (std::find(s.lines.begin(), s.lines.end(), "#pragma once") == s.lines.end())
        report(0, "#pragma once is missing");
    }));
    expect_none(lines_matching(std::regex(R"(^\s*using namespace\b)"),
                               "using namespace in a header",
                               [](const Source& s) { return s.header(); }));
  }

  TEST_CASE("heavy libraries stay out of headers, fmt out of device code") {
    const std::regex heavy("^(nlohmann|yaml-cpp|CLI)/|^fmt/(format|ranges|chrono)");
    expect_none(offenders([&](const Source& s, const auto& report) {
      if (!s.header()) return;
      for (const Include& i : includes(s))
        if (std::regex_search(i.target, heavy)) report(0, "includes " + i.target);
    }));
    std::map<std::string, const Source*> by_path;
    for (const Source& s : sources()) by_path[s.path] = &s;
    expect_none(offenders([&](const Source& s, const auto& report) {
      if (s.extension() != ".cu") return;
      std::vector<const Source*> open{&s};
      std::set<std::string> seen;
      while (!open.empty()) {
        const Source* at = open.back();
        open.pop_back();
        for (const Include& i : includes(*at)) {
          if (i.target.starts_with("fmt/")) report(0, "gets " + i.target + " through " + at->path);
          const auto found =
              by_path.find(i.target.starts_with("tenun/") ? i.target.substr(6) : std::string());
          if (found != by_path.end() && seen.insert(found->first).second)
            open.push_back(found->second);
        }
      }
    }));
  }

  TEST_CASE("nothing unfinished is marked in the sources") {
    const std::regex mark(
        "\\b(TO"
        "DO|FIX"
        "ME|X"
        "XX)\\b");
    expect_none(
        lines_matching(mark, "do it, or open an issue", [](const Source&) { return true; }));
  }

  TEST_CASE("the library never ends the program") {
    expect_none(lines_matching(std::regex(R"(\b(std::)?(abort|exit|_Exit|quick_exit|terminate)\()"),
                               "throw an Error instead",
                               [](const Source& s) { return is_library(s.folder()); }));
  }

  TEST_CASE("the build knows every source") {
    std::map<std::string, std::string> builds;  // folder -> its meson.build
    const auto build_of = [&](const fs::path& folder) -> const std::string& {
      auto [it, fresh] = builds.try_emplace(folder.string());
      if (fresh)
        for (const std::string& l : read_lines(root() / folder / "meson.build"))
          it->second += l.substr(0, l.find('#')) + '\n';
      return it->second;
    };
    expect_none(offenders([&](const Source& s, const auto& report) {
      if (s.header() || s.path == "examples/consumer/main.cc") return;
      const fs::path p = s.path;
      std::string stem = p.stem();
      std::vector<std::string> names{stem + s.extension() + "'", "'" + stem + "'"};
      for (const char* prefix : {"test_", "fuzz_"})
        if (stem.starts_with(prefix)) names.push_back("'" + stem.substr(5) + "'");
      // Its own folder's list, or the one of a folder above.
      for (fs::path folder = p.parent_path();; folder = folder.parent_path()) {
        for (const std::string& n : names)
          if (build_of(folder).find(n) != std::string::npos) return;
        if (folder.empty()) break;
      }
      report(0, "is in no meson.build");
    }));
  }
}
