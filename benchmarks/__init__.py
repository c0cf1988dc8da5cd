"""Long studies: each prints a table and writes it beside itself; `python -m benchmarks` lists them."""
