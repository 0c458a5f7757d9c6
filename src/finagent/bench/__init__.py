"""Ours beside the physical limit and beside every peer that is installed, measured in one process, interleaved."""
