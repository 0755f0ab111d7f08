#include "cublasLt.h"
