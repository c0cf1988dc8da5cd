"""List the benchmarks."""

import importlib
import pkgutil

import benchmarks

STUDIES = [
    module.name
    for module in pkgutil.iter_modules(benchmarks.__path__)
    if hasattr(importlib.import_module(f"benchmarks.{module.name}"), "main")
]

for study in STUDIES:
    summary = importlib.import_module(f"benchmarks.{study}").__doc__ or ""
    print(f"python -m benchmarks.{study}\n    {summary.splitlines()[0]}")
