// FlashInfer's trtllm-gen batched-GEMM runner, compiled for the host alone: which kernel does it pick for the first GEMM of an NVFP4
// mixture-of-experts layer, and what comes of launching it? RUNNER is the runner's own file. What is stood in for is the device (its
// compute capability is an argument) and the driver, which takes or refuses a cubin by the rules of the CUDA Programming Guide, "Compute
// Capabilities": a target with f runs within its family (sm_100f: 10.0 and 10.3), one with a on that compute capability alone.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

static int capability;
namespace tensorrt_llm::common {
inline int getSMVersion() { return capability; }
inline int getMultiProcessorCount() { return 48; }  // GB10; only the grid depends on it
}  // namespace tensorrt_llm::common
#include RUNNER

static bool loaded;
namespace flashinfer::trtllm_cubin_loader {
std::string getCubin(std::string const& name, std::string const&) { return name; }
}  // namespace flashinfer::trtllm_cubin_loader

extern "C" {
CUresult cuModuleLoadData(CUmodule* module, void const* image) {
  auto has = [image](char const* target) { return std::strstr(static_cast<char const*>(image), target) != nullptr; };
  *module = nullptr;
  loaded = (has("sm100f") && (capability == 100 || capability == 103)) || (has("sm100a") && capability == 100) ||
           (has("sm103a") && capability == 103);
  return loaded ? CUDA_SUCCESS : CUDA_ERROR_NO_BINARY_FOR_GPU;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule, char const*) {
  *function = nullptr;
  return loaded ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuLaunchKernelEx(CUlaunchConfig const*, CUfunction, void**, void**) { return loaded ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; }
CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, cuuint64_t const*, cuuint64_t const*,
                                cuuint32_t const*, cuuint32_t const*, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                                CUtensorMapFloatOOBfill) {
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult, char const** text) { return *text = "", CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext* context) { return *context = nullptr, CUDA_SUCCESS; }
CUresult cuCtxGetId(CUcontext, unsigned long long* id) { return *id = capability, CUDA_SUCCESS; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = 48, cudaSuccess; }
cudaError_t cudaMallocHost(void**, size_t) { return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void*, void const*, size_t, cudaMemcpyKind, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t) { return cudaSuccess; }
}

int main(int count, char** given) {  // tokens, experts of each token, experts, hidden size, intermediate size, then compute capabilities
  int const tokens = std::atoi(given[1]), top = std::atoi(given[2]), experts = std::atoi(given[3]);
  int const hidden = std::atoi(given[4]), intermediate = std::atoi(given[5]), blocks = std::min(tokens * top, experts);
  alignas(128) static char memory[4096];
  auto* whole = reinterpret_cast<int32_t*>(memory);
  auto* real = reinterpret_cast<float*>(memory);
  for (int i = 6; i < count; ++i) {
    capability = std::atoi(given[i]);
    for (int tile : {8, 16, 32, 64, 128}) {
      size_t candidates = 0;
      long index = -1;
      std::string target, name, said;
      try {
        tensorrt_llm::kernels::TrtllmGenBatchedGemmRunnerOptions options{};
        options.dtypeA = options.dtypeB = options.dtypeC = batchedGemm::trtllm::gen::Dtype::E2m1;
        options.fusedAct = options.routeAct = options.transposeMmaOutput = options.useShuffledMatrix = true;
        options.tileSize = tile;
        tensorrt_llm::kernels::TrtllmGenBatchedGemmRunner runner(options);
        candidates = runner.getPassingConfigIndices().size();
        index = runner.getDefaultValidConfigIndex(tokens, 2 * intermediate, hidden, {}, tokens, experts, blocks);
        auto const& config = batchedGemm::batchedGemm::BatchedGemmInterface().getBatchedGemmConfigs()[index];
        target = batchedGemm::trtllm::gen::cudaArchToString(config.mSm);
        name = config.mFunctionName;
        runner.run(tokens, 2 * intermediate, hidden, {}, tokens, experts, blocks, memory, memory, memory, memory, nullptr, nullptr,
                   real, real, nullptr, nullptr, nullptr, nullptr, memory, memory, whole, whole, whole, whole, whole,
                   memory, nullptr, 0, index, false);
      } catch (std::exception const& error) {
        said = error.what();
      }
      std::printf("%d\t%d\t%zu\t%ld\t%s\t%s\t%s\n", capability, tile, candidates, index, target.c_str(), name.c_str(), said.c_str());
    }
  }
}
