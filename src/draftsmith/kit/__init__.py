"""Files, processes, locks, clock, hardware, a cluster's API: the only place that touches the world outside directly.

addresses.py     names of this machine's loopback address
bandwidth.py     how fast this machine reads its memory: the ceiling of decoding on a CPU
certificates.py  the certificates that a client trusts, loaded once
clock.py         time as a value that can be handed in, so that nothing under test waits on the wall
files.py         files that survive a crash and stay private
gpu.py           clocks, power, temperature and memory of NVIDIA GPUs: through NVML, or from a DCGM exporter
hardware.py      what machine this is, in words, for the context of numbers
keeper.py        parent of one started program: ends it, and all it started, when Draftsmith dies or says so
kube.py          the API of a Kubernetes cluster over HTTP
kube_watch.py    follow objects of a cluster until something is true of them
load.py          what else a machine does
lock.py          a file lock between processes and threads
logs.py          log lines as JSON, each with the run that it belongs to
precision.py     whether a CPU is quick at 16-bit floats. Standard library alone: trainers in interpreters of their own import it
processes.py     children that never outlive their purpose, and a registry that finds them after a crash
"""
