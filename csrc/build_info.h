// What this extension was built with, and what the processor it runs on can do: the native half of `jk.backends()`.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace jessl {

// Key and value, in the order a bug report prints them.
using BuildInfo = std::vector<std::pair<std::string, std::string>>;

BuildInfo build_info();

}  // namespace jessl
