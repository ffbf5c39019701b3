"""Fetches what messages refer to while the provider still has it, keeps it in the media store, and announces our copies."""
