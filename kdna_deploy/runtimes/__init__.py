"""Runtimes behind one small protocol, so that verification and benchmarks never name one."""
