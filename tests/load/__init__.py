"""The load tool: N messages of all channels through the public doors, and an account of what became of each."""
