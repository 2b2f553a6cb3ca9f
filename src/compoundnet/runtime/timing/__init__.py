"""Timing of networks on this machine."""
