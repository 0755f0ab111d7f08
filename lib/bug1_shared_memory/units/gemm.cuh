// What CUTLASS decides for a GEMM kernel, in the words of nvcc's front end: an error for each kernel has its numbers. Read by gemm.py.
#pragma once
#include <array>
#include <utility>
#include "cute/tensor.hpp"
#include "cutlass/cutlass.h"
#include "cutlass/detail/sm100_blockscaled_layout.hpp"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/epilogue/fusion/operations.hpp"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/device/gemm_universal_adapter.h"
#include "cutlass/gemm/group_array_problem_shape.hpp"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "cutlass/gemm/kernel/tile_scheduler.hpp"
#include "cutlass/version.h"
#if __has_include("cutlass_extensions/epilogue/fusion/sm90_visitor_scatter.hpp")
#include "cutlass_extensions/epilogue/fusion/sm90_visitor_scatter.hpp"
#endif

namespace unit {
using namespace cutlass;
using namespace cutlass::gemm::collective;
namespace epi = cutlass::epilogue;
using Row = layout::RowMajor;
using Col = layout::ColumnMajor;
template <int M, int N, int K> using Extent = cute::Shape<cute::Int<M>, cute::Int<N>, cute::Int<K>>;
using AnyCluster = cute::Shape<int, int, cute::_1>;
template <class E, class SF> using Pair = cute::tuple<E, SF>;
using Default = void;  // the builder's own fusion

// D = alpha * accumulator, as the dense runners ask for it.
template <class D> using Linear = epi::fusion::LinearCombination<D, float, void, float>;
#if __has_include("cutlass_extensions/epilogue/fusion/sm90_visitor_scatter.hpp")
// Fused finalize: bias a column, router scale a row, scattered into the final output.
template <class D> using Scatter = epi::fusion::ScaledAccPerColBiasPerRowScaleScatter<Row, D, float, D, float>;
template <class D> using ScatterSwap = epi::fusion::ScaledAccPerRowBiasPerColScaleScatter<Col, D, float, D, float>;
#else
template <class D> struct Scatter { static_assert(sizeof(D) == 0, "this CUTLASS has no fused finalize: TensorRT-LLM's extensions are not there"); };
template <class D> struct ScatterSwap : Scatter<D> {};
#endif
// D = alpha * accumulator + a bias for each column.
template <class D> using Bias = epi::fusion::LinCombPerColBias<D, float, D, void, float>;
// Output quantised to NVFP4 with its scales, as CUTLASS's example 79d has it.
template <class C> using Quantize = epi::fusion::LinCombBlockScaleFactor<16, float_e2m1_t, float, float_ue4m3_t, Row, C>;

template <bool Grouped, class L> using Ptr = cute::conditional_t<Grouped, L*, L>;

template <class Arch, class Op, class T, class Cluster, class Sub, class C, class LC, int AC, class D, class LD, int AD, class Sched,
          class Fusion>
struct Epilogue {
  using type = typename epi::collective::CollectiveBuilder<Arch, Op, T, Cluster, Sub, float, float, C, LC, AC, D, LD, AD, Sched,
                                                           Fusion>::CollectiveOp;
};
template <class Arch, class Op, class T, class Cluster, class Sub, class C, class LC, int AC, class D, class LD, int AD, class Sched>
struct Epilogue<Arch, Op, T, Cluster, Sub, C, LC, AC, D, LD, AD, Sched, Default> {
  using type = typename epi::collective::CollectiveBuilder<Arch, Op, T, Cluster, Sub, float, float, C, LC, AC, D, LD, AD,
                                                           Sched>::CollectiveOp;
};

// Stages: a number, or 0 for what the capacity leaves once the epilogue is carved out.
template <class Arch, bool Grouped, class A, int AlignA, class B, int AlignB, class T, class Cluster, class EpiOp, class Sub, class C,
          class LC, int AlignC, class D, class LD, int AlignD, class EpiSched, class Fusion, class Sched, int Stages, class Scheduler>
struct Gemm {
  using ArchTag = Arch;
  using Epi = typename Epilogue<Arch, EpiOp, T, Cluster, Sub, C, Ptr<Grouped, LC>, AlignC, D, Ptr<Grouped, LD>, AlignD, EpiSched,
                                Fusion>::type;
  using Count = cute::conditional_t<Stages == 0, StageCountAutoCarveout<int(sizeof(typename Epi::SharedStorage))>, StageCount<Stages>>;
  using Op = cute::conditional_t<(Arch::kMinComputeCapability < 100), arch::OpClassTensorOp, arch::OpClassBlockScaledTensorOp>;
  using Main = typename CollectiveBuilder<Arch, Op, A, Ptr<Grouped, Row>, AlignA, B, Ptr<Grouped, Col>,
                                          AlignB, float, T, Cluster, Count, Sched>::CollectiveOp;
  using Problem = cute::conditional_t<Grouped, cutlass::gemm::GroupProblemShape<cute::Shape<int64_t, int64_t, int64_t>>,
                                      cute::Shape<int, int, int, int>>;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Problem, Main, Epi, Scheduler>;
  // What the tensor maps of an operand depend on: extents and types, not the stages.
  template <int Side, class E>
  using Maps = cute::tuple<Arch, E, cute::tuple_element_t<Side, T>, cute::tuple_element_t<2, T>, Cluster, Sched, cute::bool_constant<Grouped>>;
  using MapsA = Maps<0, A>;
  using MapsB = Maps<1, B>;
};

// The capacity that the builders divide into stages, bytes a block.
template <class Arch> constexpr int capacity() {
#if CUTLASS_VERSION >= 390  // the first that knows SM12x
  if constexpr (Arch::kMinComputeCapability >= 120) return arch::sm120_smem_capacity_bytes;
#endif
  return Arch::kMinComputeCapability >= 100 ? arch::sm100_smem_capacity_bytes : cutlass::gemm::collective::detail::sm90_smem_capacity_bytes;
}

// Where a member lies and how many bytes it has; an absent one has none.
struct Part { int at, bytes; };
#define OPTIONAL_PART(MEMBER)                                                                                    \
  template <class S> constexpr Part part_##MEMBER(int base = 0) {                                                \
    if constexpr (requires(S s) { s.MEMBER; }) return {base + int(__builtin_offsetof(S, MEMBER)), int(sizeof(S::MEMBER))}; \
    else return {0, 0};                                                                                          \
  }
