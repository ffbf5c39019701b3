"""Sends what the router decided, once: journal, gate, one call, and what became of it. Order per leg, legs in parallel."""
