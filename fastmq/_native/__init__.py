"""Native modules: Cython over csrc (`core` links it, nothing else does) and the protocol codec."""
