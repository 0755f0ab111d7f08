// A program around one GEMM kernel, on CUTLASS's public interface: asks for it, runs it, times it, and says each step as a line of JSON.
// Its operands come as files, its result goes into one; units/gemm.cuh describes the kernel. Built by binaries.py, read by harness.py.
#pragma once
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>
#include "gemm.cuh"
#include "cutlass/util/packed_stride.hpp"

namespace harness {
using namespace cute;

// A dense kernel for Hopper with FP8 operands; stages as in unit::Gemm.
template <int M, int N, int K, class D, int Stages> struct Hopper {
  using Tile = unit::Extent<M, N, K>; using One = Shape<_1, _1, _1>; using E = cutlass::float_e4m3_t;
  using Epi = typename cutlass::epilogue::collective::CollectiveBuilder<cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, One,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, void, unit::Row, 128 / cutlass::sizeof_bits_v<D>, D, unit::Row,
      128 / cutlass::sizeof_bits_v<D>, cutlass::epilogue::collective::EpilogueScheduleAuto>::CollectiveOp;
  using Count = conditional_t<Stages == 0, cutlass::gemm::collective::StageCountAutoCarveout<int(sizeof(typename Epi::SharedStorage))>,
                              cutlass::gemm::collective::StageCount<Stages>>;
  using Main = typename cutlass::gemm::collective::CollectiveBuilder<cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, E, unit::Row, 16, E,
      unit::Col, 16, float, Tile, One, Count, cutlass::gemm::collective::KernelScheduleAuto>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Main, Epi>;
};

template <class Main> concept Scaled = requires(typename Main::Arguments a) { a.ptr_SFA; };
template <class Kernel> concept Grouped = std::is_pointer_v<typename Kernel::StrideA>;

// The kernel under a name of its own, parameters and all. In this unit nvcc 13.2 spells the type of the kernel's parameter, in the code that
// registers it, with cute::C<16> for cute::C<16u> in the scale factors' layouts, and the host's compiler refuses it; smaller units compile.
template <class G> struct Named : G::Kernel {
  using Base = typename G::Kernel;
  struct Params : Base::Params {};
  static Params to_underlying_arguments(typename Base::Arguments const& a, void* workspace) { return {Base::to_underlying_arguments(a, workspace)}; }
};

struct Size { int m, n, k; };

inline std::vector<char> read(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write(std::string const& path, std::vector<char> const& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), bytes.size());
}

// Scale factors from rows of k/16 into CUTLASS's own layout of them; `layout` maps (row, k, 0) to a place.
template <class Layout> std::vector<char> arranged(std::vector<char> const& plain, Layout layout, int rows, int k) {
  std::vector<char> placed(cosize(layout), 0);
  for (int row = 0; row < rows; ++row)
    for (int block = 0; block < k / 16; ++block) placed[layout(row, block * 16, 0)] = plain[size_t(row) * (k / 16) + block];
  return placed;
}

// The mainloop's arguments over host or device memory: `put` takes bytes, and gives the address that the kernel is to see.
template <class G, class Put> typename G::Main::Arguments mainloop(std::string const& folder, Size s, Put put) {
  typename G::Main::Arguments a{};
  a.ptr_A = reinterpret_cast<decltype(a.ptr_A)>(put(read(folder + "/A")));
  a.ptr_B = reinterpret_cast<decltype(a.ptr_B)>(put(read(folder + "/B")));
  a.dA = cutlass::make_cute_packed_stride(typename G::Kernel::StrideA{}, {s.m, s.k, 1});
  a.dB = cutlass::make_cute_packed_stride(typename G::Kernel::StrideB{}, {s.n, s.k, 1});
  if constexpr (Scaled<typename G::Main>) {
    using Config = typename G::Main::Sm1xxBlkScaledConfig;
    a.layout_SFA = Config::tile_atom_to_shape_SFA(make_shape(s.m, s.n, s.k, 1));
    a.layout_SFB = Config::tile_atom_to_shape_SFB(make_shape(s.m, s.n, s.k, 1));
    a.ptr_SFA = reinterpret_cast<decltype(a.ptr_SFA)>(put(arranged(read(folder + "/SFA"), a.layout_SFA, s.m, s.k)));
    a.ptr_SFB = reinterpret_cast<decltype(a.ptr_SFB)>(put(arranged(read(folder + "/SFB"), a.layout_SFB, s.n, s.k)));
  }
  return a;
}

inline void say(char const* step, char const* key, std::string const& value) {
  std::printf("{\"%s\": {\"%s\": \"%s\"}}\n", step, key, value.c_str());
  std::fflush(stdout);
}

inline std::string name(cudaError_t status) { return cudaGetErrorName(status); }

// CUDA's own answer to a call, and a clean slate behind it.
inline std::string cleared(cudaError_t status) { cudaGetLastError(); return name(status); }

inline void* device(size_t bytes) {
  void* found = nullptr;
  if (auto status = cudaMalloc(&found, std::max<size_t>(bytes, 1)); status != cudaSuccess) {
    say("memory", "error", name(status));
    std::exit(3);
  }
  return found;
}

