// The product as CUTLASS's own host reference computes it, from the very buffers that units/harness.cuh would hand to the kernel.
#pragma once
#include "harness.cuh"
#include "cutlass/util/reference/host/gett.hpp"

namespace harness {
template <class T> auto iterator(T const* at) {
  if constexpr (is_subbyte_v<T>) return subbyte_iterator<T const>(at);
  else return at;
}

// Arguments: the folder of the operands, m, n, k. D is written in float32.
template <class G> int reference(int, char** argument) {
  std::string const folder = argument[1];
  Size const s{std::stoi(argument[2]), std::stoi(argument[3]), std::stoi(argument[4])};
  std::vector<std::vector<char>> held;
  held.reserve(4);
  auto const a = mainloop<G>(folder, s, [&](std::vector<char> bytes) { return held.emplace_back(std::move(bytes)).data(); });
  auto A = make_tensor(iterator(a.ptr_A), make_layout(make_shape(s.m, s.k, 1), a.dA));
  auto B = make_tensor(iterator(a.ptr_B), make_layout(make_shape(s.n, s.k, 1), a.dB));
  auto SFA = make_tensor(a.ptr_SFA, a.layout_SFA);
  auto SFB = make_tensor(a.ptr_SFB, a.layout_SFB);
  cutlass::reference::host::GettBlockScalingMainloopParams<float, decltype(A), decltype(SFA), decltype(B), decltype(SFB)> product{A, SFA, B, SFB};
  std::vector<char> result(size_t(s.m) * s.n * sizeof(float));
  auto D = make_tensor(reinterpret_cast<float*>(result.data()), make_layout(make_shape(s.m, s.n, 1), make_stride(s.n, _1{}, 0)));
  cutlass::reference::host::GettBlockScalingEpilogueParams<float, float, float, decltype(D), decltype(D)> epilogue{1.0f, 0.0f, D, D};
  cutlass::reference::host::Gemm3x(product, epilogue);
  write(folder + "/D", result);
  std::printf("{\"bytes\": %d}\n", int(sizeof(typename G::Kernel::SharedStorage)));
  return 0;
}
}  // namespace harness
