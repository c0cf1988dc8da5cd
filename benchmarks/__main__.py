"""List the benchmarks."""

import ast
from pathlib import Path

# Read, not imported: a study may configure JAX for itself.
for path in sorted(Path(__file__).parent.glob("*.py")):
    module = ast.parse(path.read_text(encoding="utf-8"))
    if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in module.body):
        summary = (ast.get_docstring(module) or "").splitlines()[0]
        print(f"python -m benchmarks.{path.stem}\n    {summary}")
