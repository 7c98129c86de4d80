// Compiled once a library, before its sources: the standard headers and fmt, which nearly every one
// of them reads and which took half of a fresh build's time. Nothing of Tenun belongs here, so that
// an edit does not rebuild everything. Sources still include what they use: -Db_pch=false builds
// without this file, as tools/test --full does.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>
