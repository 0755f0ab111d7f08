// Empty: it would include cuBLAS, and runner.cpp defines what the runner uses of it.
