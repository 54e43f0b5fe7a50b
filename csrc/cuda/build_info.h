// The compilers of the CUDA kernels and the GPUs that they were compiled for: a line of `jk.backends()`. setup.py
// defines both macros.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "compiler.h"

namespace jessl {

// Key and value, in the order a bug report prints them. An architecture with "+PTX" is there as PTX too.
inline std::vector<std::pair<std::string, std::string>> cuda_build_info() {
  return {{"toolkit", JESSL_CUDA_TOOLKIT}, {"architectures", JESSL_CUDA_ARCHITECTURES}, {"compiler", compiler()}};
}

}  // namespace jessl
