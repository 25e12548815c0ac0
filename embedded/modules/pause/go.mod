module gpuserve.local/embedded/pause

go 1.24