// Milliseconds of an action, each repeat by itself, after as many bytes were overwritten as two L2 caches hold.
template <class Action> std::vector<float> timed(int repeats, void* scratch, size_t bytes, Action action) {
  cudaEvent_t start, end;
  cudaEventCreate(&start), cudaEventCreate(&end);
  std::vector<float> took;
  for (int turn = -5; turn < repeats; ++turn) {
    cudaMemsetAsync(scratch, turn, bytes);
    cudaEventRecord(start);
    action();
    cudaEventRecord(end);
    cudaEventSynchronize(end);
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, start, end);
    if (turn >= 0) took.push_back(milliseconds);
  }
  return took;
}

inline void say(char const* step, std::vector<float> const& took) {
  std::printf("{\"%s\": [", step);
  for (size_t at = 0; at < took.size(); ++at) std::printf("%s%.6f", at ? ", " : "", took[at]);
  std::printf("]}\n");
  std::fflush(stdout);
}

// Arguments: the folder of the operands, m, n, k, and how often to time it (0: not).
template <class G> int run(int, char** argument) {
  using Kernel = Named<G>;
  using Adapter = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
  std::string const folder = argument[1];
  Size const s{std::stoi(argument[2]), std::stoi(argument[3]), std::stoi(argument[4])};
  int const repeats = std::stoi(argument[5]), bytes = Kernel::SharedStorageSize;
  auto const entry = reinterpret_cast<void const*>(&cutlass::device_kernel<Kernel>);

  std::printf("{\"bytes\": %d, \"stages\": %d}\n", bytes, int(G::Main::DispatchPolicy::Stages));
  int devices = 0, limit = 0, l2 = 0;
  auto const found = cudaGetDeviceCount(&devices);
  say("device", "error", cleared(found));
  if (found != cudaSuccess || devices == 0) return 0;
  cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
  cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, 0);
  std::printf("{\"limit\": %d}\n", limit);
  cudaFuncAttributes attributes;
  say("image", "error", cleared(cudaFuncGetAttributes(&attributes, entry)));
  say("asked", "error", cleared(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)));

  typename Kernel::Arguments a{};
  a.hw_info.sm_count = cutlass::KernelHardwareInfo::query_device_multiprocessor_count(0);
  size_t const d_bytes = size_t(s.m) * s.n * sizeof(typename Kernel::ElementD);
  void* d = device(d_bytes);
  if constexpr (!Grouped<Kernel>) {
    a.mode = cutlass::gemm::GemmUniversalMode::kGemm;
    a.problem_shape = {s.m, s.n, s.k, 1};
    a.mainloop = mainloop<G>(folder, s, [](std::vector<char> const& host) {
      void* there = device(host.size());
      cudaMemcpy(there, host.data(), host.size(), cudaMemcpyHostToDevice);
      return there;
    });
    a.epilogue.thread.alpha = 1.0f;
    a.epilogue.ptr_D = reinterpret_cast<decltype(a.epilogue.ptr_D)>(d);
    a.epilogue.dD = cutlass::make_cute_packed_stride(typename Kernel::StrideD{}, {s.m, s.n, 1});
    say("problem", "status", cutlassGetStatusString(Adapter::can_implement(a)));
  } else {  // one group; it is initialised and never run, so it needs no operands
    using Problem = typename Kernel::ProblemShape::UnderlyingProblemShape;
    static Problem problem{s.m, s.n, s.k};
    void* there = device(sizeof problem);
    cudaMemcpy(there, &problem, sizeof problem, cudaMemcpyHostToDevice);
    a.mode = cutlass::gemm::GemmUniversalMode::kGrouped;
    a.problem_shape = {1, static_cast<Problem*>(there), &problem};
    if constexpr (requires { a.epilogue.thread.index_modulo; }) a.epilogue.thread.index_modulo = s.m;  // rows to scatter into
  }
  Adapter gemm;
  void* workspace = device(Adapter::get_workspace_size(a));
  auto status = gemm.initialize(a, workspace);
  say("initialize", "status", cutlassGetStatusString(status));
  say("left", "error", name(cudaPeekAtLastError()));  // what a caller of CUTLASS can still find out
  if (Grouped<Kernel> || status != cutlass::Status::kSuccess) return 0;

  cudaMemset(d, 0xFF, d_bytes);  // a NaN in each output type
  status = gemm.run();
  auto const ran = cudaDeviceSynchronize();
  say("run", "status", cutlassGetStatusString(status));
  say("ran", "error", name(ran));
  if (status != cutlass::Status::kSuccess || ran != cudaSuccess) return 0;
  std::vector<char> result(d_bytes);
  cudaMemcpy(result.data(), d, d_bytes, cudaMemcpyDeviceToHost);
  write(folder + "/D", result);

  if (repeats) {
    size_t const flushed = 2 * size_t(l2), copied = std::max<size_t>(flushed, 256 << 20);
    void* from = device(copied), *to = device(copied);
    say("milliseconds", timed(repeats, from, flushed, [&] { gemm.run(); }));
    std::printf("{\"copied\": %zu}\n", copied);
    say("copy", timed(repeats, from, flushed, [&] { cudaMemcpyAsync(to, from, copied, cudaMemcpyDeviceToDevice); }));
    say("timed", "error", name(cudaGetLastError()));
  }
  return 0;
}
}  // namespace harness
