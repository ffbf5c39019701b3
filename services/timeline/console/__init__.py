"""The console: server-rendered pages over the timeline's reader. What it shows comes from here; what it does goes to the owner
of the state, with the signed-in agent's own key. No inline script or style anywhere: the content security policy forbids it.
"""
