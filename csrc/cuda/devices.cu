// The GPUs that the runtime finds.
#include "cuda/runtime.cuh"

namespace jessl::cuda {

std::string devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();  // no later launch is to blame for this
  return error == cudaSuccess ? std::to_string(count) : std::string("none: ") + cudaGetErrorString(error);
}

}  // namespace jessl::cuda
