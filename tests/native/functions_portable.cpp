#include "cpu/simd/vector_portable.h"
#include "fill_functions.h"

namespace jessl::test {

template <>
Functions<float> functions_portable<float>() {
  return filled<F32>();
}
template <>
Functions<double> functions_portable<double>() {
  return filled<F64>();
}

}  // namespace jessl::test