OPTIONAL_PART(scheduler) OPTIONAL_PART(scheduler_response) OPTIONAL_PART(clc_response) OPTIONAL_PART(tmem_base_ptr)
OPTIONAL_PART(tensormaps) OPTIONAL_PART(pipelines) OPTIONAL_PART(epilogue)
OPTIONAL_PART(smem_A) OPTIONAL_PART(smem_B) OPTIONAL_PART(smem_SFA) OPTIONAL_PART(smem_SFB)

// One kernel, in the order of FIELDS and PARTS in gemm.py: stages, threads, bytes, then the members.
struct Answer { int stages, threads, mainloop, epilogue, kernel, budget; Part part[11]; };
template <class G> constexpr Answer ask() {
  using K = typename G::Kernel; using S = typename K::SharedStorage; using T = decltype(S::tensors); using M = decltype(T::mainloop);
  static_assert(sizeof(typename K::Params) > 0);  // its tensor maps have types only where they can be made
  constexpr int tensors = __builtin_offsetof(S, tensors), main = tensors + int(__builtin_offsetof(T, mainloop));
  return {int(G::Main::DispatchPolicy::Stages), int(K::MaxThreadsPerBlock), int(sizeof(typename G::Main::SharedStorage)),
          int(sizeof(typename G::Epi::SharedStorage)), int(sizeof(S)), capacity<typename G::ArchTag>(),
          {part_pipelines<S>(), part_scheduler<S>(), part_scheduler_response<S>(), part_clc_response<S>(), part_tmem_base_ptr<S>(),
           part_tensormaps<S>(), part_epilogue<T>(tensors), part_smem_A<M>(main), part_smem_B<M>(main), part_smem_SFA<M>(main),
           part_smem_SFB<M>(main)}};
}

// A template whose instantiation failed is reported once, where it was needed first. Who needs it later has an erroneous type for
// a tensor map, is no `Whole<true...>`, and so has an error on its own line too.
template <bool...> struct Whole;
template <> struct Whole<true, true, true, true, true, true> {};
#define TENSOR_MAP(TYPE)                                                                        \
  template <class P, class = void> struct Has##TYPE { static constexpr bool value = true; };    \
  template <class P> struct Has##TYPE<P, std::void_t<typename P::TYPE>> { static constexpr bool value = std::is_class_v<typename P::TYPE>; };
TENSOR_MAP(TMA_A) TENSOR_MAP(TMA_B) TENSOR_MAP(TMA_SFA) TENSOR_MAP(TMA_SFB) TENSOR_MAP(TMA_C) TENSOR_MAP(TMA_D)
template <class G, class M = typename G::Main::Params, class E = typename G::Epi::Params>
using whole = Whole<HasTMA_A<M>::value, HasTMA_B<M>::value, HasTMA_SFA<M>::value, HasTMA_SFB<M>::value, HasTMA_C<E>::value, HasTMA_D<E>::value>;

// A type's name as a number, the FNV-1a hash: kernels with the same one share what a unit instantiates, and reports, once.
template <class T> constexpr int id() {
  unsigned hash = 2166136261u;
  for (char letter : __PRETTY_FUNCTION__) hash = (hash ^ letter) * 16777619u;
  return int(hash);
}
// Never defined, so that nvcc names it in an error: the kernel's line, the types that it may share, and `Answer`.
template <int Line, int Epilogue, int Main, int MapsA, int MapsB, int Kernel, int... Numbers> struct Found;
template <int Line, class G, int... I> constexpr auto found(std::integer_sequence<int, I...>) {
  constexpr auto numbers = __builtin_bit_cast(std::array<int, sizeof...(I)>, ask<G>());
  return (Found<Line, id<typename G::Epi>(), id<typename G::Main>(), id<typename G::MapsA>(), id<typename G::MapsB>(), id<typename G::Kernel>(), numbers[I]...>*)nullptr;
}
template <int Line, class G>
using Told = std::remove_pointer_t<decltype(found<Line, G>(std::make_integer_sequence<int, sizeof(Answer) / sizeof(int)>()))>;
}  // namespace unit
#define PROBE(LINE, ...) unit::whole<unit::Gemm<__VA_ARGS__>> whole_##LINE; unit::Told<LINE, unit::Gemm<__VA_ARGS__>> told_##LINE;
