# What bitsandbytes takes: seconds of quantizing and of dequantizing (on a processor it has no form that takes a buffer), for NF4, NF4 with double quantization, FP4.
import sys
import time

import torch
from bitsandbytes import functional

path, n, threads, runs = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(threads)
w = torch.frombuffer(bytearray(open(path, "rb").read()), dtype=torch.float32).reshape(n, n)


def median(work):
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[runs // 2]


for kind, double in (("nf4", False), ("nf4", True), ("fp4", False)):
    quantize = lambda: functional.quantize_4bit(w, blocksize=64, quant_type=kind, compress_statistics=double)
    codes, state = quantize()
    print(median(quantize), median(lambda: functional.dequantize_4bit(codes, state)))
