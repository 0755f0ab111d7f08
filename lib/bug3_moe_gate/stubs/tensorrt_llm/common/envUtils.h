// Empty: it would include cuBLAS, and selection.cpp defines what the runner uses of it.
