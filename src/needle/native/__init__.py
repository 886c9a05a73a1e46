"""Loop nests become machine code: LLVM IR text with explicit vectors, compiled through llvmlite.

`native` knows loops and arrays, not tensors. From the ground up:

- `cache`: compiled objects on disk
- `llvm`: IR text -> addresses; the only module that imports llvmlite
- `values`, `instructions`, `memory`, `vectors`: a small builder of IR text
- `math`: `exp`, `log`, `tanh` and friends over vectors
- `transposing`: copies of what lies transposed
- `matmul`: register-tiled matrix products (`matmul_product` is what is asked for and its
  pieces, `matmul_blocking` chooses these, `matmul_packing` packs, `matmul_kernels` computes tiles,
  `matmul_loops` goes over them as `matmul_table` says, `matmul_finish` adds up and turns over)
- `layout`, `pool`, `sharing`, `thread_choice`, `threads`: programs of phases, shared out among
  worker threads
"""
