// All of them, as the unit is.
#include "mmvq.cu"
