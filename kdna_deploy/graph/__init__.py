"""Network → one folded graph, in float64 until it is stored."""
