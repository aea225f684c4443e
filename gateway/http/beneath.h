// Opening files of a folder, and never one outside of it.
#pragma once

#include <string>

namespace sluice::http {

// Opens `path`, relative to the folder `root`, for reading. Symbolic links are followed as long as
// they stay beneath the root (the files of a Kubernetes ConfigMap are such links). Never blocks on
// a FIFO. Returns the descriptor, or -1 and errno: EXDEV if the path leads outside.
int open_beneath(const std::string& root, const std::string& path);

// The same without openat2(2), for kernels and sandboxes that lack it. For tests; open_beneath()
// turns to it by itself.
int open_beneath_checked(int root_fd, const std::string& path);

}  // namespace sluice::http
