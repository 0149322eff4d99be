"""``python -m nvgbench``, for launchers such as torchrun."""

from nvgbench.cli.app import main

main()
