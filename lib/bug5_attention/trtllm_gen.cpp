// FlashInfer's vendored trtllm-gen attention runner, whole and unedited, on a CUDA that pretends: it reports the
// compute capability asked for and, instead of loading a kernel, notes which one the runner chose.
// Usage: ask 100 103 120 121. Prints one line a device and case: "<sm>\t<case>\t<kernel, or what was thrown>".
#define TLLM_GEN_FMHA_CUBIN_PATH ""
#define TLLM_GEN_FMHA_METAINFO_HASH ""
#include <device_launch_parameters.h>
template <class T> T __shfl_xor_sync(unsigned, T, int);
#include <cute/tensor.hpp>
#define volatile(...) ("")  // asm volatile(PTX): device code, in a unit that is built for the host alone
#include <flashinfer/trtllm/fmha/fmhaRunner.cuh>
#undef volatile

static int device_sm;
static std::string chosen;
std::string flashinfer::trtllm_cubin_loader::getCubin(std::string const&, std::string const&) { return "cubin"; }
void tensorrt_llm::kernels::runFmhaReduction(TllmGenFmhaKernelMetaInfo const&, KernelParams const&, int, bool,
                                             cudaStream_t) {}

extern "C" {
cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int) {
  *value = name == cudaDevAttrComputeCapabilityMajor ? device_sm / 10
           : name == cudaDevAttrComputeCapabilityMinor ? device_sm % 10 : 148;
  return cudaSuccess;
}
CUresult cuModuleLoadData(CUmodule* module, void const*) { *module = nullptr; return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction* function, CUmodule, char const* name) {
  *function = nullptr;
  chosen = name;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuLaunchKernelEx(CUlaunchConfig const*, CUfunction, void**, void**) { return CUDA_SUCCESS; }
CUresult cuOccupancyMaxActiveClusters(int* n, CUfunction, CUlaunchConfig const*) { *n = 1024; return CUDA_SUCCESS; }
CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, cuuint64_t const*,
                                cuuint64_t const*, cuuint32_t const*, cuuint32_t const*, CUtensorMapInterleave,
                                CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_SUCCESS;
}
uint3 const threadIdx{}, blockIdx{};
dim3 const blockDim;
char const* cudaGetErrorString(cudaError_t) { return ""; }
cudaError_t cudaLaunchKernelExC(cudaLaunchConfig_t const*, void const*, void**) { return cudaSuccess; }
CUresult cuGetErrorName(CUresult, char const** text) { *text = ""; return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult, char const** text) { *text = ""; return CUDA_SUCCESS; }
}

static std::string ask(Data_type q, Data_type kv, Data_type out, bool context, int head, int page) {
  try {
    chosen = "none";
    TllmGenFmhaRunner runner(q, kv, out);
    TllmGenFmhaRunnerParams p{};
    p.mQkvLayout = QkvLayout::PagedKv;
    p.mMaskType = TrtllmGenAttentionMaskType::Causal;
    p.mKernelType = context ? FmhaKernelType::Context : FmhaKernelType::Generation;
    p.mTileScheduler = context ? TileScheduler::Persistent : TileScheduler::Static;
    p.mMultiCtasKvMode = !context;
    p.mHeadDimQk = p.mHeadDimV = head;
    p.mNumHeadsQ = 48, p.mNumHeadsKv = 8, p.mNumHeadsQPerKv = 6, p.mBatchSize = 4;
    p.mMaxSeqLenQ = context ? 1024 : 1, p.mMaxSeqLenKv = 4096, p.mSumOfSeqLensQ = 4 * p.mMaxSeqLenQ;
    p.mAttentionWindowSize = p.mChunkedAttentionSize = INT_MAX;
    p.mMaxNumPagesPerSeqKv = 4096 / page, p.mNumTokensPerPage = page, p.mNumPagesInMemPool = 4 * 4096 / page;
    p.mMultiProcessorCount = 148, p.mScaleQ = 1;
    p.kStrideKeysValues = p.vStrideKeysValues = head, p.kStrideHeads = p.vStrideHeads = head * page;
    p.kStrideBatch = p.vStrideBatch = head * page * 8;
    auto [exists, wanted] = runner.isSupportedWithInfo(p);
    if (!exists) return "no kernel: " + wanted;
    runner.run(p);
    return chosen;
  } catch (std::exception const& e) {
    return e.what();
  }
}

int main(int count, char** sms) {
  struct { char const* name; Data_type q, kv, out; } types[] = {
      {"bf16", DATA_TYPE_BF16, DATA_TYPE_BF16, DATA_TYPE_BF16}, {"fp16", DATA_TYPE_FP16, DATA_TYPE_FP16, DATA_TYPE_FP16},
      {"e4m3", DATA_TYPE_E4M3, DATA_TYPE_E4M3, DATA_TYPE_E4M3}, {"e4m3>bf16", DATA_TYPE_E4M3, DATA_TYPE_E4M3, DATA_TYPE_BF16}};
  for (int i = 1; i < count; ++i)
    for (auto& t : types)
      for (bool context : {true, false})
        for (int head : {64, 128, 256})
          for (int page : {16, 32, 64}) {
            device_sm = atoi(sms[i]);
            auto answer = ask(t.q, t.kv, t.out, context, head, page);
            for (auto& c : answer) c = c == '\n' ? ' ' : c;
            printf("%d\t%s %s head %d page %d\t%s\n", device_sm, context ? "context" : "generation", t.name, head, page,
                   answer.c_str());
          }
}
