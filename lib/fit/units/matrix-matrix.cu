// One kernel a format of the template, whose own units hold 32 of them.
#include "mmq.cuh"
void * kernels[] = {(void *) mul_mat_q<GGML_TYPE_Q3_K, 128, false>, (void *) mul_mat_q<GGML_TYPE_Q8_0, 128, false>,
                    (void *) mul_mat_q<GGML_TYPE_MXFP4, 128, false>};
