// The only file that knows Python: it unpacks arguments, calls the core, and packs what comes back.
#include <pybind11/pybind11.h>

#include "build_info.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, module) {
  module.doc() = "Compiled core of jessl_kernels.";
  module.def(
      "build_info",
      [] {
        py::dict info;
        for (const auto& [key, value] : jessl::build_info()) info[py::str(key)] = py::str(value);
        info["python"] = PY_VERSION;
        info["pybind11"] = PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_MINOR);
        return info;
      },
      "What the extension was built with and what this processor can run, as a dict of strings.");
}
