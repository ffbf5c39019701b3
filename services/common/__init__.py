"""What all services share: the wire contract and the plumbing. One module per concept; imports no service."""
