"""How the structure generator is trained and sampled: one objective per file, interpolant, solver, registry.

Training asks an objective for ``draw`` and ``losses``, the sampler for ``evaluations`` and ``scores``; neither knows more.
"""
