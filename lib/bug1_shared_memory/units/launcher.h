// Goes before FlashInfer's grouped launcher (launcher.py). Each instance is made to fail on purpose, with what is asked for in the message:
// bodies of kernels are then never generated.
template <int Instance, int Bytes, int Stages> void told() { static_assert(Bytes < 0, "told"); }
#define TOLD told<__LINE__, int(sizeof(typename GemmKernel::SharedStorage)), int(CollectiveMainloop::DispatchPolicy::Stages)>();
