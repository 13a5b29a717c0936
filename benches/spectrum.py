# What torch takes and finds: seconds of each run by a clock and of the processor, its singular values, those of an f64 decomposition where asked for.
import sys
import time

import torch

path, what, n, k, threads, runs = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
torch.set_num_threads(threads)
torch.manual_seed(0)
data = torch.frombuffer(bytearray(open(path, "rb").read()), dtype=torch.float32)

exact = []
if what == "adapter":
    b, a = data[: n * k].reshape(n, k), data[n * k :].reshape(k, n)

    def work():
        # Through the small core, as a person who cares for time writes it.
        return torch.linalg.svdvals(torch.linalg.qr(b)[1] @ torch.linalg.qr(a.T)[1].T * 2.0)

    wide = torch.linalg.qr(b.double())[1] @ torch.linalg.qr(a.double().T)[1].T * 2.0
    exact = torch.linalg.svdvals(wide).tolist()
    runs = 21
else:
    w = data.reshape(n, n)
    if what == "lowrank":
        work = lambda: torch.svd_lowrank(w, q=k, niter=2)[1]
    else:
        work = lambda: torch.linalg.svdvals(w)
    if what == "whole":
        exact = torch.linalg.svdvals(w.double()).tolist()
    if what == "whole-once":
        runs = 1
seconds, used = [], []
for _ in range(runs):
    start, before = time.perf_counter(), time.process_time()
    found = work()
    seconds.append(time.perf_counter() - start)
    used.append(time.process_time() - before)
for line in (seconds, used, found.tolist(), exact):
    print(*line)
