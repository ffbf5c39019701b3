"""Hilo: one conversation out of many channels. One package per service, one for what they share."""
