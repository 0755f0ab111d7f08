// What the host-side reference check in FMHA v2's headers names of cuBLASLt besides the statuses; no kernel calls it.
#pragma once
#include_next <cublasLt.h>
enum cublasComputeType_t { CUBLAS_COMPUTE_16F, CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32I };
enum { CUBLAS_OP_N, CUBLAS_OP_T, CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB,
       CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET };
using cublasLtMatmulDesc_t = void*;
using cublasLtMatrixLayout_t = void*;
#define DECLARE(name) template <class... T> cublasStatus_t name(T...);
DECLARE(cublasLtCreate) DECLARE(cublasLtDestroy) DECLARE(cublasLtMatmul) DECLARE(cublasLtMatmulDescCreate)
DECLARE(cublasLtMatmulDescDestroy) DECLARE(cublasLtMatmulDescSetAttribute) DECLARE(cublasLtMatrixLayoutCreate)
DECLARE(cublasLtMatrixLayoutDestroy) DECLARE(cublasLtMatrixLayoutSetAttribute)
#undef DECLARE
