package proxy

// Procs is how many Ps the runtime is to have on a machine of cores: one more. Requests
// are short and enter the kernel all the time; with as many Ps as cores, one that waits
// for its P waits behind a system call, which is what the slowest hundredth is made of.
func Procs(cores int) int { return cores + 1 }
