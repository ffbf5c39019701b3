"""Local stand-ins for the five platforms: they sign their webhooks with code of their own, batch, duplicate, delay and
reorder them, retry what was not accepted, take sends, echo them, send receipts, limit rates and close windows.

Nothing here imports the ingest service: a stand-in that signed with the channel's own code would prove nothing.
"""
