// TensorRT-LLM's own gate in C++ on a CUDA that pretends: getSMVersion() and isSM100Family() stand in functions.h, and the
// two members of its attention operator in members.h, as they were found. Prints "<sm>\t<1 if trtllm-gen>" for each argument.
#include <cstdio>
#include <cstdlib>

static int device_sm;
enum { cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor };
static int cudaGetDevice(int* device) { return *device = 0; }
static int cudaDeviceGetAttribute(int* value, int name, int) {
  *value = name == cudaDevAttrComputeCapabilityMajor ? device_sm / 10 : device_sm % 10;
  return 0;
}
#define check_cuda_error(call) (call)
#define TLLM_CUDA_CHECK(call) (call)
namespace tensorrt_llm::common {
#include "functions.h"
}
struct Operator {
#include "members.h"
};

int main(int count, char** sms) {
  for (int i = 1; i < count; ++i) {
    device_sm = atoi(sms[i]);
    printf("%d\t%d\n", device_sm, int(Operator{}.mUseTllmGen));
  }
}
