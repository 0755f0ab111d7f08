// Prints the candidate list of a TensorRT-LLM heuristic for four architectures: the real function, called. Read by launcher.py.
// The heuristic and what it links against are included, since they share most of their headers.
#include <cstdio>
#include "tensorrt_llm/kernels/cutlass_kernels/cutlass_heuristic.cpp"
#include "cpp/common/logger.cpp"
#include "cpp/common/stringUtils.cpp"
#include "cpp/common/tllmException.cpp"
using Config = tensorrt_llm::cutlass_extensions::CutlassGemmConfig;
int main() {
  struct { char const* name; int bits; } const kinds[] = {
      {"grouped nvfp4", Config::BLACKWELL | Config::GROUPED_GEMM | Config::FP4_ONLY},
      {"dense nvfp4", Config::BLACKWELL | Config::FP4_ONLY},
      {"grouped mxfp8 x mxfp4", Config::BLACKWELL | Config::GROUPED_GEMM | Config::FP4_ONLY | Config::FP8FP4_MIXED}};
  for (int sm : {100, 103, 120, 121})
    for (auto const& kind : kinds)
      try {
        for (auto const& each : tensorrt_llm::kernels::cutlass_kernels::get_candidate_configs(sm, 1, Config::CandidateConfigTypeParam(kind.bits)))
          std::printf("%d\t%s\t%d\t%d\t%d\t%d\n", sm, kind.name, each.getTileConfigAsInt(), int(each.cluster_shape),
                      int(each.epilogue_schedule), int(each.dynamic_cluster_shape));
      } catch (std::exception const&) {
        std::printf("%d\t%s\tnone\n", sm, kind.name);
      }
}
