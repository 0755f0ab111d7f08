// Heads of 128, one token, more than 4 query heads to a key head: M2.5's when it decodes.
#include "fattn-mma-f16.cuh"
DECL_FATTN_MMA_F16_CASE(128, 128, 1, 8);
