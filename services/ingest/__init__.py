"""Everything that comes in, by any door, and everything that goes out. Channels are values; this service does the I/O."""
