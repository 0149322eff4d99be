"""What this code reaches on one GPU, in minutes: ``python -m benchmarks.gpu --out FOLDER``.

A step is a module with ``measure(bench)`` (see `benchmarks.gpu.bench.Bench`), or a command whose outcome is a check. Each runs
in a process and with a time limit of its own, and writes every number to ``FOLDER/records.jsonl`` as soon as it has it; the
table of all numbers so far is written after each step. With ``--device cpu`` the same runs on the tiny presets.
"""
