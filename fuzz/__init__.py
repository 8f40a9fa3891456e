"""Random quantized ONNX graphs, tried on the whole toolkit: ``python -m fuzz``.

A package of its own above all others, as `reports` is: it calls compiler, simulators and oracle
the way their users do (`fuzz.product`), and nothing imports it.
"""
